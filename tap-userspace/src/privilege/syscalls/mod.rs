//! System calls: each process has a list of those it makes, with a comment on who makes them; any other ends it (seccomp).
//!
//! In: `agent.json`, `loader.json`, `receive.json`, in the form of the library. Out: this thread, and every one it starts,
//! makes no other call. What a library tries and can do without is answered with an error instead: a thread by `clone3`,
//! whose flags no list can see, and memory that could be executed. Bound: x86-64, whose names the lists have.
//! A rule that nothing needs fails `every_listed_system_call_is_made` (tests/tests/confined.rs), unless its comment begins
//! with [`RARE`] and says when it is made.

use super::PrivilegeError;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, compile_from_json,
};

/// How the comment of a rule begins that a run need not show.
pub const RARE: &str = "rare: ";

/// Whose list it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// `gwtap run`.
    Agent,
    /// Its loader.
    Loader,
    /// `gwtap receive`.
    Receive,
}

impl Calls {
    /// Every list.
    pub const ALL: [Self; 3] = [Self::Agent, Self::Loader, Self::Receive];

    /// Name of the list.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Loader => "loader",
            Self::Receive => "receive",
        }
    }

    /// The list (JSON, as seccompiler reads it).
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Agent => include_str!("agent.json"),
            Self::Loader => include_str!("loader.json"),
            Self::Receive => include_str!("receive.json"),
        }
    }

    /// Makes every call that is not in the list end the process, for this thread and every one it starts.
    ///
    /// # Errors
    /// The kernel has no filter, or the machine is none that the list is written for.
    pub(super) fn restrict(self) -> Result<(), PrivilegeError> {
        let list = self.compiled()?;
        let lenient = [
            refusing(libc::SYS_clone3, Vec::new(), libc::ENOSYS)?,
            refusing(libc::SYS_mmap, executable()?, libc::EACCES)?,
            refusing(libc::SYS_mprotect, executable()?, libc::EACCES)?,
        ];
        says_which()?;
        for filter in lenient.iter().chain([&list]) {
            apply_filter(filter).map_err(failed)?;
        }
        Ok(())
    }

    fn compiled(self) -> Result<BpfProgram, PrivilegeError> {
        let mut lists = compile_from_json(self.text().as_bytes(), architecture()?).map_err(failed)?;
        lists.remove(self.name()).ok_or_else(|| failed(format!("{} is not in its list", self.name())))
    }
}

/// A filter that answers one call with an error and lets all others through; the strictest of several filters counts.
fn refusing(call: i64, only: Vec<SeccompRule>, errno: i32) -> Result<BpfProgram, PrivilegeError> {
    let refusal = SeccompAction::Errno(errno.unsigned_abs());
    let rules = std::iter::once((call, only)).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, architecture()?).map_err(failed)?;
    filter.try_into().map_err(failed)
}

/// The third argument asks for memory that can be executed.
fn executable() -> Result<Vec<SeccompRule>, PrivilegeError> {
    let bit = u64::from(libc::PROT_EXEC.unsigned_abs());
    let asked = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bit), bit).map_err(failed)?;
    Ok(vec![SeccompRule::new(vec![asked]).map_err(failed)?])
}

fn architecture() -> Result<TargetArch, PrivilegeError> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(TargetArch::x86_64),
        other => Err(failed(format!("the lists of system calls are written for x86_64, not for {other}"))),
    }
}

/// Has the kernel's signal name the call before the process ends; ignoring it would not let the call through.
fn says_which() -> Result<(), PrivilegeError> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let action = SigAction::new(SigHandler::SigAction(unlisted), SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: the handler writes to the stack and to stderr, and ends the process; it takes no lock and no memory.
    unsafe { sigaction(Signal::SIGSYS, &action) }.map(drop).map_err(failed)
}

/// Names the call on stderr by its number, and ends the process like any other failure: what is spooled stays.
extern "C" fn unlisted(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    /// What siginfo_t begins with for this signal (include/uapi/asm-generic/siginfo.h); libc has no field for the call.
    #[repr(C)]
    struct Refused {
        head: [i32; 4],
        address: u64,
        call: i32,
    }
    // SAFETY: for SIGSYS the kernel fills the structure (128 bytes) with these fields.
    let call = unsafe { (*info.cast::<Refused>()).call };
    let mut line = *b"gwtap: system call      is not in this process's list (privilege/syscalls): it ends\n";
    let mut rest = call.unsigned_abs();
    // The digits' places, the last one first.
    for place in line.iter_mut().skip(19).take(4).rev() {
        *place = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    // SAFETY: the bytes are this function's own; the call is safe in a handler (signal-safety(7)).
    let _unwritten = unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
    // SAFETY: safe in a handler too, and runs nothing of the program's.
    unsafe { libc::_exit(i32::from(crate::cli::FAILED)) }
}

fn failed(error: impl ToString) -> PrivilegeError {
    PrivilegeError::system("giving up system calls (seccomp)", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_compiles_and_every_rule_says_who_makes_the_call() {
        for list in Calls::ALL {
            assert!(!list.compiled().unwrap().is_empty());
            let text: serde_json::Value = serde_json::from_str(list.text()).unwrap();
            let rules = text[list.name()]["filter"].as_array().unwrap();
            let names: Vec<_> = rules.iter().map(|rule| rule["syscall"].as_str().unwrap()).collect();
            assert!(names.is_sorted(), "{names:?}");
            for rule in rules {
                assert!(rule["comment"].as_str().is_some_and(|comment| comment.len() > 10), "{rule}");
            }
            for never in ["execve", "execveat", "ptrace", "fork", "vfork", "process_vm_readv", "io_uring_setup"] {
                assert!(!names.contains(&never), "{never}");
            }
        }
    }
}
