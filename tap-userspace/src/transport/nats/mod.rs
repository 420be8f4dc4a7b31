//! NATS: a connection to one server of a cluster, and what a JetStream stream must be so that a message it acknowledged may be
//! forgotten here (`docs/jetstream.md`).
//!
//! In: a server, this side's credentials, a stream's name. Out: a connection that ends with its first fault, and the stream, judged.
//! Only servers that the configuration names are connected to, whatever a server says of others; nothing is sent without TLS 1.3
//! with both sides authenticated. No error here can carry a record.

mod link;
pub mod named;
pub mod stream;

use std::ffi::OsStr;
use std::path::Path;

pub use link::{Link, Server};

use crate::limits::JETSTREAM_STREAM_BYTES_MAX;

/// What goes wrong between here and a stream.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// The configured name cannot be in a certificate.
    #[error("server_name `{0}` is neither a DNS name nor an IP address; write the name in the server's certificate")]
    ServerName(String),
    /// No connection.
    #[error("connecting to a server of the stream: {0}")]
    Connect(String),
    /// A connection that ended.
    #[error("the connection to the stream's server ended: {0}")]
    Ended(String),
    /// The stream does not answer.
    #[error("stream {stream}: {step}: {reason}")]
    Answer {
        /// The stream.
        stream: String,
        /// What was being done.
        step: &'static str,
        /// What the server or the library said.
        reason: String,
    },
    /// The stream could lose messages that it acknowledged.
    #[error("stream {stream}: {reason}")]
    Stream {
        /// The stream.
        stream: String,
        /// What is to be changed.
        reason: String,
    },
}

impl NatsError {
    /// A short name for log and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::ServerName(_) => "server_name",
            Self::Connect(_) => "connection",
            Self::Ended(_) => "closed",
            Self::Answer { .. } => "stream_answer",
            Self::Stream { .. } => "stream",
        }
    }

    /// Makes a [`NatsError::Answer`] of what `stream` said about `step`.
    pub(crate) fn answer<E: std::fmt::Display>(stream: &str, step: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::Answer { stream: stream.to_owned(), step, reason: error.to_string() }
    }
}

/// Whether a stream may be called so: letters, digits, '-' and '_', since it stands in subjects.
#[must_use]
pub fn is_stream_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=JETSTREAM_STREAM_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// Where messages of `host` are published: a partition of the stream.
#[must_use]
pub fn subject(stream: &str, host: &[u8; 32]) -> String {
    format!("{stream}.records.{}", hex::encode(host))
}

/// The subjects of all hosts.
#[must_use]
pub fn subjects(stream: &str) -> String {
    format!("{stream}.records.*")
}

/// The durable consumer that all receivers of a partition share.
#[must_use]
pub fn consumer(host: &[u8; 32]) -> String {
    format!("receive-{}", hex::encode(host))
}

/// The name by which a server drops repeats: the message's identity.
#[must_use]
pub fn message_id(host: &[u8; 32], spool: &[u8; 16], sequence: u64) -> String {
    format!("{}/{}/{sequence}", hex::encode(host), hex::encode(spool))
}

/// Keeps the client library from the machine's own list of authorities, which it reads before each handshake and never uses here:
/// the process cannot reach it, and a file that cannot be read would end the handshake. Call it before threads are started.
pub fn no_system_authorities(ca_file: &Path) {
    set("SSL_CERT_FILE", Some(ca_file.as_os_str()));
    set("SSL_CERT_DIR", None);
}

fn set(variable: &str, value: Option<&OsStr>) {
    match value {
        // SAFETY: no other thread runs yet that could read the environment meanwhile; that is the caller's promise.
        Some(value) => unsafe { std::env::set_var(variable, value) },
        // SAFETY: as above.
        None => unsafe { std::env::remove_var(variable) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streams_name_cannot_change_a_subject() {
        for name in ["gwtap", "m-1", "A_9"] {
            assert!(is_stream_name(name), "{name}");
        }
        for name in ["", "a.b", "*", ">", "a b", "é", &"a".repeat(JETSTREAM_STREAM_BYTES_MAX + 1)] {
            assert!(!is_stream_name(name), "{name}");
        }
    }

    #[test]
    fn a_partition_is_a_hosts_and_a_name_is_a_messages() {
        let host = [0xab; 32];
        assert_eq!(subject("gwtap", &host), format!("gwtap.records.{}", "ab".repeat(32)));
        assert_eq!(subjects("gwtap"), "gwtap.records.*");
        assert_eq!(consumer(&host), format!("receive-{}", "ab".repeat(32)));
        assert_eq!(message_id(&host, &[1; 16], 7), format!("{}/{}/7", "ab".repeat(32), "01".repeat(16)));
    }
}
