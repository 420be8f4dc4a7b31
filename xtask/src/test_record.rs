//! What a run of the tests showed, for the next one to go on from (`cargo xtask test --rest`): which programs passed, and which of
//! their checks could not run. In and out: a file beside what cargo builds. A program that was built anew, that failed, or that
//! is not in it is run whole; without a record everything is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::command::target;
use crate::test_programs::{Job, Program, Ran, documentation};

/// What a run showed.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The binary that the integration tests start.
    gwtap: Built,
    /// Whether it had the long counts.
    long: bool,
    /// Examples of the documentation that passed; nothing where one did not.
    documentation: Option<u64>,
    /// The programs that passed.
    programs: BTreeMap<PathBuf, Passed>,
}

/// A file as it was built: cargo leaves it alone while nothing of it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Built {
    bytes: u64,
    modified_ns: u128,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Passed {
    built: Built,
    /// How many of its checks passed, those that could not run among them.
    passed: u64,
    not_run: BTreeSet<String>,
}

impl Built {
    fn of(file: &Path) -> Result<Self> {
        let data = std::fs::metadata(file).with_context(|| file.display().to_string())?;
        let modified = data.modified().with_context(|| file.display().to_string())?;
        let modified_ns = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        Ok(Self { bytes: data.len(), modified_ns })
    }
}

impl Record {
    /// What was run.
    pub(crate) fn of(ran: &[Ran], gwtap: &Path, long: bool) -> Result<Self> {
        let passed = |one: &&Ran| one.success && one.counts.failed == 0 && one.program.file.is_file();
        let entry = |one: &Ran| -> Result<_> {
            let not_run = one.not_run.iter().map(|(check, _)| check.clone()).collect();
            let passed = Passed { built: Built::of(&one.program.file)?, passed: one.counts.passed, not_run };
            Ok((one.program.file.clone(), passed))
        };
        let programs = ran.iter().filter(passed).map(entry).collect::<Result<_>>()?;
        let documentation = ran.iter().find(|one| one.program.is_documentation() && one.success);
        let documentation = documentation.map(|one| one.counts.passed);
        Ok(Self { gwtap: Built::of(gwtap)?, long, documentation, programs })
    }

    /// What is left to run of `programs`, and how many checks that are not run again passed.
    pub(crate) fn rest(&self, programs: Vec<Program>, gwtap: &Path, long: bool) -> Result<(Vec<Job>, u64)> {
        let goes_on = self.long == long && Built::of(gwtap)? == self.gwtap;
        let (mut jobs, mut passed) = (Vec::new(), 0);
        for program in programs {
            let known = self.programs.get(&program.file).filter(|_| goes_on);
            let known = known.filter(|known| Built::of(&program.file).is_ok_and(|built| built == known.built));
            match known {
                // A check whose name is not known, of a thread that has none, is any of them.
                Some(known) if !known.not_run.contains("main") => {
                    passed += known.passed.saturating_sub(known.not_run.len() as u64);
                    if !known.not_run.is_empty() {
                        jobs.push(Job { program, checks: known.not_run.clone() });
                    }
                }
                _ => jobs.push(Job { program, checks: BTreeSet::new() }),
            }
        }
        match self.documentation.filter(|_| goes_on) {
            Some(examples) => passed += examples,
            None => jobs.push(Job { program: documentation(), checks: BTreeSet::new() }),
        }
        Ok((jobs, passed))
    }

    /// The last run's, if there was one.
    pub(crate) fn read() -> Result<Option<Self>> {
        let file = file();
        if !file.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        // One of another version of this program is none.
        Ok(serde_json::from_str(&text).ok())
    }

    pub(crate) fn write(&self) -> Result<()> {
        let file = file();
        std::fs::write(&file, serde_json::to_string(self)?).with_context(|| file.display().to_string())
    }
}

fn file() -> PathBuf {
    target().join("tests-that-passed.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tap_vm_init::report::Counts;

    fn counts(passed: u64, failed: u64) -> Counts {
        Counts { passed, failed, ignored: 0 }
    }

    #[test]
    fn what_passed_is_not_run_again_and_what_could_not_run_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, name).unwrap();
            file
        };
        let program = |name: &str| Program::named(name, folder.path().join(name));
        let gwtap = file("gwtap");
        let names = ["passed", "skipped", "failed", "no-name", "dead"];
        names.iter().for_each(|name| drop(file(name)));
        let skipped =
            |checks: &[&str]| checks.iter().map(|check| ((*check).to_owned(), "no tool".to_owned())).collect();
        let ran =
            |name: &str, counts, success, checks: &[&str]| Ran::new(program(name), counts, success, skipped(checks));
        let all = [
            ran("passed", counts(3, 0), true, &[]),
            ran("skipped", counts(5, 0), true, &["a", "b"]),
            ran("failed", counts(1, 1), false, &[]),
            ran("no-name", counts(2, 0), true, &["main"]),
            ran("dead", counts(2, 0), false, &[]),
            Ran::new(documentation(), counts(1, 0), true, BTreeSet::new()),
        ];
        let record = Record::of(&all, &gwtap, false).unwrap();
        let record: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        let rest = |long: bool| {
            file("new");
            let programs = names.iter().chain(&["new"]).map(|name| program(name)).collect();
            let (jobs, passed) = record.rest(programs, &gwtap, long).unwrap();
            let jobs: Vec<_> =
                jobs.into_iter().map(|job| (job.program.name, Vec::from_iter(job.checks).join(" "))).collect();
            (jobs, passed)
        };
        let whole = |name: &str| (name.to_owned(), String::new());
        let some = ("skipped".to_owned(), "a b".to_owned());
        let (jobs, passed) = rest(false);
        assert_eq!(jobs, [some, whole("failed"), whole("no-name"), whole("dead"), whole("new")]);
        assert_eq!(passed, 3 + 3 + 1);
        // The long counts were not run.
        assert_eq!(rest(true).0.len(), 7);
        // A program that was built anew, and one that they all start.
        std::fs::write(folder.path().join("passed"), "passed and more").unwrap();
        assert_eq!(rest(false).0.first(), Some(&whole("passed")));
        std::fs::write(&gwtap, "another").unwrap();
        let (jobs, passed) = rest(false);
        assert!(jobs.iter().all(|(_, checks)| checks.is_empty()) && jobs.len() == 7 && passed == 0, "{jobs:?}");
    }
}
