//! A clock that the laboratory sets, for one process alone: the machine's own is left as it is. In: an offset, a state of
//! synchronisation. Out: the environment under which a process sees them, by a small library that is put before the C
//! library's. What bounds it: the process; its library and file end with the handle.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// What the process reads of the machine's time server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronised {
    /// As the kernel has it.
    Kernel = 0,
    /// It is.
    Yes = 1,
    /// It is not.
    No = 2,
}

/// A process's clock.
#[derive(Debug)]
pub struct Clock {
    directory: tempfile::TempDir,
    file: File,
}

impl Clock {
    /// Compiles the library with `compiler` (a C compiler's program).
    ///
    /// # Errors
    /// Where it does not compile.
    pub fn new(compiler: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("gwtap-clock-").tempdir()?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clock/preload.c");
        let mut command = Command::new(compiler);
        command.args(["-shared", "-fPIC", "-O2", "-o"]).arg(directory.path().join("clock.so")).arg(source);
        let outcome = crate::gwtap::of(&mut command)?;
        ensure!(outcome.code == Some(0), "{}", outcome.stderr);
        let file = File::options().create(true).write(true).truncate(true).open(directory.path().join("clock"))?;
        let clock = Self { directory, file };
        clock.set(0, Synchronised::Kernel)?;
        Ok(clock)
    }

    /// Has `command` see this clock.
    pub fn show(&self, command: &mut Command) {
        let at = |name: &str| -> PathBuf { self.directory.path().join(name) };
        command.env("LD_PRELOAD", at("clock.so")).env("GWTAP_LABORATORY_CLOCK", at("clock"));
    }

    /// Sets it `offset_ns` from the machine's.
    ///
    /// # Errors
    /// Where its file cannot be written.
    pub fn set(&self, offset_ns: i64, synchronised: Synchronised) -> Result<()> {
        let mut words = offset_ns.to_ne_bytes().to_vec();
        words.extend((synchronised as i64).to_ne_bytes());
        Ok(self.file.write_all_at(&words, 0)?)
    }
}
