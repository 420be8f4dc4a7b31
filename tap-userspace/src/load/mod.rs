//! The kernel's side of the agent: a checked set is compiled into tables, the tables and the load-time constants are
//! loaded with the embedded object, the program takes its place on the mirror port.
//!
//! Everything here is written against maps and links; it knows nothing of orders, keys or sockets. The same tables
//! drive the host's world ([`host`]), which is the oracle of the kernel's.

pub mod host;
pub mod sweep;
pub mod tables;
pub mod trie;

pub use host::{HostWorld, LaboratoryConfig};
pub use tables::{MeasureParameters, Tables};

use tap_common::abi::policy::Lease;
use tap_common::path::verdict::Decision;

/// What a laboratory world shows of one packet: the whole decision.
pub type Observation = Decision;

/// A world that shows its decisions: the host's, or a laboratory program in the kernel.
pub trait Laboratory {
    /// Decides about one frame at `now_ns` of the injected clock.
    ///
    /// # Errors
    /// The kernel's side may fail; the host's does not.
    fn decide(&mut self, frame: &[u8], now_ns: u64) -> Result<Observation, LoadError>;

    /// Sets the lease of slot 0.
    ///
    /// # Errors
    /// As above.
    fn set_lease(&mut self, lease: Lease) -> Result<(), LoadError>;
}

/// What can go wrong on the kernel's side.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// More rules than a generation holds.
    #[error("the set has {rules} rules; a generation holds {max}: split the set", max = tap_common::limits::RULES_MAX)]
    TooManyRules {
        /// Rules of the set.
        rules: usize,
    },
    /// More memory than a generation may take.
    #[error(
        "the set's tables need {bytes} bytes or more, and a generation may take {max}: use fewer or shorter prefixes",
        max = crate::limits::TABLE_BYTES_MAX
    )]
    Memory {
        /// Bytes needed, as far as it was counted.
        bytes: usize,
    },
}
