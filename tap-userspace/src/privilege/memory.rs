//! Memory: it leaves no core, is not traced, and is not swapped.

use super::PrivilegeError;
use caps::{CapSet, Capability};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

const STEP: &str = "locking memory without a limit (start it with LimitMEMLOCK=infinity, or as root)";

/// No core file, no tracing by a process that is not privileged, no `/proc/PID/mem` but for root, and no programs that
/// gain rights.
///
/// # Errors
/// The kernel refuses.
pub fn no_dumps() -> Result<(), PrivilegeError> {
    let refused = |step| move |error: nix::Error| PrivilegeError::system(step, error);
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(refused("setting the limit of cores to 0"))?;
    prctl::set_dumpable(false).map_err(refused("making the process undumpable"))?;
    prctl::set_no_new_privs().map_err(refused("giving up new privileges"))
}

/// What keeps a limit of locked memory away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlimited {
    /// The limit is none.
    ByLimit,
    /// It could not be raised: `CAP_IPC_LOCK` must be kept.
    ByCapability,
}

/// All memory, now and later, stays in memory; pages are locked when they are first touched, so that thread stacks take no
/// more than they use.
///
/// # Errors
/// Locked memory has a limit that may not be raised: a later mapping would fail in the midst of the work.
pub fn lock() -> Result<Unlimited, PrivilegeError> {
    let refused = |error: nix::Error| PrivilegeError::system(STEP, error);
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::debug!(%error, "the limit of locked memory stays as it is");
    }
    // mlockall(2); nix has no name for the last one.
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault).map_err(refused)?;
    let (bytes, _) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(refused)?;
    if bytes == RLIM_INFINITY {
        return Ok(Unlimited::ByLimit);
    }
    match caps::has_cap(None, CapSet::Permitted, Capability::CAP_IPC_LOCK) {
        Ok(true) => Ok(Unlimited::ByCapability),
        Ok(false) => Err(PrivilegeError::system(STEP, format!("the limit is {bytes} bytes"))),
        Err(error) => Err(PrivilegeError::system(STEP, error)),
    }
}
