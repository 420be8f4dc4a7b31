//! Leaks: ways by which the machine would write a process's memory to disk.
//!
//! In: `/proc/swaps` and the core pattern. Out: nothing, or the refusal with what to do. Locked memory is not swapped and
//! an undumpable process leaves no core; both are asked for all the same, because hibernation and a kernel that is set up
//! by somebody else do not keep to it.

use super::{Privilege, PrivilegeError};

const SWAPS: &str = "/proc/swaps";
const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

/// Whether this machine keeps memory in memory, or somebody answers for it that it does not.
///
/// # Errors
/// Active swap, or cores that go into a program, and no exception; a file that does not say.
pub fn check(written: &Privilege) -> Result<(), PrivilegeError> {
    let exceptions = judge(written, &read(SWAPS)?, &read(CORE_PATTERN)?)?;
    for (key, reason) in exceptions {
        tracing::warn!(key, reason, "an exception is in force");
    }
    Ok(())
}

/// The exceptions that are made use of; a refusal ends in `; ` and what to do.
pub(crate) fn judge<'a>(
    written: &'a Privilege,
    swaps: &str,
    core_pattern: &str,
) -> Result<Vec<(&'static str, &'a str)>, PrivilegeError> {
    let mut exceptions = Vec::new();
    // The first line is a heading; each further one is an area in use.
    let area = swaps.lines().skip(1).find_map(|line| line.split_whitespace().next());
    if let Some(area) = area {
        let Some(allowed) = &written.swap else {
            return Err(PrivilegeError::Leak(format!(
                "privilege.swap: {area} is active: memory with keys and addresses could be written to it; swapoff -a (and \
                 take it out of /etc/fstab), or write in [privilege] swap = \"allowed: REASON\""
            )));
        };
        exceptions.push(("privilege.swap", allowed.reason()));
    }
    if core_pattern.starts_with('|') {
        let Some(allowed) = &written.core_pattern else {
            return Err(PrivilegeError::Leak(format!(
                "privilege.core_pattern: cores are piped into a program ({}); sysctl kernel.core_pattern=core, or write in \
                 [privilege] core_pattern = \"allowed: REASON\"",
                core_pattern.trim()
            )));
        };
        exceptions.push(("privilege.core_pattern", allowed.reason()));
    }
    Ok(exceptions)
}

/// A file that is hidden is no answer.
fn read(path: &'static str) -> Result<String, PrivilegeError> {
    std::fs::read_to_string(path).map_err(|error| {
        PrivilegeError::Leak(format!(
            "{path}: {error}: whether memory could be written to disk cannot be told; let the process read it \
             (systemd: no ProcSubset=pid)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

    fn written(text: &str) -> Privilege {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn swap_and_piped_cores_are_refused_unless_allowed_in_writing() {
        let swap = format!("{HEADING}/dev/dm-1    partition\t8388604\t\t0\t\t-2\n");
        let pipe = "|/usr/share/apport/apport -p%p\n";
        let none = Privilege::default();
        assert!(judge(&none, HEADING, "core\n").unwrap().is_empty());

        let refused = judge(&none, &swap, "core\n").unwrap_err().to_string();
        assert!(refused.contains("privilege.swap: /dev/dm-1 is active"), "{refused}");
        let refused = judge(&none, HEADING, pipe).unwrap_err().to_string();
        assert!(refused.contains("privilege.core_pattern: cores are piped"), "{refused}");

        let swap_only = written("swap = \"allowed: encrypted\"");
        assert_eq!(judge(&swap_only, &swap, "core\n").unwrap(), [("privilege.swap", "encrypted")]);
        judge(&swap_only, &swap, pipe).unwrap_err();
        let both = written("swap = \"allowed: encrypted\"\ncore_pattern = \"allowed: kept in memory\"");
        assert_eq!(judge(&both, &swap, pipe).unwrap().len(), 2);
        assert!(judge(&both, HEADING, "core\n").unwrap().is_empty(), "an exception that nobody needs is none");
    }
}
