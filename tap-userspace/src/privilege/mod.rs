//! Privilege: what this process may do, and where its memory may not go.
//!
//! In: the configuration's `[privilege]`, the machine's swap and core pattern. Out: a process that leaves no core, that
//! nobody of its own rank may trace, whose memory stays in memory, that holds the named capabilities and no other, reaches
//! the files and ports that it needs ([`reach`]) and makes the system calls of its list ([`syscalls`]).
//! Bound: all of it is done before the first thread and before the first key is read, and none of it can be undone.

pub mod capabilities;
pub mod config;
pub mod leaks;
pub mod memory;
pub mod reach;
pub mod syscalls;

pub use capabilities::Keep;
pub use config::Privilege;
pub use reach::Reach;
pub use syscalls::Calls;

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

/// What a process keeps of what it could do.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Capabilities.
    pub capabilities: Keep,
    /// Files and ports.
    pub reach: Reach,
    /// System calls.
    pub calls: Calls,
}

/// Gives up what this process does not need. Call it before threads are started: all of it is a thread's own.
///
/// # Errors
/// [`PrivilegeError::Leak`]: swap, a core pattern or a kernel that is not allowed in writing. Anything else is the system's.
pub fn harden(written: &Privilege, needs: &Needs) -> Result<(), PrivilegeError> {
    leaks::check(written)?;
    confine(written, needs)
}

/// [`harden`] without the question about the machine: for a process whose parent asked it.
///
/// # Errors
/// The system does not take a step.
pub fn confine(written: &Privilege, needs: &Needs) -> Result<(), PrivilegeError> {
    memory::no_dumps()?;
    let unlimited = memory::lock()?;
    capabilities::keep_only(needs.capabilities, unlimited)?;
    needs.reach.restrict(written)?;
    // Last: the steps before it make calls that nothing makes afterwards.
    needs.calls.restrict()
}
