//! The verdict on a machine that ended. In: QEMU's exit code, the report, what was to run. Out: `Ok`, or everything that is
//! wrong. All three have to agree: QEMU's exit code 0 is a panic or a power-off, a last line alone could be one of a machine
//! that died right after, and tests that vanished would fail nothing.

use tap_vm_init::report::{Counts, EXIT_PASSED, Event};

/// A program that was to run, and how many tests it lists on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its name in the plan.
    pub name: String,
    /// Its tests.
    pub tests: u64,
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself; QEMU's exit code, if no signal ended it.
    Exit(Option<i32>),
    /// It was ended from outside, because its time was over.
    TimeOut,
}

/// QEMU's exit code for a run in which everything passed.
const PASSED: i32 = (EXIT_PASSED as i32) * 2 + 1;

/// Everything that is wrong with a run; nothing for one that passed.
#[must_use]
pub fn faults(ending: Ending, events: &[Event], expected: &[Expected]) -> Vec<String> {
    let mut faults = Vec::new();
    match ending {
        Ending::Exit(Some(PASSED)) => {}
        Ending::Exit(code) => faults.push(format!("the machine ended with code {code:?}; {PASSED} is success")),
        Ending::TimeOut => faults.push("the machine did not end in time".to_owned()),
    }
    if !matches!(events.first(), Some(Event::Start { .. })) {
        faults.push("the machine never reported its start".to_owned());
    }
    let (mut sum, mut programs) = (Counts::default(), Vec::new());
    for event in events {
        match event {
            Event::Broken(what) => faults.push(what.clone()),
            Event::Program { name, counts, success, .. } => {
                sum.add(*counts);
                programs.push((name.as_str(), *counts));
                if !success || counts.failed > 0 {
                    faults.push(format!("{name}: {} of its tests failed, or it did not end well", counts.failed));
                }
                if counts.ignored > 0 {
                    faults.push(format!("{name}: {} of its tests were ignored", counts.ignored));
                }
            }
            Event::Start { .. } | Event::NotRun { .. } | Event::End { .. } => {}
        }
    }
    for Expected { name, tests } in expected {
        match programs.iter().find(|(reported, _)| reported == name) {
            None => faults.push(format!("{name}: never reported")),
            Some((_, counts)) if counts.passed + counts.failed != *tests => {
                faults.push(format!("{name}: {} tests ran of {tests}", counts.passed + counts.failed));
            }
            Some(_) => {}
        }
    }
    let end = Event::End { programs: expected.len(), counts: sum };
    if events.last() != Some(&end) {
        faults.push(format!("the report's last line is not `{end}`"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(tests: u64) -> (Vec<Event>, Vec<Expected>) {
        let counts = Counts { passed: tests, ..Counts::default() };
        let events = vec![
            Event::Start { release: "6.1".into(), cpus: 1 },
            Event::Program { name: "inline".into(), counts, success: true, milliseconds: 1 },
            Event::NotRun { check: "a".into(), reason: "b".into() },
            Event::End { programs: 1, counts },
        ];
        (events, vec![Expected { name: "inline".into(), tests: 2 }])
    }

    #[test]
    fn only_code_last_line_and_counts_together_are_success() {
        let success = Ending::Exit(Some(33));
        let (events, expected) = run(2);
        assert_eq!(faults(success, &events, &expected), [] as [String; 0]);
        for ending in [Ending::Exit(Some(0)), Ending::Exit(Some(35)), Ending::Exit(None), Ending::TimeOut] {
            assert_eq!(faults(ending, &events, &expected).len(), 1, "{ending:?}");
        }
        // The report is cut anywhere: never a success.
        for length in 0..events.len() {
            assert!(!faults(success, &events[..length], &expected).is_empty(), "cut at {length}");
        }
        let (events, _) = run(1);
        assert!(faults(success, &events, &expected)[0].contains("1 tests ran of 2"));
        assert!(faults(success, &events, &[])[0].contains("last line"), "a program more than expected");
    }

    #[test]
    fn a_failed_or_ignored_test_is_a_fault_whatever_the_exit_code_says() {
        for counts in [Counts { passed: 1, failed: 1, ignored: 0 }, Counts { passed: 2, failed: 0, ignored: 1 }] {
            let (mut events, expected) = run(2);
            events[1] = Event::Program { name: "inline".into(), counts, success: true, milliseconds: 1 };
            events[3] = Event::End { programs: 1, counts };
            assert_eq!(faults(Ending::Exit(Some(33)), &events, &expected).len(), 1, "{counts:?}");
        }
    }
}
