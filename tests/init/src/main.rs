//! First process of a virtual machine of the tests: mounts what they need, loads modules, runs the plan's programs one after
//! another, reports on the second serial port, and ends the machine through QEMU's `isa-debug-exit`. If it fails itself, the
//! kernel panics and QEMU's exit code is not the one of success. Nothing of it runs outside a virtual machine.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::termios::tcdrain;

use tap_vm_init::plan::{self, Plan, Program};
use tap_vm_init::report::{Counts, EXIT_FAILED, EXIT_PASSED, EXIT_PORT, Event};

/// The first serial port carries the console: kernel and programs.
const CONSOLE: &str = "/dev/ttyS0";
/// The second carries the report alone, so that no message of the kernel can cut one of its lines.
const REPORT: &str = "/dev/ttyS1";

fn main() -> Result<()> {
    mount_all()?;
    let mut report = OpenOptions::new().write(true).open(REPORT).context(REPORT)?;
    let passed = match work(&mut report) {
        Ok(passed) => passed,
        Err(error) => {
            say(&mut report, &Event::Broken(format!("{error:#}")))?;
            false
        }
    };
    end(&report, if passed { EXIT_PASSED } else { EXIT_FAILED })
}

/// Runs the plan; whether everything passed.
fn work(report: &mut File) -> Result<bool> {
    let plan = Plan::parse(&std::fs::read_to_string(plan::FILE).context(plan::FILE)?)?;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    let cpus = std::thread::available_parallelism()?.get();
    say(report, &Event::Start { release, cpus })?;
    for module in &plan.modules {
        let file = File::open(module).with_context(|| module.clone())?;
        finit_module(&file, c"", ModuleInitFlags::empty()).with_context(|| format!("loading {module}"))?;
    }
    let (mut sum, mut success) = (Counts::default(), true);
    for program in &plan.programs {
        let started = Instant::now();
        let (counts, ended_well) = run(program, &plan.environment).with_context(|| program.file.clone())?;
        let milliseconds = u64::try_from(started.elapsed().as_millis())?;
        let name = program.name.clone();
        say(report, &Event::Program { name, counts, success: ended_well, milliseconds })?;
        sum.add(counts);
        success &= ended_well && counts.failed == 0;
    }
    not_run(report)?;
    say(report, &Event::End { programs: plan.programs.len(), counts: sum })?;
    Ok(success)
}

/// Runs a test program; its output goes to the console and is searched for the result.
fn run(program: &Program, environment: &[(String, String)]) -> Result<(Counts, bool)> {
    println!("== {}", program.name);
    let mut child = Command::new(&program.file)
        .args(&program.words)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env(plan::INSIDE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut result = None;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line?;
            println!("{line}");
            result = Counts::of_result_line(&line).or(result);
        }
    }
    let status = child.wait()?;
    println!("== {}: {status}", program.name);
    Ok((result.unwrap_or_default(), status.success() && result.is_some()))
}

/// What programs noted as not run, in their order.
fn not_run(report: &mut File) -> Result<()> {
    if !Path::new(plan::NOT_RUN).exists() {
        return Ok(());
    }
    for line in std::fs::read_to_string(plan::NOT_RUN)?.lines() {
        if let Some((check, reason)) = line.split_once('\t') {
            say(report, &Event::NotRun { check: check.to_owned(), reason: reason.to_owned() })?;
        }
    }
    Ok(())
}

fn mount_all() -> Result<()> {
    let mounts = [("proc", "/proc", "proc"), ("sysfs", "/sys", "sysfs"), ("devtmpfs", "/dev", "devtmpfs")];
    // Everything else lies in memory anyway: the root is a tmpfs.
    for directory in ["/tmp", "/run"] {
        std::fs::create_dir_all(directory)?;
    }
    for (source, target, kind) in mounts {
        std::fs::create_dir_all(target)?;
        mount(Some(source), target, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting {target}"))?;
    }
    Ok(())
}

fn say(report: &mut File, event: &Event) -> Result<()> {
    writeln!(report, "{event}").context(REPORT)
}

/// Ends the machine. Lines that are still under way to a serial port would be lost with it.
fn end(report: &File, word: u8) -> Result<()> {
    tcdrain(report).context(REPORT)?;
    tcdrain(File::open(CONSOLE).context(CONSOLE)?).context(CONSOLE)?;
    // SAFETY: the call takes plain numbers and changes what this thread may do alone.
    let allowed = unsafe { libc::ioperm(EXIT_PORT.into(), 1, 1) };
    if allowed != 0 {
        return Err(std::io::Error::last_os_error()).context("access to the exit port");
    }
    // SAFETY: the instruction touches neither memory nor flags; the device at this port ends the machine, nothing else.
    unsafe {
        std::arch::asm!("out dx, al", in("dx") EXIT_PORT, in("al") word, options(nomem, nostack, preserves_flags));
    }
    bail!("the machine has no isa-debug-exit at port {EXIT_PORT:#x}")
}
