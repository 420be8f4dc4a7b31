//! The inspection bundle: what an inspector needs of a mirror host, in one file, checked with public keys alone.
//!
//! In: a host's directories ([`collect`]), or a bundle's bytes and public keys ([`verify`]). Out: a tar archive that the same
//! input always makes byte for byte ([`container`]), or a [`Report`](report::Report) of what it proves, what it does not, and
//! every entry that was removed, added, altered or is another's. It never sees a selector unless it is handed one, and no
//! secret but to sign the manifest. Bounds: bytes of a bundle and its entries. `docs/inspection.md` has the format.

pub mod collect;
pub mod container;
mod documents;
mod leases;
mod ledger;
mod manifest;
mod notices;
pub mod report;
mod statements;
#[cfg(test)]
mod tests;
mod text;
pub mod verify;

use crate::keys::{KeyError, PublicKey, TrustRoots};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// Why a bundle cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A file or directory cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What would go in is not what it must be.
    #[error("{what}: {reason}")]
    Part {
        /// Which.
        what: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] crate::audit::LogError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Something that does not hold: where, and what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Entry of the bundle, or of the log.
    pub part: String,
    /// What is wrong with it.
    pub what: String,
}

impl Finding {
    fn new(part: impl Into<String>, what: impl Into<String>) -> Self {
        Self { part: part.into(), what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.what)
    }
}

/// What an inspector trusts: who may sign what, and the keys of the host, its log, witnesses and receiving facilities.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Roles.
    pub roots: TrustRoots,
    /// Other public keys; which is whose, their signatures say.
    pub public: Vec<PublicKey>,
}
