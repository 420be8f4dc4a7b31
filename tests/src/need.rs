//! What a check needs from its machine. In: the name of a tool or a privilege. Out: whether it is there. A check that
//! cannot run says so and returns; the reason lands in the file that `cargo xtask test` names in `GWTAP_NOT_RUN`
//! (`check<TAB>reason`, one a line), which it prints as its closing table. With `GWTAP_COMPLETE=1` an absence is a failure.
//!
//! ```no_run
//! # fn check() {
//! if !tap_tests::need::root() {
//!     return;
//! }
//! let Some(tshark) = tap_tests::need::tool("tshark") else { return };
//! # let _ = tshark;
//! # }
//! ```

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The file that gets a line for every check that could not run.
pub const NOT_RUN: &str = "GWTAP_NOT_RUN";
/// Set to `1`: what is absent fails the check instead of skipping it.
pub const COMPLETE: &str = "GWTAP_COMPLETE";
/// Set to `1`: the counts that a release must show instead of the short ones.
pub const LONG: &str = "GWTAP_LONG";

/// How the reason of a check begins that belongs to virtual machines.
pub const VM_RING: &str = "it runs in virtual machines: cargo xtask test --vm";

/// Whether the caller is root with what namespaces and BPF take. If not, the running check is noted as not run.
#[must_use]
pub fn root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    absent("it needs root (network namespaces, BPF)");
    false
}

/// Whether the caller runs inside a virtual machine of `cargo xtask test --vm`. If not, the running check is noted as one of
/// that ring; that is no failure anywhere, since the ring is a run of its own.
#[must_use]
pub fn virtual_machine(what: &str) -> bool {
    if inside_machine() {
        return true;
    }
    elsewhere(what);
    false
}

/// Notes that the running check, or a part of it, could not run because this kernel was built without `what`, which stock
/// kernels have: it belongs to the virtual machines, and is absent only where it is missing there.
///
/// # Panics
/// As [`absent`], inside a virtual machine.
pub fn kernel_without(what: &str) {
    if inside_machine() {
        absent(&format!("the kernel has no {what}"));
    } else {
        elsewhere(&format!("the kernel here has no {what}"));
    }
}

fn elsewhere(why: &str) {
    let check = std::thread::current().name().unwrap_or("main").to_owned();
    note(std::env::var_os(NOT_RUN).as_deref().map(Path::new), &check, &format!("{VM_RING} ({why})"));
}

/// Whether the caller runs inside a virtual machine of `cargo xtask test --vm`, which is most often an emulated one.
#[must_use]
pub fn inside_machine() -> bool {
    std::env::var_os(tap_vm_init::plan::INSIDE).is_some_and(|value| value == "1")
}

/// Where the program `name` lies, searched in `PATH` and the system's own directories. If nowhere, the running check is
/// noted as not run.
#[must_use]
pub fn tool(name: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        absent(&format!("it needs `{name}` (cargo xtask setup --test installs it)"));
    }
    found
}

/// Where `cargo xtask setup` puts what is no package of the system: beside what cargo builds.
///
/// # Errors
/// The running program does not lie in a target directory.
pub fn tools() -> std::io::Result<PathBuf> {
    let here = std::env::current_exe()?;
    // target/<profile>/deps/<test> for tests, target/<profile>/<program> for xtask.
    let profile =
        here.parent().map(|parent| if parent.ends_with("deps") { parent.parent().unwrap_or(parent) } else { parent });
    let target = profile.and_then(Path::parent);
    target.map(|target| target.join("tools")).ok_or_else(|| std::io::Error::other("no target directory"))
}

/// Where the program `name` lies, if anywhere; notes nothing.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .chain(tools().map(|tools| tools.join(name).join("bin")))
        .map(|directory| directory.join(name))
        .find(|file| executable(file))
}

/// Notes that the running check could not run, and why. For needs that are neither root nor a tool.
///
/// # Panics
/// With `GWTAP_COMPLETE=1`: there an absence is a failure, and in a test a panic is the report.
pub fn absent(reason: &str) {
    // A test's thread carries the test's name; this saves every caller from repeating it.
    let check = std::thread::current().name().unwrap_or("main").to_owned();
    note(std::env::var_os(NOT_RUN).as_deref().map(Path::new), &check, reason);
    assert!(std::env::var_os(COMPLETE).is_none_or(|value| value != "1"), "{check} could not run: {reason}");
}

/// Whether the long counts are asked for (`cargo xtask test --long`).
#[must_use]
pub fn long() -> bool {
    std::env::var_os(LONG).is_some_and(|value| value == "1")
}

fn note(file: Option<&Path>, check: &str, reason: &str) {
    eprintln!("not run: {check}: {reason}");
    let Some(file) = file else { return };
    let line = format!("{check}\t{reason}\n");
    // One write of a short line in append mode: tests of several processes do not mix their lines.
    let written = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("{}: {error}", file.display());
    }
}

fn executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_found_or_not() {
        assert!(find("sh").is_some());
        assert_eq!(find("a-tool-that-nobody-made"), None);
    }

    #[test]
    fn what_could_not_run_is_noted_one_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("not-run");
        note(Some(&file), "first", "no root");
        note(Some(&file), "second", "no tshark");
        assert_eq!(std::fs::read_to_string(file).unwrap(), "first\tno root\nsecond\tno tshark\n");
    }
}
