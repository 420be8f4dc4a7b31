//! Why an export session ends. No variant can carry a record, an address of a record, or octets of a message.

use std::io;

use crate::ipfix::decode::DecodeError;
use crate::path::spool::SpoolError;
use crate::transport::nats::NatsError;
use crate::transport::tls::TlsError;

/// Why an export session ended, or why none can begin.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Certificates or keys.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The configured name cannot be in a certificate.
    #[error(
        "export.server_name `{0}` is neither a DNS name nor an IP address; write the name in the certificate of the receiving facility"
    )]
    ServerName(String),
    /// There is nowhere to export to.
    #[error("no receiving facility is configured")]
    NoReceiver,
    /// The connection or the handshake, with what the system or the peer said.
    #[error("{step}: {source}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// What was said.
        source: io::Error,
    },
    /// Nothing happened for too long.
    #[error("{0}: no progress in time; the session is given up and begun again")]
    Stalled(&'static str),
    /// A collector that does not acknowledge.
    #[error(
        "the peer acknowledges nothing (it did not negotiate `gwtap-ipfix/1`); export to `gwtap receive`, or write \
         acknowledgement = \"none\" in [export] and accept that records are forgotten once they are sent"
    )]
    NoAcknowledgement,
    /// The receiving facility says why it ends the session.
    #[error("the receiving facility refuses the session: {0}")]
    Refused(String),
    /// The other side closed the connection.
    #[error("the receiving facility closed the connection")]
    Closed,
    /// What came back is no IPFIX.
    #[error("an answer of the receiving facility is no IPFIX: {0}")]
    Decode(#[from] DecodeError),
    /// An acknowledgement of something else.
    #[error("the receiving facility acknowledges {0}")]
    Acknowledgement(&'static str),
    /// A stream, or the way to it.
    #[error(transparent)]
    Stream(#[from] NatsError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A spooled message is none of ours.
    #[error("message {sequence} of the spool cannot be sent: {reason}")]
    Message {
        /// Its number.
        sequence: u64,
        /// Why.
        reason: String,
    },
}

impl ExportError {
    /// A short name for log and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tls(_) => "tls_files",
            Self::ServerName(_) => "server_name",
            Self::NoReceiver => "no_receiver",
            Self::Io { .. } => "connection",
            Self::Stalled(_) => "stalled",
            Self::NoAcknowledgement => "no_acknowledgement",
            Self::Refused(_) => "refused",
            Self::Closed => "closed",
            Self::Decode(_) => "answer",
            Self::Acknowledgement(_) => "acknowledgement",
            Self::Stream(error) => error.code(),
            Self::Spool(_) => "spool",
            Self::Message { .. } => "message",
        }
    }

    /// Makes an [`ExportError::Io`] of what the system said about `step`.
    pub(crate) fn io(step: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { step, source }
    }
}
