//! Pseudonymise: from the kernel's clear record to the record that may leave (Art. 24(1)).
//!
//! In: a [`Record`] with clear addresses. Out: a [`PseudonymisedRecord`] in which an address is clear only if it is
//! foreign *and* a rule that fired names it by a facility-address entry of at least /24 or /48 *and* the order clears
//! such addresses; every other end is an IPCrypt pseudonym (draft-denis-ipcrypt). It must never see a disk, a socket or a
//! log. Bounded: no state grows with the traffic.
//!
//! Outside the ring this is the only place with clear addresses in memory; errors and debug forms hold none.

mod clear;
#[cfg(test)]
mod tests;

use super::{AddressKind, ExportedAddress, PseudonymisedRecord, UnixNs};
use crate::keys::pseudonym::PseudonymKey;
pub use clear::ClearPolicy;
use clear::Side;
use ipcrypt_rs::{Ipcrypt, IpcryptPfx};
use jiff::Timestamp;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};
use tap_common::{
    abi::record::{FLAG_PORTS, FLAG_SLICED, FLAG_TCP_FLAGS, Record},
    path::direction::Direction,
};

/// Why a record cannot leave. No addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PseudonymiseError {
    /// A direction that no measure may select.
    #[error("record with direction {0}, which is never selected: the kernel program and this agent do not fit")]
    Direction(u8),
    /// Neither 4 nor 6.
    #[error("record with IP version {0}: the kernel program and this agent do not fit")]
    IpVersion(u8),
    /// An IPv4 record whose address is not `::ffff:a.b.c.d`.
    #[error("IPv4 record with an address that is none: the kernel program and this agent do not fit")]
    Family,
    /// The time is not representable as UTC in nanoseconds.
    #[error("record at {0} ns of the kernel's clock has no UTC time: the clock offset is wrong")]
    Time(u64),
    /// No key epoch covers the record's time.
    #[error("no pseudonym key epoch covers {0} (ns since 1970): give the key of the epoch in [pseudonyms]")]
    NoKey(u64),
}

/// How addresses become pseudonyms; the order says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PseudonymMode {
    /// `ipcrypt-deterministic`: equal addresses, equal pseudonyms, nothing else is kept.
    Deterministic,
    /// `ipcrypt-pfx`: equal prefixes stay equal, IPv4 stays IPv4.
    PrefixPreserving,
}

/// One epoch's ciphers. Their keys are erased when they are dropped: the `aes` crate's `zeroize` feature sees to the
/// expanded ones, [`PseudonymKey`] to the others.
struct Epoch {
    number: u32,
    not_before_ns: i128,
    not_after_ns: i128,
    cipher: Cipher,
}

#[expect(clippy::large_enum_variant, reason = "one or two of them in a process, looked at for every record")]
enum Cipher {
    Deterministic(Ipcrypt),
    PrefixPreserving(IpcryptPfx),
}

impl Cipher {
    fn pseudonym(&self, address: Address) -> ExportedAddress {
        match self {
            Self::Deterministic(cipher) => {
                let mut bytes = address.bytes();
                cipher.encrypt_ip16(&mut bytes);
                ExportedAddress { bytes, kind: AddressKind::Deterministic }
            }
            Self::PrefixPreserving(cipher) => {
                let pseudonym = cipher.encrypt_ipaddr(match address {
                    Address::V4(address) => IpAddr::V4(address),
                    Address::V6(address) => IpAddr::V6(address),
                });
                let bytes = match pseudonym {
                    IpAddr::V4(pseudonym) => pseudonym.to_ipv6_mapped().octets(),
                    IpAddr::V6(pseudonym) => pseudonym.octets(),
                };
                ExportedAddress { bytes, kind: AddressKind::PrefixPreserving }
            }
        }
    }
}

/// An address of a packet, by the packet's family.
#[derive(Clone, Copy)]
enum Address {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl Address {
    fn new(bytes: [u8; 16], ip_version: u8) -> Result<Self, PseudonymiseError> {
        let address = Ipv6Addr::from(bytes);
        match ip_version {
            4 => address.to_ipv4_mapped().map(Self::V4).ok_or(PseudonymiseError::Family),
            6 => Ok(Self::V6(address)),
            other => Err(PseudonymiseError::IpVersion(other)),
        }
    }

    /// 16 bytes in network order, IPv4 as `::ffff:a.b.c.d`.
    fn bytes(self) -> [u8; 16] {
        match self {
            Self::V4(address) => address.to_ipv6_mapped().octets(),
            Self::V6(address) => address.octets(),
        }
    }
}

/// Makes records fit to leave. One for each measure; each draining thread may have its own.
pub struct Pseudonymiser {
    mode: PseudonymMode,
    epochs: Vec<Epoch>,
    /// By generation, ascending.
    policies: Vec<(u64, Arc<ClearPolicy>)>,
    boot_to_unix_ns: i64,
}

/// Keys and selector contents are never shown.
impl std::fmt::Debug for Pseudonymiser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pseudonymiser")
            .field("mode", &self.mode)
            .field("epochs", &self.epochs.len())
            .finish_non_exhaustive()
    }
}

impl Pseudonymiser {
    /// A pseudonymiser with the key epochs in `keys`, whose order does not matter. `boot_to_unix_ns` is added to the
    /// kernel's time (ns since boot) to give UTC (ns since 1970). It clears nothing until it has a policy.
    #[must_use]
    pub fn new(keys: &[PseudonymKey], mode: PseudonymMode, boot_to_unix_ns: i64) -> Self {
        let mut made = Self { mode, epochs: Vec::new(), policies: Vec::new(), boot_to_unix_ns };
        keys.iter().for_each(|key| made.add_key(key));
        made
    }

    /// Takes another epoch's key; one with the same number replaces the former.
    pub fn add_key(&mut self, key: &PseudonymKey) {
        let cipher = match self.mode {
            PseudonymMode::Deterministic => Cipher::Deterministic(Ipcrypt::new(key.secrets.deterministic)),
            // The halves of an opened key differ, which is all that `IpcryptPfx::new` asks.
            PseudonymMode::PrefixPreserving => Cipher::PrefixPreserving(IpcryptPfx::new(key.secrets.prefix)),
        };
        self.epochs.retain(|epoch| epoch.number != key.epoch);
        self.epochs.push(Epoch {
            number: key.epoch,
            not_before_ns: key.not_before.as_nanosecond(),
            not_after_ns: key.not_after.as_nanosecond(),
            cipher,
        });
    }

    /// Erases the keys of the epochs that ended at or before `time`; the records of that time must be through.
    pub fn erase_keys_until(&mut self, time: Timestamp) {
        self.epochs.retain(|epoch| epoch.not_after_ns > time.as_nanosecond());
    }

    /// What the records of `generation` clear. Records of a generation without a policy clear nothing.
    pub fn set_policy(&mut self, generation: u64, policy: Arc<ClearPolicy>) {
        match self.policies.binary_search_by_key(&generation, |(known, _)| *known) {
            Ok(place) => {
                if let Some(known) = self.policies.get_mut(place) {
                    known.1 = policy;
                }
            }
            Err(place) => self.policies.insert(place, (generation, policy)),
        }
    }

    /// Forgets the policies of generations before `generation`; their records must be through.
    pub fn forget_policies_before(&mut self, generation: u64) {
        self.policies.retain(|(known, _)| *known >= generation);
    }

    /// Sets the difference between UTC and the kernel's clock anew, for records from now on.
    pub fn set_boot_to_unix_ns(&mut self, boot_to_unix_ns: i64) {
        self.boot_to_unix_ns = boot_to_unix_ns;
    }

    /// The record that may leave.
    ///
    /// # Errors
    /// When a field has a value that the kernel never writes, or no key epoch covers the record's time: then nothing of
    /// the record may leave, and the caller counts it.
    pub fn pseudonymise(&self, record: &Record) -> Result<PseudonymisedRecord, PseudonymiseError> {
        let (source_foreign, destination_foreign) = foreign_ends(record.direction)?;
        let source = Address::new(record.source, record.ip_version)?;
        let destination = Address::new(record.destination, record.ip_version)?;
        let time = self.unix_time(record.time_ns)?;
        let epoch = self.epoch(time)?;
        let policy = self.policy(record.generation);
        let export = |address, side, foreign| match policy {
            Some(policy) if foreign && is_cleared(policy, address, side, record) => {
                ExportedAddress { bytes: address.bytes(), kind: AddressKind::Clear }
            }
            _ => epoch.cipher.pseudonym(address),
        };
        let has = |flag| record.flags & flag != 0;
        Ok(PseudonymisedRecord {
            time,
            source: export(source, Side::Source, source_foreign),
            destination: export(destination, Side::Destination, destination_foreign),
            source_port: has(FLAG_PORTS).then_some(record.source_port),
            destination_port: has(FLAG_PORTS).then_some(record.destination_port),
            protocol: record.protocol,
            tcp_flags: has(FLAG_TCP_FLAGS).then_some(record.tcp_flags),
            ip_version: record.ip_version,
            direction: record.direction,
            line_bytes: record.line_bytes,
            ip_length: record.ip_length,
            fragment: record.fragment,
            sliced: has(FLAG_SLICED),
            measure: record.measure,
            generation: record.generation,
            rules: record.rules,
            cpu: record.cpu,
            sequence: record.sequence,
            key_epoch: epoch.number,
        })
    }

    fn unix_time(&self, boot_ns: u64) -> Result<UnixNs, PseudonymiseError> {
        boot_ns.checked_add_signed(self.boot_to_unix_ns).map(UnixNs).ok_or(PseudonymiseError::Time(boot_ns))
    }

    fn epoch(&self, time: UnixNs) -> Result<&Epoch, PseudonymiseError> {
        let ns = i128::from(time.0);
        let mut epochs = self.epochs.iter();
        epochs
            .find(|epoch| (epoch.not_before_ns..epoch.not_after_ns).contains(&ns))
            .ok_or(PseudonymiseError::NoKey(time.0))
    }

    fn policy(&self, generation: u64) -> Option<&ClearPolicy> {
        let place = self.policies.binary_search_by_key(&generation, |(known, _)| *known).ok()?;
        self.policies.get(place).map(|(_, policy)| policy.as_ref())
    }
}

/// Whether source and destination are foreign, by the direction's number.
fn foreign_ends(direction: u8) -> Result<(bool, bool), PseudonymiseError> {
    const FOREIGN_TO_FOREIGN: u8 = Direction::ForeignToForeign as u8;
    const FOREIGN_TO_DOMESTIC: u8 = Direction::ForeignToDomestic as u8;
    const DOMESTIC_TO_FOREIGN: u8 = Direction::DomesticToForeign as u8;
    match direction {
        FOREIGN_TO_FOREIGN => Ok((true, true)),
        FOREIGN_TO_DOMESTIC => Ok((true, false)),
        DOMESTIC_TO_FOREIGN => Ok((false, true)),
        other => Err(PseudonymiseError::Direction(other)),
    }
}

fn is_cleared(policy: &ClearPolicy, address: Address, side: Side, record: &Record) -> bool {
    match address {
        Address::V4(address) => policy.clears_ipv4(address.into(), side, &record.rules),
        Address::V6(address) => policy.clears_ipv6(address.into(), side, &record.rules),
    }
}
