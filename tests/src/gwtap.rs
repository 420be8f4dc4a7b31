//! The `gwtap` program under test. In: a verb's words. Out: what it said, or its refusal with the exit code.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};

/// Names the program to test; without it the harness builds one.
pub const BINARY: &str = "GWTAP_BIN";

/// The program: the one that `GWTAP_BIN` names, or the one built beside the running test, brought up to date first.
///
/// # Errors
/// Where it cannot be built.
pub fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    if let Some(named) = std::env::var_os(BINARY) {
        return Ok(named.into());
    }
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    // target/<profile>/deps/<test> for tests, target/<profile>/<program> for xtask.
    let mut directory = here.parent().context("no directory of the running program")?;
    if directory.ends_with("deps") {
        directory = directory.parent().context("no profile directory")?;
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet"]);
    // The same packages as whoever runs us was built with: then their dependencies' features agree and nothing is built twice.
    if directory.ends_with("release") {
        cargo.args(["--release", "--package", "tap-userspace", "--package", "xtask", "--bin", "gwtap"]);
    } else {
        cargo.args(["--workspace", "--all-targets"]);
    }
    if let Some(target) = directory.parent() {
        cargo.arg("--target-dir").arg(target);
    }
    if !cargo.current_dir(workspace).status().context("cargo")?.success() {
        bail!("gwtap could not be built");
    }
    Ok(directory.join("gwtap"))
}

/// How a verb ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// Runs `gwtap` with these words in `directory` and waits for it.
///
/// # Errors
/// Where it does not start; a failure of its own is in the [`Outcome`].
pub fn outcome<S: AsRef<OsStr>>(directory: &Path, words: impl IntoIterator<Item = S>) -> Result<Outcome> {
    of(Command::new(binary()?).args(words).current_dir(directory))
}

/// Runs `gwtap` with these words in `directory`; gives what it printed.
///
/// # Errors
/// Where it fails: its own message is the error.
pub fn run<S: AsRef<OsStr>>(directory: &Path, words: impl IntoIterator<Item = S>) -> Result<String> {
    let mut command = Command::new(binary()?);
    command.args(words).current_dir(directory);
    let outcome = of(&mut command)?;
    if outcome.code != Some(0) {
        let line: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        bail!("gwtap {}: exit code {:?}: {}", line.join(" "), outcome.code, outcome.stderr.trim());
    }
    Ok(outcome.stdout)
}

/// Runs a prepared command and waits for it.
///
/// # Errors
/// Where it does not start.
pub fn of(command: &mut Command) -> Result<Outcome> {
    let output = command.output().with_context(|| format!("{}", command.get_program().to_string_lossy()))?;
    Ok(Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
