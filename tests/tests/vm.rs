//! The virtual machines themselves: a test that fails inside fails the run, and so does a machine that hangs or dies. The test
//! that does so is in this very program, which the machines run as they run every other.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tap_tests::need;
use tap_tests::vm::judge::Ending;
use tap_tests::vm::kernel::{self, Kernel};
use tap_tests::vm::{self, Machine, Outcome, TestProgram, qemu};
use tap_vm_init::plan;

/// What the planted test is to do; nothing if it is not set.
const PLANT: &str = "GWTAP_PLANT";
/// How long a machine may take that is to hang. One that has not even booted by then is another one that never reports.
const HANG_MAX: Duration = Duration::from_secs(15);

#[test]
fn planted() {
    let inside = std::env::var_os(plan::INSIDE).is_some() && Path::new(plan::FILE).exists();
    let wish = std::env::var(PLANT).unwrap_or_default();
    match wish.as_str() {
        "fail" => assert!(wish.is_empty(), "planted failure"),
        "hang" => std::thread::sleep(Duration::from_secs(3_600)),
        // Only where there is a machine of ours to crash.
        "crash" if inside => std::fs::write("/proc/sysrq-trigger", "c").unwrap_or(()),
        "end" => std::process::exit(0),
        _ => {}
    }
}

/// Whatever kernel is there without a download.
fn any_kernel() -> Result<Option<Kernel>> {
    if let Ok(kernel) = kernel::in_boot() {
        return Ok(Some(kernel));
    }
    Ok(kernel::pins()?.kernel.iter().find_map(kernel::Pin::cached))
}

/// Runs the planted test in a machine; `None` where no machine can run.
fn boot(plant: &str, at_most: Duration) -> Result<Option<Outcome>> {
    if need::tool(qemu::PROGRAM).is_none() {
        return Ok(None);
    }
    let Some(kernel) = any_kernel()? else {
        need::absent("it needs a kernel in /boot or in the cache (cargo xtask setup --test fetches pinned ones)");
        return Ok(None);
    };
    let program = TestProgram {
        name: "vm".into(),
        file: std::env::current_exe().context("this program")?,
        filter: vec!["--exact".into(), "planted".into()],
    };
    let environment = vec![(PLANT.to_owned(), plant.to_owned())];
    let machine = Machine { at_most, environment, ..Machine::new(kernel) };
    let directory = tempfile::tempdir()?;
    Ok(Some(vm::run(&machine, &[program], directory.path())?))
}

#[test]
fn a_test_that_passes_inside_passes() -> Result<()> {
    let Some(outcome) = boot("nothing", vm::limits::RUN_MAX)? else { return Ok(()) };
    ensure!(outcome.faults.is_empty(), "{:?}\n{}", outcome.faults, outcome.console);
    Ok(())
}

#[test]
fn a_test_that_fails_inside_fails_the_run() -> Result<()> {
    let Some(outcome) = boot("fail", vm::limits::RUN_MAX)? else { return Ok(()) };
    ensure!(outcome.ending == Ending::Exit(Some(35)), "{:?}", outcome.ending);
    ensure!(outcome.console.contains("planted failure"), "the console shows why: {}", outcome.console);
    ensure!(outcome.faults.iter().any(|fault| fault.contains("vm: 1 of its tests failed")), "{:?}", outcome.faults);
    Ok(())
}

#[test]
fn a_program_that_ends_without_a_result_fails_the_run() -> Result<()> {
    let Some(outcome) = boot("end", vm::limits::RUN_MAX)? else { return Ok(()) };
    ensure!(outcome.faults.iter().any(|fault| fault.contains("vm: 0 tests ran of 1")), "{:?}", outcome.faults);
    Ok(())
}

#[test]
fn a_machine_that_never_reports_fails_the_run() -> Result<()> {
    let Some(outcome) = boot("hang", HANG_MAX)? else { return Ok(()) };
    ensure!(outcome.ending == Ending::TimeOut, "{:?}", outcome.ending);
    ensure!(outcome.faults.iter().any(|fault| fault.contains("vm: never reported")), "{:?}", outcome.faults);
    Ok(())
}

#[test]
fn a_machine_whose_kernel_dies_fails_the_run() -> Result<()> {
    let Some(outcome) = boot("crash", vm::limits::RUN_MAX)? else { return Ok(()) };
    ensure!(outcome.ending == Ending::Exit(Some(0)), "QEMU's code of a panic is 0: {:?}", outcome.ending);
    ensure!(outcome.faults.iter().any(|fault| fault.contains("never reported")), "{:?}", outcome.faults);
    Ok(())
}
