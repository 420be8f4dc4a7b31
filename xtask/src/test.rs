//! `cargo xtask test`: builds, runs every test, and closes with what could not run and with one plain line of counts. In: the
//! working tree. Out: the tests' own output, a table, `N passed, N failed`. It installs nothing.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use tap_tests::need;
use tap_vm_init::report::Counts;

use crate::command::{cargo, run, target};
use crate::test_programs::{self, How, Job, Ran};
use crate::test_record::Record;
use crate::test_vm;

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A check that cannot run is a failure (CI, after `cargo xtask setup --test`); what only a virtual machine can run is run
    /// in one
    #[arg(long)]
    complete: bool,
    /// The counts that a release must show; takes long
    #[arg(long)]
    long: bool,
    /// What the run before did not show: checks that could not run, programs that failed or were built anew since
    #[arg(long)]
    rest: bool,
    /// Test programs at a time; those that measure time run alone [default: as many as this machine has CPUs]
    #[arg(long, value_name = "N")]
    at_a_time: Option<usize>,
    #[command(flatten)]
    machines: test_vm::Args,
}

pub(crate) fn test(args: &Args) -> Result<ExitCode> {
    // With --complete the machines come after everything else, without it they are asked for alone.
    if let Some(names) = args.machines.vm.as_ref().filter(|_| !args.complete) {
        let total = test_vm::test(names, &args.machines)?;
        return Ok(closed(total.close()));
    }
    let started = Instant::now();
    // One build of everything, so that programs and tests share their dependencies' features.
    run(cargo().args(["build", "--workspace", "--all-targets"]))?;
    println!("built in {} s", started.elapsed().as_secs());

    let started = Instant::now();
    let Here { counts, success, absent } = here(args)?;
    if !absent.is_empty() {
        println!("\nnot run:");
        let width = absent.iter().map(|(check, _)| check.len()).max().unwrap_or(0);
        for (check, reason) in &absent {
            println!("  {check:<width$}  {reason}");
        }
    }
    println!("\ntests took {} s; {} checks could not run", started.elapsed().as_secs(), absent.len());
    let (in_machines, missing): (Vec<_>, Vec<_>) =
        absent.into_iter().partition(|(_, reason)| reason.starts_with(need::VM_RING));
    let in_machines: BTreeSet<String> = in_machines.into_iter().map(|(check, _)| check).collect();
    let there = match &args.machines.vm {
        Some(names) => test_vm::with_these(names, &args.machines, &in_machines)?,
        None if args.complete && !in_machines.is_empty() => {
            Counts { passed: test_vm::these(&in_machines)?, ..Counts::default() }
        }
        None => Counts::default(),
    };
    let failed = counts.failed + there.failed;
    println!("{} passed, {failed} failed", counts.passed + there.passed);
    if args.complete && !missing.is_empty() {
        bail!("--complete: every check has to run");
    }
    Ok(closed(success && failed == 0))
}

fn closed(success: bool) -> ExitCode {
    if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the programs on this machine showed.
struct Here {
    counts: Counts,
    success: bool,
    absent: BTreeSet<(String, String)>,
}

fn here(args: &Args) -> Result<Here> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let at_a_time = args.at_a_time.unwrap_or(cpus);
    let how = How { at_a_time, complete: args.complete, long: args.long, gwtap: gwtap()? };
    let programs = test_programs::programs()?;
    let whole = |program| Job { program, checks: BTreeSet::new() };
    let record = if args.rest { Record::read()? } else { None };
    let (jobs, passed_before) = match &record {
        Some(record) => {
            let of = programs.len();
            let (jobs, passed) = record.rest(programs, &how.gwtap, args.long)?;
            println!(
                "the run before showed {passed} checks; of {of} test programs {} are left, or a part of them",
                jobs.len()
            );
            (jobs, passed)
        }
        None => (programs.into_iter().chain([test_programs::documentation()]).map(whole).collect(), 0),
    };
    let ran = test_programs::run_all(jobs, &how)?;
    if record.is_none() {
        Record::of(&ran, &how.gwtap, args.long)?.write()?;
    }
    let mut counts = Counts { passed: passed_before, ..Counts::default() };
    ran.iter().for_each(|one| counts.add(one.counts));
    let absent = ran.iter().flat_map(|one: &Ran| one.not_run.iter().cloned()).collect();
    for one in ran.iter().filter(|one| !one.success) {
        println!("FAILED: {}", one.program.name);
    }
    Ok(Here { counts, success: ran.iter().all(|one| one.success), absent })
}

/// The binary that the integration tests start, as just built.
pub(crate) fn gwtap() -> Result<std::path::PathBuf> {
    let file = target().join("debug/gwtap");
    if !file.exists() {
        bail!("{}: not built", file.display());
    }
    Ok(file)
}
