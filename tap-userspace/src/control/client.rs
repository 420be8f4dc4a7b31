//! The operator's end of the control socket.

use super::{Request, Response};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take: a set of a million addresses compiles and loads in seconds.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or the caller may not connect.
    #[error("{}: {source}; is `gwtap run` running, is this its [control] socket, and are you its user?", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The conversation broke off.
    #[error("{}: {source}; the agent's log says more", socket.display())]
    Conversation {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Sends one request and waits for its response.
///
/// # Errors
/// The socket cannot be reached, or no whole response came.
pub fn ask(socket: &Path, request: &Request) -> Result<Response, ClientError> {
    let stream =
        UnixStream::connect(socket).map_err(|source| ClientError::Connect { socket: socket.to_path_buf(), source })?;
    converse(stream, request).map_err(|source| ClientError::Conversation { socket: socket.to_path_buf(), source })
}

fn converse(mut stream: UnixStream, request: &Request) -> std::io::Result<Response> {
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
