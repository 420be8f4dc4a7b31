//! The agent's end of the control socket.
//!
//! In: connections on a Unix socket that only the agent's user may open. Out: one response for each request, made by the
//! handler it was given. Bounds: connections at once, bytes of a request, time to send it.

use super::{Request, Response};
use crate::limits::{CONTROL_CONNECTIONS_MAX, CONTROL_READ_MAX, CONTROL_REQUEST_BYTES_MAX};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Answers requests. It is called on a thread where waiting is allowed.
pub type Handler = Arc<dyn Fn(Request) -> Response + Send + Sync>;

/// The listening socket; its file is removed when it is dropped.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Listens on `path`, mode 0600. A socket file that nobody answers on is replaced.
    ///
    /// # Errors
    /// Another agent answers there, or the socket cannot be made; the message names the path.
    pub fn bind(path: &Path) -> io::Result<Self> {
        Self::bind_inner(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    fn bind_inner(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another agent answers on this socket; stop it first",
            ));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Bound under a directory-private name first: nobody can connect before the mode is set.
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&beside)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&beside, path)?;
        Ok(Self { listener, path: path.to_path_buf() })
    }

    /// Serves until the future is dropped.
    pub async fn serve(self, handler: Handler) {
        let connections = Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let handler = Arc::clone(&handler);
                    tokio::spawn(async move {
                        if let Err(error) = converse(stream, handler).await {
                            tracing::debug!(%error, "control connection ended");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "control socket file");
        }
    }
}

/// Requests of one connection, one after the other.
async fn converse(stream: UnixStream, handler: Handler) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reading).take(CONTROL_REQUEST_BYTES_MAX);
        let read = tokio::time::timeout(CONTROL_READ_MAX, limited.read_until(b'\n', &mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        let response = if whole { answer(line, Arc::clone(&handler)).await? } else { too_long() };
        let mut text = serde_json::to_vec(&response)?;
        text.push(b'\n');
        writing.write_all(&text).await?;
        if !whole {
            return Ok(());
        }
    }
}

async fn answer(line: Vec<u8>, handler: Handler) -> io::Result<Response> {
    tokio::task::spawn_blocking(move || match serde_json::from_slice::<Request>(&line) {
        Ok(request) => handler(request),
        // The parser's message may quote the request, and a request may hold selectors.
        Err(error) => Response::Failed {
            reason: format!("not a request of this version (line {}, column {})", error.line(), error.column()),
        },
    })
    .await
    .map_err(io::Error::other)
}

fn too_long() -> Response {
    Response::Failed { reason: format!("a request is one line of at most {CONTROL_REQUEST_BYTES_MAX} bytes") }
}

#[cfg(test)]
mod tests {
    use super::super::client;
    use super::*;
    use std::io::{Read as _, Write as _};

    fn serve_in(directory: &Path) -> (tokio::runtime::Runtime, PathBuf) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let path = directory.join("run").join("control.sock");
        let server = {
            let _guard = runtime.enter();
            Server::bind(&path).unwrap()
        };
        runtime.spawn(server.serve(Arc::new(|request| match request {
            Request::Status => Response::Status(Box::default()),
            Request::SelectorsLoad { set, .. } => Response::Refused { reason: format!("{} bytes", set.len()) },
            other @ (Request::SelectorsWithdraw { .. }
            | Request::Directive { .. }
            | Request::OrderExtend { .. }
            | Request::Stop { .. }
            | Request::Resume { .. }) => Response::Failed { reason: format!("{other:?}") },
        })));
        (runtime, path)
    }

    #[test]
    fn requests_are_answered_and_the_socket_is_the_agents_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (_runtime, path) = serve_in(directory.path());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let answer = client::ask(&path, &Request::Status).unwrap();
        assert!(matches!(answer, Response::Status(status) if *status == super::super::status::Status::default()));
        let set = "x".repeat(3_000_000);
        let answer =
            client::ask(&path, &Request::SelectorsLoad { measure: None, set, activation: "a\nb".into() }).unwrap();
        assert!(matches!(answer, Response::Refused { reason } if reason == "3000000 bytes"));
    }

    #[test]
    fn what_is_not_a_request_is_told_so_without_quoting_it() {
        let directory = tempfile::tempdir().unwrap();
        let (_runtime, path) = serve_in(directory.path());
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.write_all(b"{\"verb\":\"selectors-load\",\"sett\":\"203.0.113.9\"}\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.contains("not a request of this version"), "{text}");
        assert!(!text.contains("203.0.113.9"), "{text}");
    }

    #[test]
    fn a_second_agent_is_refused_and_a_dead_ones_socket_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (runtime, path) = serve_in(directory.path());
        {
            let _guard = runtime.enter();
            let refused = Server::bind(&path).err().unwrap().to_string();
            assert!(refused.contains("another agent answers"), "{refused}");
        }
        drop(runtime);
        let dead = std::os::unix::net::UnixListener::bind(directory.path().join("dead.sock")).unwrap();
        drop(dead);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _guard = runtime.enter();
        Server::bind(&directory.path().join("dead.sock")).unwrap();
    }
}
