//! What exporter and receiving facility share of the way between them: TLS with both sides authenticated, and messages
//! cut out of the stream. Bounded by the 65,535 octets of a message.

pub mod alive;
pub(crate) mod backoff;
pub mod frame;
pub mod nats;
pub mod rotating;
pub mod tls;

/// The protocol name by which both sides agree on acknowledgements (`docs/export.md`). Without it a session is plain
/// IPFIX.
pub const ALPN: &[u8] = b"gwtap-ipfix/1";
