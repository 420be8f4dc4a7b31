//! Doctor: whether this machine can carry a tap, and what to do where it cannot.
//!
//! In: a [`Machine`], which [`probe`] reads from the running system. Out: a [`Report`] of findings, each with what was found
//! and how to mend it. The checks take the value and know no system, so they say the same of any machine. Bound: nothing is
//! changed or attached, and nothing sent but the question to a stream's servers what stream they have; a probe that cannot look says
//! so, and that is a finding too.

mod ask;
mod ethtool;
mod files;
mod kernel;
mod machine;
mod netdev;
mod port;
pub mod probe;
mod streams;
#[cfg(test)]
mod tests;

pub use machine::{
    Certificate, Directory, KeyFile, Machine, Memory, Port, Queues, ReceiveRing, Seccomp, StreamAnswer, StreamOf,
    StreamServer, Unreadable, Xdp,
};

use serde::Serialize;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// The tap runs, but less well, or not for long.
    Warning,
    /// The tap will not run, or nothing that it records can be delivered.
    Failed,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name; programs may rely on it.
    pub check: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do about it; none where nothing is to be done.
    pub mend: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Ok, found: found.into(), mend: None }
    }

    fn warning(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Warning, found: found.into(), mend: Some(mend.into()) }
    }

    fn failed(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Failed, found: found.into(), mend: Some(mend.into()) }
    }
}

/// All findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// No check failed.
    pub ready: bool,
    /// In the order in which they build upon each other.
    pub checks: Vec<Finding>,
}

/// Judges a machine.
#[must_use]
pub fn judge(machine: &Machine) -> Report {
    let mut checks = kernel::findings(machine);
    checks.extend(port::findings(machine));
    checks.extend(files::findings(machine));
    checks.extend(streams::findings(machine));
    Report { ready: checks.iter().all(|finding| finding.state != State::Failed), checks }
}
