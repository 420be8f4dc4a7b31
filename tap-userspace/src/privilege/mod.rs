//! Privilege: what this process may do, and where its memory may not go.
//!
//! In: the configuration's `[privilege]`, the machine's swap and core pattern. Out: a process that leaves no core, that
//! nobody of its own rank may trace, whose memory stays in memory, and that holds the named capabilities and no other.
//! Bound: all of it is done before the first thread and before the first key is read, and none of it can be undone.

pub mod capabilities;
pub mod config;
pub mod leaks;
pub mod memory;

pub use capabilities::Keep;
pub use config::Privilege;

/// Why the process does not go on.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The machine would write memory somewhere. Refused unless the configuration allows it in writing.
    #[error("{0}")]
    Leak(String),
    /// The system did not take a step.
    #[error("{step}: {reason}")]
    System {
        /// Which step, and what it needs.
        step: &'static str,
        /// The system's word.
        reason: String,
    },
}

impl PrivilegeError {
    pub(crate) fn system(step: &'static str, reason: impl ToString) -> Self {
        Self::System { step, reason: reason.to_string() }
    }
}

/// Gives up what this process does not need. Call it before threads are started: capabilities are a thread's own.
///
/// # Errors
/// [`PrivilegeError::Leak`]: swap or a core pattern that is not allowed in writing. Anything else is the system's.
pub fn harden(written: &Privilege, keep: Keep) -> Result<(), PrivilegeError> {
    leaks::check(written)?;
    confine(keep)
}

/// [`harden`] without the question about the machine: for a process whose parent asked it.
///
/// # Errors
/// The system does not take a step.
pub fn confine(keep: Keep) -> Result<(), PrivilegeError> {
    memory::no_dumps()?;
    let unlimited = memory::lock()?;
    capabilities::keep_only(keep, unlimited)
}
