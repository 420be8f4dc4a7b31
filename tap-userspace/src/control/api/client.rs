//! The caller's end of the control API: one call over one connection.

use super::wire::{Problem, Versions};
use crate::limits::{CONNECT_MAX, CONTROL_REQUEST_BYTES_MAX};
use crate::transport::tls::{self, TlsError, TlsFiles};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long an answer may take: a set of a million addresses compiles and loads in seconds.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// A client's file: where the tap is, and who the client is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// `HOST:PORT` of the tap's `[control.api] listen`.
    pub endpoint: String,
    /// The name in the tap's certificate.
    pub server_name: String,
    /// Certificates (PEM) that may have signed the tap's.
    pub ca_file: PathBuf,
    /// The client's certificate.
    pub certificate_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The client's file.
    #[error("{}: {reason}; it needs endpoint, server_name, ca_file, certificate_file, key_file", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificates or keys.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The tap cannot be reached, or turned the certificate away.
    #[error(
        "{endpoint}: {reason}; is it the tap's [control.api] listen, and the certificate one that the tap believes?"
    )]
    Connection {
        /// Where.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// What came back is no answer of this version.
    #[error("the tap's answer is not of this version: {0}")]
    Answer(String),
    /// The tap says no.
    #[error("{}: {} ({})", .0.title, .0.detail, .0.status)]
    Problem(Problem),
}

/// A call. Its debug form shows no body: it may hold selectors.
pub struct Call<'a> {
    /// HTTP method.
    pub method: &'static str,
    /// Path.
    pub path: &'a str,
    /// The state that the caller has seen.
    pub etag: Option<&'a str>,
    /// JSON.
    pub body: Option<Vec<u8>>,
}

/// An answer. Its debug form shows no body: it may hold selectors.
pub struct Answered {
    /// Names the state that it shows.
    pub etag: Option<String>,
    /// JSON.
    pub body: Bytes,
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answered").field("etag", &self.etag).finish_non_exhaustive()
    }
}

impl Answered {
    /// The answer as what it should be.
    ///
    /// # Errors
    /// It is something else.
    pub fn as_json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.body).map_err(|error| CallError::Answer(error.to_string()))
    }
}

impl Client {
    /// Reads a client's file. Relative paths in it are taken from the file's own directory.
    ///
    /// # Errors
    /// It cannot be read or is not of its form.
    pub fn load(path: &Path) -> Result<Self, CallError> {
        let wrong = |reason: String| CallError::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let mut client: Self = toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?;
        let base = path.parent().unwrap_or(Path::new(""));
        for file in [&mut client.ca_file, &mut client.certificate_file, &mut client.key_file] {
            *file = base.join(&*file);
        }
        Ok(client)
    }

    /// Makes one call, in a runtime of its own.
    ///
    /// # Errors
    /// As [`CallError`] says.
    pub fn call(&self, call: &Call<'_>) -> Result<Answered, CallError> {
        let failed = |error: std::io::Error| CallError::Answer(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let within = async { tokio::time::timeout(ANSWER_MAX, self.converse(call)).await };
        runtime.block_on(within).unwrap_or_else(|_elapsed| Err(self.broken("no answer in time")))
    }

    /// The state of a measure's versions, and its ETag.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn versions(&self, measure: &str) -> Result<(Versions, String), CallError> {
        let path = format!("/v1/measures/{measure}/selectors");
        let answered = self.call(&Call { method: "GET", path: &path, etag: None, body: None })?;
        let etag = answered.etag.clone().ok_or_else(|| CallError::Answer("it has no ETag".into()))?;
        Ok((answered.as_json()?, etag))
    }

    async fn converse(&self, call: &Call<'_>) -> Result<Answered, CallError> {
        let files = TlsFiles {
            ca: self.ca_file.clone(),
            certificate: self.certificate_file.clone(),
            key: self.key_file.clone(),
            revocations: None,
        };
        let mut config = tls::client(&files)?.as_ref().clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(self.server_name.clone()).map_err(|_no_name| self.broken("no server name"))?;
        let connector = TlsConnector::from(Arc::new(config));
        let connect = async { connector.connect(name, TcpStream::connect(&self.endpoint).await?).await };
        let stream = tokio::time::timeout(CONNECT_MAX, connect).await.map_err(|_elapsed| self.broken("too slow"))?;
        let stream = TokioIo::new(stream.map_err(|error| self.broken(error))?);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(chain(&error)))?;
        let connection = tokio::spawn(connection);
        let answered = self.exchange(&mut sender, call).await;
        connection.abort();
        answered
    }

    async fn exchange(
        &self,
        sender: &mut hyper::client::conn::http2::SendRequest<Full<Bytes>>,
        call: &Call<'_>,
    ) -> Result<Answered, CallError> {
        let uri = format!("https://{}{}", self.server_name, call.path);
        let mut request = Request::builder().method(call.method).uri(uri);
        if let Some(etag) = call.etag {
            request = request.header(header::IF_MATCH, format!("\"{etag}\""));
        }
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = Full::new(Bytes::from(call.body.clone().unwrap_or_default()));
        let request = request.body(body).map_err(|error| self.broken(error))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(chain(&error)))?;
        let (parts, body) = response.into_parts();
        let bytes_max = usize::try_from(2 * CONTROL_REQUEST_BYTES_MAX).unwrap_or(usize::MAX);
        let body = Limited::new(body, bytes_max).collect().await.map_err(|error| self.broken(error))?.to_bytes();
        if parts.status.is_success() {
            let etag = parts.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok());
            return Ok(Answered { etag: etag.map(|etag| etag.trim_matches('"').to_owned()), body });
        }
        let problem = serde_json::from_slice(&body).map_err(|_other| CallError::Answer(parts.status.to_string()))?;
        Err(CallError::Problem(problem))
    }

    fn broken(&self, reason: impl std::fmt::Display) -> CallError {
        CallError::Connection { endpoint: self.endpoint.clone(), reason: reason.to_string() }
    }
}

/// An error with what caused it: a handshake that the other side refused shows there only.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A body of JSON.
///
/// # Errors
/// The value is not of JSON.
pub fn body(value: &impl Serialize) -> Result<Option<Vec<u8>>, CallError> {
    serde_json::to_vec(value).map(Some).map_err(|error| CallError::Answer(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_forms_show_no_body() {
        let call = Call { method: "PUT", path: "/v1", etag: None, body: Some(b"203.0.113.9".to_vec()) };
        let answered = Answered { etag: None, body: Bytes::from_static(b"203.0.113.9") };
        for shown in [format!("{call:?}"), format!("{answered:?}")] {
            assert!(!shown.contains("203.0.113.9") && !shown.contains("50, 48, 51"), "{shown}");
        }
    }
}
