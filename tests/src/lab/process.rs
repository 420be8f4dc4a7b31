//! Processes of the laboratory. In: a command. Out: a process that is ended, by its pid, when its handle goes.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

/// How often a waiting caller looks again.
const POLL: Duration = Duration::from_millis(20);

/// A running process; what it prints goes to a file. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

fn append(name: &str, log: &Path) -> Result<File> {
    let opened = File::options().create(true).append(true).open(log);
    opened.with_context(|| format!("{}: the log of {name}", log.display()))
}

impl Process {
    /// Starts `command`; both its outputs are appended to `log`.
    ///
    /// # Errors
    /// Where the log cannot be made or the program does not start.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let out = append(name, log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        Self::spawn(name, command, log)
    }

    /// Starts `command` with these ends as its standard input and output; what it complains of is appended to `log`.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_between(name: &str, mut command: Command, ends: (OwnedFd, OwnedFd), log: &Path) -> Result<Self> {
        command.stdin(Stdio::from(ends.0)).stdout(Stdio::from(ends.1)).stderr(append(name, log)?);
        Self::spawn(name, command, log)
    }

    fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        // SAFETY: between fork and exec the closure changes the signal mask and nothing else.
        unsafe { command.pre_exec(unblock_signals) };
        // Its own process group: Ctrl-C reaches the laboratory alone, which then ends things in order.
        let child = command.process_group(0).spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Where it is gone already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// Where the system cannot tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended after `at_most`.
    pub fn wait(&mut self, at_most: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + at_most;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= until {
                bail!("{} has not ended after {at_most:?}; it said:\n{}", self.name, tail(&self.output()));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it has not ended after `at_most`.
    pub fn terminate(&mut self, at_most: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(at_most)
    }

    /// Ends it at once (SIGKILL) and reaps it.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until `ready` holds while the process lives.
    ///
    /// # Errors
    /// When the process ended before, or `at_most` passed; its last lines are part of the error.
    pub fn wait_until(&mut self, what: &str, at_most: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let until = Instant::now() + at_most;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before {what}; it said:\n{}", self.name, tail(&self.output()));
            }
            if Instant::now() >= until {
                bail!("{}: no {what} after {at_most:?}; it said:\n{}", self.name, tail(&self.output()));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

/// A laboratory that waits for Ctrl-C blocks these signals, and its children would inherit that: nothing could end them
/// in order.
fn unblock_signals() -> std::io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    Ok(signals.thread_unblock()?)
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Nothing is left to do with a failure: the process is then gone already.
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Waits until `ready` holds.
///
/// # Errors
/// When `at_most` passed.
pub fn wait_until(what: &str, at_most: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
    let until = Instant::now() + at_most;
    while !ready() {
        if Instant::now() >= until {
            bail!("no {what} after {at_most:?}");
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// The last lines of a log: what an error has room for.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
