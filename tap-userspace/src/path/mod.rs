//! The record's way through the agent, a stage a file, in this order: [`ring`] (out of the kernel), [`pseudonymise`]
//! (the last place that sees a clear address), [`spool`] (durable, encrypted), [`export`] (to the receiving facility) and
//! [`ack`] (what may be forgotten).
//!
//! What stands here is the type that the stages after pseudonymisation share. No clear address that the order does not
//! clear ever reaches them.

pub mod ack;
pub mod export;
pub mod pseudonymise;
pub mod ring;
pub mod spool;

use tap_common::limits::RULE_WORDS;

/// UTC as nanoseconds since 1970-01-01T00:00:00Z, without leap seconds (as POSIX counts).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixNs(pub u64);

/// What the 16 bytes of an [`ExportedAddress`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum AddressKind {
    /// The address itself: foreign, and named by a narrow facility-address entry of a rule that fired (Art. 24(1)).
    Clear = 0,
    /// `ipcrypt-deterministic`: 128 bits whatever the family was.
    Deterministic = 1,
    /// `ipcrypt-pfx`: prefixes are kept, the family too.
    PrefixPreserving = 2,
}

/// An address as it may leave the host.
///
/// The debug form shows the kind alone: a clear address must not reach a log by an error's `{:?}`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ExportedAddress {
    /// Network order. Clear and prefix-preserving IPv4 as `::ffff:a.b.c.d`.
    pub bytes: [u8; 16],
    /// How to read [`ExportedAddress::bytes`].
    pub kind: AddressKind,
}

impl std::fmt::Debug for ExportedAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExportedAddress").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A record after pseudonymisation: the only record type that goes to disk or network.
///
/// Numbers are host values; the encoder gives them their byte order. A field that the packet did not have is `None`.
/// `(host key, instance, cpu, sequence)` is the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PseudonymisedRecord {
    /// When the kernel decided.
    pub time: UnixNs,
    /// Source address, or its pseudonym.
    pub source: ExportedAddress,
    /// Destination address, or its pseudonym.
    pub destination: ExportedAddress,
    /// Source port.
    pub source_port: Option<u16>,
    /// Destination port.
    pub destination_port: Option<u16>,
    /// IANA protocol number of the upper layer.
    pub protocol: u8,
    /// TCP flags, byte 13 of the header.
    pub tcp_flags: Option<u8>,
    /// 4 or 6: the family of the packet, whatever the pseudonyms look like.
    pub ip_version: u8,
    /// A [`tap_common::path::direction::Direction`] as number.
    pub direction: u8,
    /// Bytes on the line, as the cap charged them.
    pub line_bytes: u32,
    /// IP length as the header states it.
    pub ip_length: u32,
    /// A [`tap_common::path::parse::Fragment`] as number.
    pub fragment: u8,
    /// The IP length goes beyond the bytes that the mirror delivered.
    pub sliced: bool,
    /// Measure slot.
    pub measure: u8,
    /// Generation of the selector set that decided.
    pub generation: u64,
    /// Rules that fired, by index in that generation: bit `i % 64` of word `i / 64`.
    pub rules: [u64; RULE_WORDS],
    /// CPU that saw the packet.
    pub cpu: u32,
    /// Number of the record on that CPU, from 0; a gap is a loss in the ring.
    pub sequence: u64,
    /// Epoch of the pseudonym key.
    pub key_epoch: u32,
}
