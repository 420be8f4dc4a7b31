//! The kernel's side of the agent: a checked set is compiled into tables, the tables and the load-time constants are
//! loaded with the embedded object, the program takes its place on the mirror port.
//!
//! Everything here is written against maps and links; it knows nothing of orders, keys or sockets. The same tables
//! drive the host's world ([`host`]), which is the oracle of the kernel's.

#[cfg(feature = "laboratory")]
pub mod bench;
pub mod host;
#[cfg(feature = "laboratory")]
pub mod laboratory;
mod link;
mod mapped;
mod object;
mod pins;
mod plain;
mod reason_log;
mod shared;
pub mod sweep;
pub mod tables;
pub mod tap;
pub mod trie;

pub use host::{HostWorld, LaboratoryConfig};
#[cfg(feature = "laboratory")]
pub use laboratory::KernelWorld;
pub use object::object_sha256;
pub use tables::{MeasureParameters, MeasureSet, Tables};
pub use tap::{Attach, CapSlot, Loaded, ProgramInfo, ProgramLoader, Tap, TapConfig, cap_policy};

use std::path::PathBuf;
use tap_common::abi::policy::Lease;
use tap_common::limits::MEASURES_MAX;
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

    /// Sets the lease of every slot.
    ///
    /// # Errors
    /// As above.
    fn set_lease(&mut self, lease: Lease) -> Result<(), LoadError> {
        (0..).take(MEASURES_MAX).try_for_each(|slot| self.set_slot_lease(slot, lease))
    }

    /// Sets the lease of one slot.
    ///
    /// # Errors
    /// As above.
    fn set_slot_lease(&mut self, slot: u32, lease: Lease) -> Result<(), LoadError>;
}

/// What can go wrong on the kernel's side.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No measure, or more than there are slots.
    #[error("{measures} measures; a tap carries 1 to {max}", max = tap_common::limits::MEASURES_MAX)]
    Measures {
        /// How many were asked for.
        measures: usize,
    },
    /// More rules than a generation holds.
    #[error(
        "the measures' sets have {rules} rules together; a generation holds {max}: join rules or run fewer measures here",
        max = tap_common::limits::RULES_MAX
    )]
    TooManyRules {
        /// Rules of all sets.
        rules: usize,
    },
    /// More different payload conditions than a generation holds.
    #[error(
        "the measures' sets have {signatures} different payload conditions together; a generation holds {max}",
        max = tap_common::limits::SIGNATURES_MAX
    )]
    TooManySignatures {
        /// Different signatures of all sets.
        signatures: usize,
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
    /// The cap's parameters are out of range.
    #[error(
        "a share of {share_ppm} ppm of {capacity_bits_per_second} bit/s gives no credit or more than the bucket holds; \
         check facility.capacity_bits_per_second and facility.share_ppm in the order"
    )]
    Cap {
        /// Capacity as ordered.
        capacity_bits_per_second: u64,
        /// Share as ordered.
        share_ppm: u32,
    },
    /// The mirror port is not there.
    #[error("mirror.interface: {interface}: {error}; `ip link` lists the interfaces there are")]
    Interface {
        /// Name as configured.
        interface: String,
        /// The system's word.
        error: std::io::Error,
    },
    /// The folder for pins is not on a BPF file system.
    #[error("mirror.pin_directory: {} is not on a BPF file system; mount one: mount -t bpf bpf /sys/fs/bpf", path.display())]
    NotBpfFileSystem {
        /// Folder as configured.
        path: PathBuf,
    },
    /// The pinned maps are another version's.
    #[error(
        "the maps pinned in {} have ABI version {found}, this gwtap has {ours}: stop the tap with the gwtap that made \
         them, then start this one",
        directory.display(),
        ours = tap_common::abi::ABI_VERSION
    )]
    AbiVersion {
        /// Version found.
        found: u32,
        /// Where.
        directory: PathBuf,
    },
    /// More CPUs than rings.
    #[error("this machine may have {cpus} CPUs; {max} are supported", max = tap_common::limits::CPUS_MAX)]
    TooManyCpus {
        /// Possible CPUs.
        cpus: usize,
    },
    /// The kernel does not attach the program.
    #[error(
        "cannot attach to {interface} ({attach:?}): {error}; for a driver without native XDP set mirror.attach = \"generic\", \
         for MTUs over 3,500 the driver must support XDP fragments"
    )]
    Attach {
        /// Mirror port.
        interface: String,
        /// How it was tried.
        attach: Attach,
        /// The kernel's word.
        error: Box<aya::programs::ProgramError>,
    },
    /// A pin cannot be made or removed.
    #[error("{what}: {error}")]
    Pin {
        /// Which file.
        what: String,
        /// The system's word.
        error: std::io::Error,
    },
    /// A map cannot be made, read or written.
    #[error("map {name}: {error}")]
    Map {
        /// Which.
        name: &'static str,
        /// The kernel's word.
        error: Box<aya::maps::MapError>,
    },
    /// The embedded object is not accepted.
    #[error("the BPF object: {error}; needs root (or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON) and Linux 6.1")]
    Object {
        /// The loader's word.
        error: Box<aya::EbpfError>,
    },
    /// The kernel refuses a step.
    #[error("cannot {step}: {reason}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// The kernel's word.
        reason: String,
    },
    /// The loader's word.
    #[error("{reason}")]
    Loader {
        /// What it refuses, or that it is gone.
        reason: String,
    },
    /// No random bytes.
    #[error("the system gives no random bytes: {reason}")]
    Random {
        /// The system's word.
        reason: String,
    },
    /// The embedded object lacks something: object and agent are not of one build.
    #[error("the BPF object lacks {what}: rebuild it with `cargo xtask build-ebpf`")]
    Missing {
        /// What.
        what: &'static str,
    },
}

impl LoadError {
    fn map(name: &'static str, error: aya::maps::MapError) -> Self {
        Self::Map { name, error: Box::new(error) }
    }

    fn object(error: aya::EbpfError) -> Self {
        Self::Object { error: Box::new(error) }
    }

    fn kernel(step: &'static str, reason: impl ToString) -> Self {
        Self::Kernel { step, reason: reason.to_string() }
    }
}
