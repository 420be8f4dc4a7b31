//! The test programs of this machine, several at a time: most of them wait for processes, leases and the clock. In: what cargo
//! built. Out: each program's output whole, with its time, in the order in which they end; what passed, failed and could not
//! run, by program. Bound: as many at a time as asked for; programs that measure time run alone.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use tap_tests::need;
use tap_vm_init::report::Counts;

use crate::command::{cargo, forget_this_program, shown};

/// Programs that nothing else may run beside, because what they hold a bound against is time itself.
const ALONE: [(&str, &str); 7] = [
    ("bench", "nanoseconds for each packet, on every CPU"),
    ("cap", "at least 95 % of the cap is used, second by second"),
    ("cap_kernel", "at least 95 % of the cap is used, by a load on every CPU"),
    ("directives", "a stop is in the kernel within a second of its signature"),
    ("expiry", "a rule ends by the clock, the others select again within a second"),
    ("measures", "how the sample follows more load than the cap takes"),
    ("three_ways", "the moments of two captures, within fractions of a millisecond"),
];

/// The name under which the examples of the documentation run.
const DOCUMENTATION: &str = "documentation";

/// A test program as cargo built it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The target's name, as in `cargo test --test NAME`.
    pub(crate) name: String,
    /// The program.
    pub(crate) file: PathBuf,
    /// Its package's directory: where cargo would run it.
    directory: PathBuf,
    /// The target's source below it, for the line above the output.
    source: String,
}

impl Program {
    pub(crate) fn is_documentation(&self) -> bool {
        self.name == DOCUMENTATION
    }
}

#[cfg(test)]
impl Program {
    pub(crate) fn named(name: &str, file: PathBuf) -> Self {
        Self { name: name.to_owned(), file, directory: PathBuf::new(), source: String::new() }
    }
}

#[cfg(test)]
impl Ran {
    pub(crate) fn new(program: Program, counts: Counts, success: bool, not_run: BTreeSet<(String, String)>) -> Self {
        Self { program, counts, success, not_run, seconds: 0.0 }
    }
}

/// How the programs are run.
pub(crate) struct How {
    /// Programs at a time.
    pub(crate) at_a_time: usize,
    /// What cannot run fails.
    pub(crate) complete: bool,
    /// The long counts.
    pub(crate) long: bool,
    /// The binary that the integration tests start.
    pub(crate) gwtap: PathBuf,
}

/// What is to run of a program.
pub(crate) struct Job {
    pub(crate) program: Program,
    /// These checks; all if empty.
    pub(crate) checks: BTreeSet<String>,
}

/// What came of a program.
pub(crate) struct Ran {
    pub(crate) program: Program,
    pub(crate) counts: Counts,
    /// It printed its result and ended well.
    pub(crate) success: bool,
    /// Checks that could not run, and why.
    pub(crate) not_run: BTreeSet<(String, String)>,
    seconds: f64,
}

/// Every test program of the workspace, in cargo's order; builds what is not built.
pub(crate) fn programs() -> Result<Vec<Program>> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-run", "--quiet", "--message-format=json"]);
    println!("+ {}", shown(&command));
    let output = command.stderr(Stdio::inherit()).output().context("cargo test did not start")?;
    if !output.status.success() {
        bail!("the tests could not be built");
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(program).collect())
}

/// The test program in a line of cargo's messages.
fn program(line: &str) -> Option<Program> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    if message.get("profile")?.get("test")?.as_bool() != Some(true) {
        return None;
    }
    let text = |value: Option<&serde_json::Value>| value?.as_str().map(str::to_owned);
    let directory = Path::new(message.get("manifest_path")?.as_str()?).parent()?.to_owned();
    let source = text(message.get("target")?.get("src_path"))?;
    let source =
        Path::new(&source).strip_prefix(&directory).map_or(source.clone(), |inside| inside.display().to_string());
    let name = text(message.get("target")?.get("name"))?;
    Some(Program { name, file: message.get("executable")?.as_str()?.into(), directory, source })
}

/// The examples in the documentation of every library: compiled, and run by rustdoc.
pub(crate) fn documentation() -> Program {
    let directory = crate::command::root();
    Program { name: DOCUMENTATION.into(), file: PathBuf::new(), directory, source: String::new() }
}

/// Runs them: those that may run beside each other first, then those that may not.
pub(crate) fn run_all(jobs: Vec<Job>, how: &How) -> Result<Vec<Ran>> {
    let is_alone = |job: &Job| ALONE.iter().any(|(name, _)| *name == job.program.name);
    let (alone, beside): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(is_alone);
    let mut ran = several(beside, how, how.at_a_time)?;
    ran.extend(several(alone, how, 1)?);
    if let Some(slowest) = slowest(&ran) {
        println!("\nslowest: {slowest}");
    }
    Ok(ran)
}

fn several(jobs: Vec<Job>, how: &How, at_a_time: usize) -> Result<Vec<Ran>> {
    let waiting = Mutex::new(VecDeque::from(jobs));
    let next = || waiting.lock().ok()?.pop_front();
    // One prints at a time, and whole.
    let printing = Mutex::new(());
    let work = || -> Result<Vec<Ran>> {
        let mut ran = Vec::new();
        while let Some(job) = next() {
            let (one, output) = run(job, how)?;
            let _one_at_a_time = printing.lock();
            print!("{output}");
            ran.push(one);
        }
        Ok(ran)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_a_time.max(1)).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().map_err(|_panic| anyhow!("a thread that runs tests panicked"))??);
        }
        Ok(all)
    })
}

/// Runs one program; what it printed.
fn run(job: Job, how: &How) -> Result<(Ran, String)> {
    let Job { program, checks } = job;
    let folder = tempfile::tempdir().context("a temporary directory")?;
    let not_run = folder.path().join("not-run");
    let mut command = command(&program);
    if !checks.is_empty() {
        command.arg("--exact").args(&checks);
    }
    command.env(need::NOT_RUN, &not_run).env(tap_tests::gwtap::BINARY, &how.gwtap);
    command.env(need::COMPLETE, if how.complete { "1" } else { "0" });
    command.env(need::LONG, if how.long { "1" } else { "0" });
    // One file for both of them: what a test says stands beside its name.
    let printed = folder.path().join("output");
    let file = std::fs::File::create(&printed).with_context(|| printed.display().to_string())?;
    let second = file.try_clone().context("the output's file")?;
    command.stdin(Stdio::null()).stdout(file).stderr(second);
    let started = Instant::now();
    let status = command.status().with_context(|| format!("{} did not start", program.name))?;
    let seconds = started.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&std::fs::read(&printed).context("the output")?).into_owned();
    let mut counts = Counts::default();
    text.lines().filter_map(Counts::of_result_line).for_each(|of_program| counts.add(of_program));
    let has_result = text.lines().any(|line| Counts::of_result_line(line).is_some());
    let mut output = format!("{}\n{text}", headline(&program));
    if !status.success() && counts.failed == 0 {
        output.push_str(&format!("a test program ended without a result ({status})\n"));
    }
    let found = counts.passed + counts.failed + counts.ignored;
    let all_there = checks.is_empty() || found == checks.len() as u64;
    if !all_there {
        output.push_str(&format!("{} checks were to run, {found} did: {checks:?}\n", checks.len()));
    }
    let not_run = read_not_run(&not_run)?;
    let success = status.success() && has_result && all_there;
    Ok((Ran { program, counts, success, not_run, seconds }, output))
}

fn command(program: &Program) -> Command {
    if program.is_documentation() {
        let mut command = cargo();
        command.args(["test", "--workspace", "--doc", "--no-fail-fast"]);
        return command;
    }
    let mut command = Command::new(&program.file);
    forget_this_program(&mut command);
    command.current_dir(&program.directory).env("CARGO_MANIFEST_DIR", &program.directory);
    command
}

fn headline(program: &Program) -> String {
    if program.is_documentation() {
        return "   Doc-tests".into();
    }
    let file = program.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("     Running {} ({file})", program.source)
}

/// The ten that took longest.
fn slowest(ran: &[Ran]) -> Option<String> {
    let mut by_time: Vec<&Ran> = ran.iter().collect();
    by_time.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
    let shown: Vec<String> =
        by_time.iter().take(10).map(|one| format!("{} {:.0} s", one.program.name, one.seconds)).collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

fn read_not_run(file: &Path) -> Result<BTreeSet<(String, String)>> {
    if !file.exists() {
        return Ok(BTreeSet::new());
    }
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
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
    fn test_programs_are_read_from_cargos_messages() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml","target":{"name":"inline","src_path":"/w/tests/tests/inline.rs"},"profile":{"test":true},"executable":"/t/inline-1"}"#;
        let read = program(line).unwrap();
        assert_eq!((read.name.as_str(), read.source.as_str()), ("inline", "tests/inline.rs"));
        assert_eq!((read.file.as_path(), read.directory.as_path()), (Path::new("/t/inline-1"), Path::new("/w/tests")));
        assert_eq!(program(&line.replace("true", "false")), None);
        assert_eq!(program(r#"{"reason":"build-finished","success":true}"#), None);
    }

    fn shell(name: &str, folder: &Path, text: &str) -> Job {
        use std::os::unix::fs::PermissionsExt as _;
        let file = folder.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = Program { name: name.into(), file, directory: folder.into(), source: name.into() };
        Job { program, checks: BTreeSet::new() }
    }

    fn how(at_a_time: usize) -> How {
        How { at_a_time, complete: false, long: false, gwtap: "gwtap".into() }
    }

    const PASSED: &str =
        "echo 'test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0s'";

    #[test]
    fn what_passed_failed_and_could_not_run_is_each_programs_own() {
        let folder = tempfile::tempdir().unwrap();
        let skips = format!("printf 'a\\tno root\\na\\tno root\\nb\\tno tshark\\n' > $GWTAP_NOT_RUN; {PASSED}");
        let failed = PASSED.replace("ok. 2 passed; 0 failed", "FAILED. 1 passed; 1 failed") + "; exit 101";
        let jobs = vec![
            shell("one", folder.path(), &skips),
            shell("two", folder.path(), &failed),
            shell("dies", folder.path(), "kill -9 $$"),
            shell("silent", folder.path(), "true"),
        ];
        let mut ran = run_all(jobs, &how(3)).unwrap();
        ran.sort_by(|one, other| one.program.name.cmp(&other.program.name));
        let shown: Vec<_> = ran
            .iter()
            .map(|one| {
                (one.program.name.as_str(), one.counts.passed, one.counts.failed, one.success, one.not_run.len())
            })
            .collect();
        assert_eq!(
            shown,
            [("dies", 0, 0, false, 0), ("one", 2, 0, true, 2), ("silent", 0, 0, false, 0), ("two", 1, 1, false, 0)]
        );
    }

    #[test]
    fn several_run_beside_each_other_and_those_that_measure_time_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let [running, both] = ["running", "both"].map(|name| folder.path().join(name));
        // Each leaves a mark while it runs, and says when it sees another's.
        let text = |name: &str| {
            let running = running.display();
            format!(
                "mkdir -p {running}; touch {running}/{name}; sleep 0.3; [ $(ls {running} | wc -l) = 1 ] || touch {}; \
                 rm {running}/{name}; {PASSED}",
                both.display()
            )
        };
        let jobs = |names: [&str; 2]| names.map(|name| shell(name, folder.path(), &text(name))).into();
        run_all(jobs(["cap", "three_ways"]), &how(2)).unwrap();
        assert!(!both.exists(), "two programs that measure time ran beside each other");
        run_all(jobs(["one", "two"]), &how(2)).unwrap();
        assert!(both.exists(), "one waited for the other");
    }
}
