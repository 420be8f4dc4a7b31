//! Cap statements: what was admitted in an hour, signed by the host, so that a carrier shows its cap after the fact.
//!
//! In: totals and the maxima of sliding windows. Out: a signed note a measure, the facility and hour (and at the agent's
//! end), numbered without a gap and each with the digest of the one before. It holds counts and digests, nothing else.

pub mod hourly;
mod store;
#[cfg(test)]
mod tests;

pub use store::{Store, StoreError, read_all};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tap_common::limits::PPM;

/// Name of the chain of the facility: all its measures together.
pub const FACILITY: &str = "facility";
/// Version of the form.
pub const VERSION: u32 = 1;

/// What was admitted at most in windows of a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Most {
    /// Bytes in the window in which the rate was highest.
    pub bytes: u64,
    /// Length of that window, nanoseconds.
    pub window_ns: u64,
}

impl Most {
    /// Whether this is more than `share_ppm` of the capacity: exact, in whole numbers.
    #[must_use]
    pub fn exceeds(&self, capacity_bits_per_second: u64, share_ppm: u32) -> bool {
        let admitted = u128::from(self.bytes) * 8 * 1_000_000_000 * u128::from(PPM);
        let allowed = u128::from(capacity_bits_per_second).saturating_mul(u128::from(share_ppm));
        admitted > allowed.saturating_mul(u128::from(self.window_ns))
    }
}

/// Counts since the kernel's maps were made; a statement has them twice, as totals and since the statement before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Packets the program saw.
    pub observed_packets: u64,
    /// Their bytes on the line.
    pub observed_bytes: u64,
    /// Packets the caps admitted to selection.
    pub admitted_packets: u64,
    /// Their bytes on the line.
    pub admitted_bytes: u64,
    /// Packets a cap refused; of the facility, the sum over its measures.
    pub over_cap_packets: u64,
    /// Packets selected; of the facility, the sum over its measures.
    pub selected_packets: u64,
    /// Packets the mirror port received.
    pub interface_packets: u64,
    /// Bytes it received.
    pub interface_bytes: u64,
    /// Packets lost before the program saw them.
    pub interface_dropped_packets: u64,
    /// Packets received with errors.
    pub interface_error_packets: u64,
}

impl Counts {
    /// What was counted since `before`; a counter that began anew counts whole.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let less = |now: u64, then: u64| now.checked_sub(then).unwrap_or(now);
        Self {
            observed_packets: less(self.observed_packets, before.observed_packets),
            observed_bytes: less(self.observed_bytes, before.observed_bytes),
            admitted_packets: less(self.admitted_packets, before.admitted_packets),
            admitted_bytes: less(self.admitted_bytes, before.admitted_bytes),
            over_cap_packets: less(self.over_cap_packets, before.over_cap_packets),
            selected_packets: less(self.selected_packets, before.selected_packets),
            interface_packets: less(self.interface_packets, before.interface_packets),
            interface_bytes: less(self.interface_bytes, before.interface_bytes),
            interface_dropped_packets: less(self.interface_dropped_packets, before.interface_dropped_packets),
            interface_error_packets: less(self.interface_error_packets, before.interface_error_packets),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            observed_packets: self.observed_packets.saturating_add(other.observed_packets),
            observed_bytes: self.observed_bytes.saturating_add(other.observed_bytes),
            admitted_packets: self.admitted_packets.saturating_add(other.admitted_packets),
            admitted_bytes: self.admitted_bytes.saturating_add(other.admitted_bytes),
            over_cap_packets: self.over_cap_packets.saturating_add(other.over_cap_packets),
            selected_packets: self.selected_packets.saturating_add(other.selected_packets),
            interface_packets: self.interface_packets.saturating_add(other.interface_packets),
            interface_bytes: self.interface_bytes.saturating_add(other.interface_bytes),
            interface_dropped_packets: self.interface_dropped_packets.saturating_add(other.interface_dropped_packets),
            interface_error_packets: self.interface_error_packets.saturating_add(other.interface_error_packets),
        }
    }
}

/// A statement. Its signed text is this as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Version of the form.
    pub version: u32,
    /// Measure, or [`FACILITY`].
    pub of: String,
    /// Number in its chain, from 1.
    pub number: u64,
    /// SHA-256 of the statement before, as it lies in its file; empty for the first.
    pub previous_sha256: String,
    /// Facility.
    pub facility: String,
    /// Instance of the kernel's maps.
    pub map_instance: String,
    /// First instant.
    pub from: Timestamp,
    /// First instant after the last.
    pub to: Timestamp,
    /// The agent ended in order.
    pub last: bool,
    /// Capacity as the orders state it.
    pub capacity_bits_per_second: u64,
    /// Highest part of it that was allowed in the time, in parts per million.
    pub limit_ppm: u32,
    /// Most in any window of a second or longer; none before one is full.
    pub most_in_a_second: Option<Most>,
    /// Most in any window of a minute or longer.
    pub most_in_a_minute: Option<Most>,
    /// Most in any window of an hour or longer.
    pub most_in_an_hour: Option<Most>,
    /// What was counted since the statement before of the same maps, or since they were made.
    pub counted: Counts,
    /// What was counted since the maps were made.
    pub totals: Counts,
}

impl Statement {
    /// Whether in any second or longer more was admitted than allowed.
    #[must_use]
    pub fn exceeded(&self) -> bool {
        let most = [self.most_in_a_second, self.most_in_a_minute, self.most_in_an_hour];
        most.iter().flatten().any(|most| most.exceeds(self.capacity_bits_per_second, self.limit_ppm))
    }
}
