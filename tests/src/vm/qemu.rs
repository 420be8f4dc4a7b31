//! QEMU. In: an image, a disk, CPUs, an accelerator. Out: how it ended, what it reported. The console goes to a file, the
//! report to another; the process is ended by its handle when its time is over, and with this process. Two virtio-net
//! interfaces are linked to each other inside QEMU; no packet leaves it.

use std::fmt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::judge::Ending;
use super::limits::MEMORY_MEGABYTES;

/// The program, in Debian's package qemu-system-x86.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// How often a waiting caller looks again.
const POLL: Duration = Duration::from_millis(50);

/// What executes the machine's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accelerator {
    /// Software: everywhere.
    #[default]
    Tcg,
    /// The processor, where `/dev/kvm` is there and boots stock kernels.
    Kvm,
}

impl FromStr for Accelerator {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "tcg" => Ok(Self::Tcg),
            "kvm" => Ok(Self::Kvm),
            _ => bail!("{text}: an accelerator is tcg or kvm"),
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        })
    }
}

/// What QEMU is given.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// The kernel's image.
    pub image: &'a Path,
    /// The initial RAM disk.
    pub disk: &'a Path,
    /// Gets what kernel and programs print.
    pub console: &'a Path,
    /// Gets the report.
    pub report: &'a Path,
    /// CPUs.
    pub cpus: u8,
    /// What executes them.
    pub accelerator: Accelerator,
}

/// Runs a machine until it ends or `at_most` passed.
///
/// # Errors
/// QEMU does not start.
pub fn run(boot: &Boot<'_>, at_most: Duration) -> Result<Ending> {
    let mut machine = Machine(
        command(boot)
            .spawn()
            .with_context(|| format!("{PROGRAM} does not start (cargo xtask setup --test installs it)"))?,
    );
    let until = Instant::now() + at_most;
    loop {
        if let Some(status) = machine.0.try_wait()? {
            return Ok(Ending::Exit(status.code()));
        }
        if Instant::now() >= until {
            return Ok(Ending::TimeOut);
        }
        std::thread::sleep(POLL);
    }
}

/// A running QEMU; ended with its handle.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // Nothing is left to do with a failure: the process is then gone already.
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }
}

fn command(boot: &Boot<'_>) -> Command {
    let Boot { image, disk, console, report, cpus, accelerator } = boot;
    let accelerator = match accelerator {
        // Two emulated CPUs on two threads have crashed stock kernels; on one thread they have not.
        Accelerator::Tcg => "tcg,thread=single",
        Accelerator::Kvm => "kvm",
    };
    let cpu = if accelerator == "kvm" { "host" } else { "max" };
    let mut command = Command::new(PROGRAM);
    command.args(["-M", "q35", "-accel", accelerator, "-cpu", cpu]);
    command.args(["-smp", &cpus.to_string(), "-m", &MEMORY_MEGABYTES.to_string()]);
    command.args(["-nodefaults", "-no-reboot", "-display", "none"]);
    for file in [console, report] {
        command.arg("-serial").arg(format!("file:{}", file.display()));
    }
    command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
    for end in ["left", "right"] {
        command.args(["-netdev", &format!("hubport,id={end},hubid=0")]);
        command.args(["-device", &format!("virtio-net-pci,netdev={end},romfile=")]);
    }
    command.arg("-kernel").arg(image).arg("-initrd").arg(disk).args(["-append", APPEND]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: between fork and exec the closure makes one system call that takes plain numbers.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?));
    }
    command
}

/// The kernel's words: the first serial port is the console, an oops is a panic, a panic ends the machine.
const APPEND: &str = "console=ttyS0 panic=-1 oops=panic quiet net.ifnames=0 random.trust_cpu=on";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accelerators_are_named() {
        for accelerator in [Accelerator::Tcg, Accelerator::Kvm] {
            assert_eq!(accelerator.to_string().parse::<Accelerator>().unwrap(), accelerator);
        }
        assert!("xen".parse::<Accelerator>().is_err());
    }
}
