//! Leases against what allowed them: no lease before an order, after its end, after a stop, or under a kill switch.
//!
//! In: the log's entries and the documents that were checked. Out: the entry that gave a lease which nothing allowed; which
//! machines the host's key was on; which programs decided.

use super::Finding;
use super::documents::Checked;
use super::ledger::Entries;
use super::report::{Program, Report};
use crate::audit::Leaf;
use crate::directive::{Directive, Kind};
use crate::keys::note;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
struct State {
    ends: Option<Timestamp>,
    stopped: bool,
    killed: bool,
    withdrawn: bool,
}

/// Walks the log.
#[expect(clippy::wildcard_enum_match_arm, reason = "acts that allow and end nothing")]
pub(super) fn check(entries: &Entries, checked: &Checked<'_>, report: &mut Report, findings: &mut Vec<Finding>) {
    let mut states: BTreeMap<&str, State> = BTreeMap::new();
    let mut machines = Machines::default();
    for (number, entry) in entries {
        let time = entry.time;
        let part = || format!("entry {number} of the log");
        match &entry.act {
            Leaf::Start { machine_sha256, boot, .. } => {
                if let Some(what) = machines.start(machine_sha256, boot) {
                    findings.push(Finding::new(part(), what));
                }
            }
            Leaf::Program { generation, program_sha256 } => {
                report.programs.push(Program { generation: *generation, sha256: program_sha256.clone(), since: time });
            }
            Leaf::OrderLoaded { measure, .. } => drop(states.entry(measure).or_default()),
            Leaf::Directive { measure, sha256, .. } => {
                let state = states.entry(measure).or_default();
                match checked.directive_of(sha256).map(|directive| directive.kind) {
                    Some(Kind::Stop) => state.stopped = true,
                    Some(Kind::Shorten(end)) => state.ends = Some(end),
                    Some(Kind::LowerShare(_)) | None => {}
                }
            }
            Leaf::Withdrawn { measure, .. } => states.entry(measure).or_default().withdrawn = true,
            Leaf::Activation { measure, .. } => states.entry(measure).or_default().withdrawn = false,
            Leaf::KillSwitch { measure, .. } => each(&mut states, measure.as_deref(), |state| state.killed = true),
            Leaf::KillSwitchReleased { measure, .. } => {
                each(&mut states, measure.as_deref(), |state| state.killed = false);
            }
            Leaf::LeaseGiven { measure } => {
                if let Some(what) = refusal(states.get(measure.as_str()), checked, measure, time) {
                    findings.push(Finding::new(part(), format!("a lease was given to measure {measure} {what}")));
                }
            }
            _ => {}
        }
    }
    report.machines = machines.seen;
}

fn each<'a>(states: &mut BTreeMap<&'a str, State>, measure: Option<&'a str>, change: impl Fn(&mut State)) {
    match measure {
        Some(id) => change(states.entry(id).or_default()),
        None => states.values_mut().for_each(change),
    }
}

/// Why there must have been no lease.
fn refusal(state: Option<&State>, checked: &Checked<'_>, measure: &str, time: Timestamp) -> Option<String> {
    let Some(state) = state else { return Some("that no order was loaded for".to_owned()) };
    let orders = checked.orders.get(measure).map(Vec::as_slice).unwrap_or_default();
    let live = |order: &crate::order::Order| order.measure.not_before <= time && time < order.measure.not_after;
    match state {
        State { stopped: true, .. } => Some("that a directive of the Commission had stopped".to_owned()),
        State { killed: true, .. } => Some("that the carrier's kill switch had stopped".to_owned()),
        State { withdrawn: true, .. } => Some("whose selectors were withdrawn".to_owned()),
        State { ends: Some(end), .. } if *end <= time => Some(format!("that a directive had ended at {end}")),
        _ if orders.iter().any(live) => None,
        _ => Some("outside the time of every order".to_owned()),
    }
}

/// Which machine an agent started on.
#[derive(Default)]
struct Machines {
    seen: Vec<String>,
    last: String,
    boots: BTreeSet<String>,
    boot: String,
}

impl Machines {
    /// A machine or boot that comes back after another one was here runs beside it, under a copied key.
    fn start(&mut self, machine: &str, boot: &str) -> Option<String> {
        let back = !machine.is_empty() && self.last != machine && self.seen.iter().any(|seen| seen == machine);
        let again = !boot.is_empty() && self.boot != boot && self.boots.contains(boot);
        if !machine.is_empty() {
            if !self.seen.iter().any(|seen| seen == machine) {
                self.seen.push(machine.to_owned());
            }
            machine.clone_into(&mut self.last);
        }
        if !boot.is_empty() {
            self.boots.insert(boot.to_owned());
            boot.clone_into(&mut self.boot);
        }
        (back || again).then(|| {
            "an agent started on a machine that ran before, after one had started on another in between: two machines with \
             one host key, a copied key"
                .to_owned()
        })
    }
}

impl Checked<'_> {
    /// The directive with this digest.
    fn directive_of(&self, digest: &str) -> Option<Directive> {
        let text = self.document(&format!("directive-{digest}.note"))?;
        Directive::parse_unsigned(&note::text(text).ok()?).ok()
    }
}
