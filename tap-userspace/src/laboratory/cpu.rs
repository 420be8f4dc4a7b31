//! One CPU: what the bucket lends to a CPU belongs to that CPU, so a run that is to be repeated stays on one.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::io;

/// Binds the calling thread to the CPU it runs on.
///
/// # Errors
/// What the system said.
pub fn stay_on_this_cpu() -> io::Result<()> {
    // SAFETY: sched_getcpu takes nothing and returns a number.
    let cpu = unsafe { libc::sched_getcpu() };
    let Ok(cpu) = usize::try_from(cpu) else { return Err(io::Error::last_os_error()) };
    let mut this = CpuSet::new();
    this.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &this)?)
}
