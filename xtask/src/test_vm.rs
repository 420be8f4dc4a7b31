//! `cargo xtask test --vm`: the integration tests in virtual machines. In: names of kernels. Out: a line for each program and
//! each machine with its time, a table of what could not run, one plain line of counts. It downloads nothing unless a pinned
//! kernel is named that is not in the cache.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use tap_tests::vm::qemu::Accelerator;
use tap_tests::vm::suite::{LIBRARY, Member, SUITE};
use tap_tests::vm::{self, Kernel, Machine, Outcome, TestProgram, kernel, limits};
use tap_vm_init::report::{Counts, Event};

use crate::command::{cargo, run, target};
use crate::test::gwtap;
use crate::test_programs::programs;

/// The kernel of this machine, as the argument names it.
const BOOT: &str = "boot";
/// How much of a console is shown after a failure; the whole is in the file that is named.
const CONSOLE_LINES: usize = 60;

/// Arguments of `cargo xtask test` for virtual machines.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Runs the tests that speak to the kernel in virtual machines instead (with --complete: afterwards): with the kernel in
    /// /boot, or with pinned ones of tests/kernels.toml
    #[arg(long, value_name = "KERNEL,…", num_args = 0..=1, require_equals = true, value_delimiter = ',', default_missing_value = BOOT)]
    pub(crate) vm: Option<Vec<String>>,
    /// What executes the machines: tcg (software) or kvm
    #[arg(long, value_name = "tcg|kvm", default_value_t, requires = "vm")]
    vm_accel: Accelerator,
    /// CPUs of the machines, one run for each number
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 2], requires = "vm")]
    vm_cpus: Vec<u8>,
    /// Runs these test programs alone
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', requires = "vm")]
    vm_programs: Vec<String>,
}

/// The tests that speak to the kernel, in machines with these kernels; several machines at a time, if there are CPUs for them.
pub(crate) fn test(names: &[String], args: &Args) -> Result<Total> {
    if let Some(name) = args.vm_programs.iter().find(|name| SUITE.iter().all(|member| member.name != name.as_str())) {
        let known: Vec<&str> = SUITE.iter().map(|member| member.name).collect();
        bail!("--vm-programs: {name} does not run in machines; these do: {}", known.join(", "));
    }
    let kernels = names.iter().map(|name| find(name)).collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    run(cargo().args(["build", "--workspace", "--all-targets"]))?;
    let programs = members()?;
    // Once, before several ask for it.
    vm::init()?;
    println!("built in {} s", started.elapsed().as_secs());

    let machines = kernels.iter().flat_map(|kernel| args.vm_cpus.iter().map(move |&cpus| (kernel, cpus)));
    let waiting = Mutex::new(machines.collect::<VecDeque<_>>());
    let next = || waiting.lock().ok()?.pop_front();
    let total = Mutex::new(Total::default());
    let work = || -> Result<()> {
        while let Some((kernel, cpus)) = next() {
            let (directory, outcome) = machine(kernel, cpus, args, &programs)?;
            let mut total = total.lock().map_err(|_poisoned| anyhow!("a thread that runs machines panicked"))?;
            println!("\n== kernel {}, {cpus} CPU{}, {}", kernel.name, if cpus == 1 { "" } else { "s" }, args.vm_accel);
            total.show(&outcome, &format!("{}, {cpus} CPU", kernel.name));
            if !outcome.faults.is_empty() {
                let lines: Vec<&str> = outcome.console.lines().rev().take(CONSOLE_LINES).collect();
                lines.into_iter().rev().for_each(|line| println!("  | {line}"));
                println!("  the whole console: {}", directory.join("console.txt").display());
            }
        }
        Ok(())
    };
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let widest = args.vm_cpus.iter().copied().max().unwrap_or(1).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..(cpus / usize::from(widest)).max(1)).map(|_| scope.spawn(work)).collect();
        let ends =
            workers.into_iter().map(|worker| worker.join().map_err(|_panic| anyhow!("a machine's thread panicked"))?);
        ends.collect::<Result<()>>()
    })?;
    total.into_inner().map_err(|_poisoned| anyhow!("a thread that runs machines panicked"))
}

fn machine(kernel: &Kernel, cpus: u8, args: &Args, programs: &[TestProgram]) -> Result<(PathBuf, Outcome)> {
    let chosen: Vec<TestProgram> = SUITE
        .iter()
        .zip(programs)
        .filter(|(member, _)| match args.vm_programs.as_slice() {
            [] => cpus == 1 || member.with_two_cpus,
            named => named.iter().any(|name| name == member.name),
        })
        .map(|(_, program)| program.clone())
        .collect();
    let directory = target().join(format!("vm/{}-{cpus}", kernel.name));
    let machine = Machine { cpus, accelerator: args.vm_accel, gwtap: Some(gwtap()?), ..Machine::new(kernel.clone()) };
    let outcome = vm::run(&machine, &chosen, &directory)?;
    Ok((directory, outcome))
}

/// The machines, and that `checks`, which this machine cannot run, could run there.
///
/// # Errors
/// As [`test`], or one of the checks is in no program of the suite or could run in no machine.
pub(crate) fn with_these(names: &[String], args: &Args, checks: &BTreeSet<String>) -> Result<Counts> {
    pick(&members()?, checks)?;
    let total = test(names, args)?;
    if let Some(check) = checks.iter().find(|check| total.everywhere_absent(check)) {
        bail!("{check} could run in no machine");
    }
    let counts = Counts { passed: total.passed, failed: total.failed, ignored: 0 };
    let success = total.summary();
    // A machine that died reports no failed test; it is a failure nevertheless.
    Ok(Counts { failed: if success { 0 } else { counts.failed.max(1) }, ..counts })
}

/// Of these programs those with one of the checks, and no other of their checks.
fn pick(programs: &[TestProgram], checks: &BTreeSet<String>) -> Result<Vec<TestProgram>> {
    let mut wanting = checks.clone();
    let mut chosen = Vec::new();
    for program in programs {
        let listed = Command::new(&program.file).arg("--list").output().context("a list of tests")?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
        let filter: Vec<String> = names.filter(|&name| wanting.remove(name)).map(str::to_owned).collect();
        if !filter.is_empty() {
            chosen.push(TestProgram { filter, ..program.clone() });
        }
    }
    if !wanting.is_empty() {
        bail!("checks for machines in no program of the suite: {wanting:?}");
    }
    Ok(chosen)
}

/// Runs these checks, which this machine cannot, in a machine with the oldest kernel. Returns how many passed.
///
/// # Errors
/// One of them failed there, could not run there either, or is in no program of the suite.
pub(crate) fn these(checks: &BTreeSet<String>) -> Result<u64> {
    let chosen = pick(&members()?, checks)?;
    let kernel = find(limits::CI_KERNELS[0])?;
    println!(
        "\n== in a machine, kernel {}: {}",
        kernel.name,
        Vec::from_iter(checks.iter().map(String::as_str)).join(", ")
    );
    let directory = target().join(format!("vm/{}-these", kernel.name));
    let outcome = vm::run(&Machine { gwtap: Some(gwtap()?), ..Machine::new(kernel.clone()) }, &chosen, &directory)?;
    let mut total = Total::default();
    total.show(&outcome, &kernel.name);
    if !total.faults.is_empty() || !total.not_run.is_empty() || total.passed < checks.len() as u64 {
        bail!("{}: {:?}, not run: {:?}", directory.join("console.txt").display(), total.faults, total.not_run);
    }
    Ok(total.passed)
}

/// What all machines reported.
#[derive(Default)]
pub(crate) struct Total {
    passed: u64,
    failed: u64,
    not_run: BTreeSet<(String, String)>,
    /// By machine, what could not run in it.
    absent: Vec<BTreeSet<String>>,
    times: Vec<String>,
    faults: Vec<String>,
}

impl Total {
    fn show(&mut self, outcome: &Outcome, machine: &str) {
        let mut absent = BTreeSet::new();
        for event in &outcome.events {
            match event {
                Event::Start { release, cpus } => println!("  Linux {release}, {cpus} CPUs online"),
                Event::Program { name, counts, success, milliseconds } => {
                    self.passed += counts.passed;
                    self.failed += counts.failed;
                    let verdict = if *success { "ok" } else { "FAILED" };
                    let seconds = milliseconds / 1_000;
                    println!("  {name:<24} {verdict}: {} passed, {} failed, {seconds} s", counts.passed, counts.failed);
                }
                Event::NotRun { check, reason } => {
                    self.not_run.insert((check.clone(), reason.clone()));
                    absent.insert(check.clone());
                }
                // Both are among the faults where something is wrong with them.
                Event::Broken(_) | Event::End { .. } => {}
            }
        }
        self.absent.push(absent);
        let verdict = if outcome.faults.is_empty() { "ok" } else { "FAILED" };
        self.times.push(format!("{machine}: {verdict}, {} s, boot included", outcome.took.as_secs()));
        for fault in &outcome.faults {
            println!("  fault: {fault}");
            self.faults.push(format!("{machine}: {fault}"));
        }
    }

    /// Whether no machine could run the check.
    fn everywhere_absent(&self, check: &str) -> bool {
        self.absent.iter().all(|absent| absent.contains(check))
    }

    /// Shows what could not run, each machine's time, each fault. Whether all is well.
    fn summary(&self) -> bool {
        if !self.not_run.is_empty() {
            println!("\nnot run in the machines:");
            let width = self.not_run.iter().map(|(check, _)| check.len()).max().unwrap_or(0);
            self.not_run.iter().for_each(|(check, reason)| println!("  {check:<width$}  {reason}"));
        }
        println!();
        self.times.iter().for_each(|line| println!("kernel {line}"));
        self.faults.iter().for_each(|fault| println!("fault: {fault}"));
        self.faults.is_empty()
    }

    /// The summary and the plain line of counts. Whether all is well.
    pub(crate) fn close(&self) -> bool {
        // A machine that died reports no failed test; it is a failure nevertheless.
        let failed = if self.summary() { 0 } else { self.failed.max(1) };
        println!("{} passed, {failed} failed", self.passed);
        failed == 0
    }
}

fn find(name: &str) -> Result<Kernel> {
    if name == BOOT {
        return kernel::in_boot();
    }
    let pins = kernel::pins()?;
    let pin = pins.named(name)?;
    if pin.cached().is_none() {
        println!("fetching kernel {name} from {}", pin.suite);
    }
    pin.fetch()
}

/// The programs of the suite, in its order, as just built.
fn members() -> Result<Vec<TestProgram>> {
    let built = programs()?;
    let program = |member: &Member| {
        let target = if member.name == LIBRARY { "tap_tests" } else { member.name };
        let found = built.iter().find(|program| program.name == target).with_context(|| format!("no test {target}"))?;
        let filter = member.filter.iter().map(|&word| word.to_owned()).collect();
        Ok(TestProgram { name: member.name.to_owned(), file: found.file.clone(), filter })
    };
    SUITE.iter().map(program).collect()
}

/// Fetches every pinned kernel that the complete tests boot, so that they need no network.
pub(crate) fn fetch() -> Result<()> {
    for name in limits::CI_KERNELS {
        find(name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_absent_where_no_machine_could_run_it() {
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let total = Total { absent: vec![of(&["gretap", "erspan"]), of(&["erspan"])], ..Total::default() };
        assert!(total.everywhere_absent("erspan"));
        assert!(!total.everywhere_absent("gretap") && !total.everywhere_absent("vxlan"));
        assert!(Total::default().everywhere_absent("vxlan"), "no machine ran anything");
    }
}
