//! A stand-in for the Commission's endpoint, for demonstrations and tests: it takes notices over HTTPS, keeps them, and
//! signs acknowledgements.
//!
//! In: `POST /notices` of clients with a certificate. Out: `DIRECTORY/NNNNNNNN.note` and a signed acknowledgement. It takes
//! numbers in their order, answers a repetition as it did the first time, and refuses what contradicts what it has.
//! Bounds: the notice's size, one connection's handshake at a time.

use super::{Acknowledgement, Notice, VERSION, digest, sign, verify};
use crate::keys::{PublicKey, SecretKey};
use crate::limits::{CONNECT_MAX, NOTICE_BYTES_MAX};
use crate::run::state::replace_file;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::post;
use jiff::Timestamp;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What an endpoint answers: the text, or the status and why.
pub type Answer = Result<String, (StatusCode, String)>;

/// The books of the stand-in.
#[derive(Debug)]
pub struct Commission {
    directory: PathBuf,
    key: SecretKey,
    sender: PublicKey,
    one_at_a_time: Mutex<()>,
}

impl Commission {
    /// Keeps notices of the facility with the key `sender` in `directory`, and acknowledges with `key`.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(directory: PathBuf, key: SecretKey, sender: PublicKey) -> std::io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory, key, sender, one_at_a_time: Mutex::new(()) })
    }

    /// Takes a notice.
    ///
    /// # Errors
    /// It is not signed by the facility, contradicts one that is kept, or leaves a gap; or it cannot be kept.
    pub fn take(&self, text: &str, now: Timestamp) -> Answer {
        let _one = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = |reason: String| (StatusCode::UNPROCESSABLE_ENTITY, reason);
        let failed = |error: std::io::Error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        let notice: Notice = verify(text, &self.sender, "notice").map_err(|error| refused(error.to_string()))?;
        let path = self.directory.join(format!("{:08}.note", notice.number));
        match std::fs::read_to_string(&path) {
            Ok(kept) if kept == text => {}
            Ok(_) => return Err((StatusCode::CONFLICT, format!("another notice has the number {}", notice.number))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let before = match notice.number.checked_sub(1) {
                    Some(0) => String::new(),
                    Some(before) => std::fs::read_to_string(self.directory.join(format!("{before:08}.note")))
                        .map(|text| digest(&text))
                        .map_err(|_missing| (StatusCode::CONFLICT, format!("notice {before} is missing")))?,
                    None => return Err(refused("notices are numbered from 1".into())),
                };
                if before != notice.previous_sha256 {
                    return Err((StatusCode::CONFLICT, "the notice before it is not the one it names".into()));
                }
                replace_file(&path, text.as_bytes()).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let acknowledgement = Acknowledgement {
            version: VERSION,
            sender: notice.sender,
            number: notice.number,
            notice_sha256: digest(text),
            time: now,
        };
        sign(&acknowledgement, &self.key).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }
}

/// Serves `POST /notices` with whatever `answer` says, until the task is dropped.
///
/// # Errors
/// The listener's.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    answer: Arc<dyn Fn(&str) -> Answer + Send + Sync>,
) -> std::io::Result<()> {
    let bytes_max = usize::try_from(NOTICE_BYTES_MAX).unwrap_or(usize::MAX);
    let take = move |body: String| {
        let answer = Arc::clone(&answer);
        async move {
            tokio::task::spawn_blocking(move || answer(&body))
                .await
                .unwrap_or_else(|error| Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())))
        }
    };
    let router = Router::new().route("/notices", post(take)).layer(DefaultBodyLimit::max(bytes_max));
    axum::serve(Listener { listener, acceptor: TlsAcceptor::from(tls) }, router).await
}

/// TLS in front of what axum serves.
struct Listener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => match tokio::time::timeout(CONNECT_MAX, self.acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => return (stream, address),
                    Ok(Err(error)) => tracing::warn!(%error, "a client was refused"),
                    Err(_elapsed) => tracing::warn!("a client's handshake took too long"),
                },
                // No descriptors: others have to end first.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
