//! `cargo xtask test`: builds, runs every test, and closes with what could not run and with one plain line of counts. In: the
//! working tree. Out: the tests' own output, a table, `N passed, N failed`. It installs nothing.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use tap_tests::need;
use tap_vm_init::report::Counts;

use crate::command::{cargo, run, shown, target};
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
    #[command(flatten)]
    machines: test_vm::Args,
}

pub(crate) fn test(args: &Args) -> Result<ExitCode> {
    if let Some(names) = &args.machines.vm {
        return test_vm::test(names, &args.machines);
    }
    let started = Instant::now();
    // One build of everything, so that programs and tests share their dependencies' features.
    run(cargo().args(["build", "--workspace", "--all-targets"]))?;
    println!("built in {} s", started.elapsed().as_secs());

    let not_run = std::env::temp_dir().join(format!("gwtap-not-run-{}", std::process::id()));
    let started = Instant::now();
    let (counts, success) = run_tests(args, &not_run)?;
    let seconds = started.elapsed().as_secs();
    let absent = read_not_run(&not_run)?;

    if !absent.is_empty() {
        println!("\nnot run:");
        let width = absent.iter().map(|(check, _)| check.len()).max().unwrap_or(0);
        for (check, reason) in &absent {
            println!("  {check:<width$}  {reason}");
        }
    }
    println!("\ntests took {seconds} s; {} checks could not run", absent.len());
    let (in_machines, missing): (Vec<_>, Vec<_>) =
        absent.into_iter().partition(|(_, reason)| reason.starts_with(need::VM_RING));
    let in_machines: BTreeSet<String> = in_machines.into_iter().map(|(check, _)| check).collect();
    let passed_there = if args.complete && !in_machines.is_empty() { test_vm::these(&in_machines)? } else { 0 };
    println!("{} passed, {} failed", counts.passed + passed_there, counts.failed);
    if args.complete && !missing.is_empty() {
        bail!("--complete: every check has to run");
    }
    Ok(if success && counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_tests(args: &Args, not_run: &Path) -> Result<(Counts, bool)> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]).env(need::NOT_RUN, not_run);
    command.env(tap_tests::gwtap::BINARY, gwtap()?);
    command.env(need::COMPLETE, if args.complete { "1" } else { "0" });
    command.env(need::LONG, if args.long { "1" } else { "0" });
    println!("+ {}", shown(&command));
    let mut child = command.stdout(Stdio::piped()).spawn().context("cargo test did not start")?;
    let out = child.stdout.take().context("no output of cargo test")?;
    let mut counts = Counts::default();
    for line in BufReader::new(out).lines() {
        let line = line.context("reading the output of cargo test")?;
        println!("{line}");
        if let Some(of_program) = Counts::of_result_line(&line) {
            counts.add(of_program);
        }
    }
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        println!("a test program ended without a result ({status})");
    }
    Ok((counts, status.success()))
}

/// The binary that the integration tests start, as just built.
pub(crate) fn gwtap() -> Result<std::path::PathBuf> {
    let file = target().join("debug/gwtap");
    if !file.exists() {
        bail!("{}: not built", file.display());
    }
    Ok(file)
}

fn read_not_run(file: &Path) -> Result<BTreeSet<(String, String)>> {
    if !file.exists() {
        return Ok(BTreeSet::new());
    }
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    std::fs::remove_file(file).with_context(|| file.display().to_string())?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(check, reason)| (check.to_owned(), reason.to_owned()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_run_is_listed_once() {
        let file = std::env::temp_dir().join(format!("gwtap-not-run-test-{}", std::process::id()));
        std::fs::write(&file, "a\tno root\na\tno root\nb\tno tshark\n").unwrap();
        let listed = read_not_run(&file).unwrap();
        assert_eq!(listed.len(), 2);
        assert!(!file.exists());
    }
}
