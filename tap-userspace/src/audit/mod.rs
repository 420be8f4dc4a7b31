//! The audit log: every act that matters is a leaf of a transparency log.
//!
//! In: acts ([`leaf`]). Out: a directory in the C2SP tlog-tiles format (entry bundles, tiles of the hash tree, a signed
//! checkpoint) that anybody with the log's public key can check ([`verify`]), proofs that stand alone ([`proof`]), and
//! cosignatures of a witness that saw the log only grow ([`witness`]). Bounds: one writer; an entry is acknowledged when
//! entries, tiles and checkpoint are on disk, in this order; what was acknowledged is never lost or changed by a crash.

pub mod checkpoint;
pub mod cosignature;
mod files;
pub mod leaf;
pub mod log;
pub mod merkle;
pub mod proof;
pub mod read;
pub mod tile;
pub mod verify;
pub mod witness;

pub(crate) use files::tile_bytes;
pub use leaf::Leaf;
pub use log::Log;

use crate::keys::KeyError;
use std::path::PathBuf;

/// What can be wrong with a log, a proof or a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file or directory cannot be read or written.
    #[error("{}: {source}; the log's directory ([log] directory) must be on a local disk, writable for the agent, with room", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the log is not what the log wrote.
    #[error("{}: {reason}; `gwtap audit verify` says what is left; restore the log from a copy, never begin a new one in its place", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A checkpoint is not one of this log.
    #[error("{what}: {reason}")]
    Checkpoint {
        /// Where it stood.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The log is older than a head that was seen of it, or is not its continuation.
    #[error(
        "{}: {reason}: it is an older copy, or was written anew; restore the latest copy (the witness has the head it cosigned); a log \
         that is lost ends, and a new one has a key and a name of its own", path.display()
    )]
    SetBack {
        /// Directory of the log.
        path: PathBuf,
        /// How it differs.
        reason: String,
    },
    /// Another process writes to the log.
    #[error("{}: another process writes to this log; end it first", .0.display())]
    Busy(PathBuf),
    /// A leaf is longer than an entry may be.
    #[error("a leaf of {0} bytes is over the {max} that an entry may have", max = crate::limits::LOG_ENTRY_BYTES_MAX)]
    TooLong(usize),
    /// A key is not what it must be.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A proof does not hold, or does not fit what it is held against.
    #[error("{what}: {reason}")]
    Proof {
        /// Where it stood.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The clock cannot be read.
    #[error("the clock cannot be read: {0}")]
    Clock(String),
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_verify;
