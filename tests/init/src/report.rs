//! The report: what the machine says on its second serial port, a line for each event. In: lines. Out: [`Event`]s. The last
//! line of a report that ended is [`Event::End`]; a report without it is one of a machine that died or hung.

use std::fmt;

/// The exit word for a run in which everything passed; QEMU's exit code is twice this and one.
pub const EXIT_PASSED: u8 = 0x10;
/// The exit word for every other run that came to its end.
pub const EXIT_FAILED: u8 = 0x11;
/// The port of QEMU's `isa-debug-exit`.
pub const EXIT_PORT: u16 = 0xf4;

/// How many tests passed, failed and were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// Ignored: counted, since an ignored test has not passed.
    pub ignored: u64,
}

impl Counts {
    /// `test result: ok. 12 passed; 0 failed; 0 ignored; …` of the standard test harness.
    #[must_use]
    pub fn of_result_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut parts = counts.split("; ");
        let mut next = |word: &str| parts.next()?.strip_suffix(word)?.trim_end().parse().ok();
        Some(Self { passed: next("passed")?, failed: next("failed")?, ignored: next("ignored")? })
    }

    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The machine runs: its kernel's release and its CPUs.
    Start {
        /// As `uname -r` says.
        release: String,
        /// How many are online.
        cpus: usize,
    },
    /// A program ended.
    Program {
        /// Its name in the plan.
        name: String,
        /// What its last result line said; nothing where it printed none.
        counts: Counts,
        /// Whether it printed a result and ended with code 0.
        success: bool,
        /// How long it took.
        milliseconds: u64,
    },
    /// A check could not run.
    NotRun {
        /// The check.
        check: String,
        /// Why.
        reason: String,
    },
    /// The machine itself could not do what the plan says.
    Broken(String),
    /// All programs ran.
    End {
        /// How many.
        programs: usize,
        /// Sums over them.
        counts: Counts,
    },
}

impl Event {
    /// Reads a line; `None` where it is none of a report.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (kind, rest) = line.trim_end().split_once(' ')?;
        let words: Vec<&str> = rest.split(' ').collect();
        match (kind, words.as_slice()) {
            ("start", [release, cpus]) => {
                Some(Self::Start { release: (*release).to_owned(), cpus: cpus.parse().ok()? })
            }
            ("program", [name, passed, failed, ignored, success, milliseconds]) => Some(Self::Program {
                name: (*name).to_owned(),
                counts: counts(passed, failed, ignored)?,
                success: success.parse().ok()?,
                milliseconds: milliseconds.parse().ok()?,
            }),
            ("not-run", _) => {
                let (check, reason) = rest.split_once('\t')?;
                Some(Self::NotRun { check: check.to_owned(), reason: reason.to_owned() })
            }
            ("broken", _) => Some(Self::Broken(rest.to_owned())),
            ("end", [programs, passed, failed, ignored]) => {
                Some(Self::End { programs: programs.parse().ok()?, counts: counts(passed, failed, ignored)? })
            }
            _ => None,
        }
    }
}

fn counts(passed: &str, failed: &str, ignored: &str) -> Option<Counts> {
    Some(Counts { passed: passed.parse().ok()?, failed: failed.parse().ok()?, ignored: ignored.parse().ok()? })
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { release, cpus } => write!(f, "start {release} {cpus}"),
            Self::Program { name, counts: Counts { passed, failed, ignored }, success, milliseconds } => {
                write!(f, "program {name} {passed} {failed} {ignored} {success} {milliseconds}")
            }
            Self::NotRun { check, reason } => write!(f, "not-run {check}\t{reason}"),
            Self::Broken(what) => write!(f, "broken {}", what.replace('\n', "; ")),
            Self::End { programs, counts: Counts { passed, failed, ignored } } => {
                write!(f, "end {programs} {passed} {failed} {ignored}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_read_as_it_was_written() {
        let counts = Counts { passed: 3, failed: 1, ignored: 2 };
        for event in [
            Event::Start { release: "6.1.0-1-cloud-amd64".into(), cpus: 2 },
            Event::Program { name: "inline".into(), counts, success: false, milliseconds: 12 },
            Event::NotRun { check: "a::b".into(), reason: "it needs `tshark` (install it)".into() },
            Event::Broken("module veth: no such file".into()),
            Event::End { programs: 4, counts },
        ] {
            assert_eq!(Event::parse(&event.to_string()), Some(event));
        }
        assert_eq!(Event::parse("[    0.0] Linux version"), None);
        assert_eq!(Event::parse("end 4 3 1"), None, "a line that was cut is no end");
    }

    #[test]
    fn result_lines_are_read() {
        let line = "test result: FAILED. 11 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(Counts::of_result_line(line), Some(Counts { passed: 11, failed: 2, ignored: 1 }));
        assert_eq!(Counts::of_result_line("test need::tests::a ... ok"), None);
    }
}
