//! The Commission's directives and the carrier's kill switch, as the running agent takes them.
//!
//! In: signed notes, from the control socket or from a directory at start; the carrier's word with a reason. Out: a state
//! file that says so, then a kernel that keeps it: no lease, a lower cap, an earlier end. A disk that cannot be written
//! keeps nothing running: what narrows takes effect all the same, and the answer says what is missing. Bounds: bytes of a
//! note and of a reason.

use super::agent::{Agent, lock};
use super::documents;
use super::error::RunError;
use super::measure::Measure;
use super::renew;
use crate::audit::Leaf;
use crate::audit::leaf::reason as bounded;
use crate::directive::restriction::Restriction;
use crate::directive::{self, Directive, Kind};
use crate::keys;
use crate::load::CapSlot;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use tap_common::abi::policy::Lease;

/// Takes a directive.
///
/// # Errors
/// What the rules refuse, by field; or it is in force but could not be kept for a restart.
pub(super) fn directive(agent: &Agent, note: &str) -> Result<Vec<String>, RunError> {
    let now = now(agent);
    let directive =
        directive::verify(note, &agent.host.roots.at(now)).map_err(|error| RunError::refused("directive", error))?;
    let measure = agent.measure(Some(&directive.measure))?;
    let kept = take(agent, measure, &directive, note, now)?;
    enforce(agent, measure, Some(note));
    tell(agent, &directive, note);
    kept.map_err(|error| {
        RunError::Failed(format!("the directive is in force, but could not be kept for a restart: {error}"))
    })?;
    Ok(vec![format!("measure {}: directive {} is in force: {}", measure.id(), directive.number, directive.kind)])
}

/// Throws the carrier's kill switch for one measure, or for all.
///
/// # Errors
/// The reason is none; or it is in force but could not be kept for a restart.
pub(super) fn stop(agent: &Agent, id: Option<&str>, reason: &str) -> Result<Vec<String>, RunError> {
    directive::check_reason(reason).map_err(|error| RunError::refused("reason", error))?;
    let measures = named(agent, id)?;
    let now = now(agent);
    let mut kept = Ok(());
    for measure in &measures {
        let written = {
            let mut state = lock(&agent.state);
            let killed = state.restriction(measure.id()).killed(reason, now);
            state.narrow(measure.id(), &killed)
        };
        enforce(agent, measure, None);
        kept = kept.and(written);
    }
    agent.audit.tell(&Leaf::KillSwitch { measure: id.map(str::to_owned), reason: bounded(reason) });
    tracing::warn!(measure = id.unwrap_or("all"), reason, "the carrier's kill switch was thrown");
    kept.map_err(|error| RunError::Failed(format!("stopped, but it could not be kept for a restart: {error}")))?;
    Ok(measures.iter().map(|measure| format!("measure {}: stopped by the carrier", measure.id())).collect())
}

/// Takes the carrier's kill switch back; a directive of the Commission stays.
///
/// # Errors
/// The reason is none, there is no switch to take back, or it cannot be written down: nothing is changed then.
pub(super) fn resume(agent: &Agent, id: Option<&str>, reason: &str) -> Result<Vec<String>, RunError> {
    directive::check_reason(reason).map_err(|error| RunError::refused("reason", error))?;
    let thrown = |measure: &&Measure| lock(&measure.restriction).kill_switch.is_some();
    let measures: Vec<_> = named(agent, id)?.into_iter().filter(thrown).collect();
    if measures.is_empty() {
        return Err(RunError::Refused("the carrier's kill switch is not thrown".into()));
    }
    agent.audit.must(&Leaf::KillSwitchReleased { measure: id.map(str::to_owned), reason: bounded(reason) })?;
    let mut done = Vec::with_capacity(measures.len());
    for measure in measures {
        let released = {
            let mut state = lock(&agent.state);
            let released = state.restriction(measure.id()).release();
            state.widen(measure.id(), &released).map_err(|error| RunError::Failed(error.to_string()))?;
            released
        };
        enforce(agent, measure, None);
        tracing::warn!(measure = measure.id(), reason, "the carrier's kill switch was taken back");
        done.push(match released.refusal() {
            None => format!("measure {}: the carrier's kill switch is taken back", measure.id()),
            Some(why) => format!("measure {}: the carrier's kill switch is taken back; still {why}", measure.id()),
        });
    }
    Ok(done)
}

/// Before anything is attached: what was kept, and the directives that lie in the configured directory.
///
/// # Errors
/// A directive there that cannot be read or that the rules refuse. One whose number is not new was taken before, or is
/// void; it is passed over.
pub(super) fn begin(agent: &Agent, now: Timestamp) -> Result<(), RunError> {
    for measure in &agent.measures {
        *lock(&measure.restriction) = lock(&agent.state).restriction(measure.id());
    }
    let Some(directory) = &agent.config.oversight.directives_directory else { return Ok(()) };
    let roots = agent.host.roots.at(now);
    let mut found = Vec::new();
    for path in notes(directory)? {
        let refused = |error: String| RunError::refused(path.display(), error);
        let note = std::fs::read_to_string(&path).map_err(|error| refused(error.to_string()))?;
        let directive = directive::verify(&note, &roots).map_err(|error| refused(error.to_string()))?;
        found.push((directive.number, path, directive, note));
    }
    found.sort_by_key(|(number, ..)| *number);
    for (_, path, directive, note) in found {
        let Ok(measure) = agent.measure(Some(&directive.measure)) else {
            tracing::info!(file = %path.display(), "a directive for a measure that does not run here");
            continue;
        };
        if directive.number <= lock(&measure.restriction).number {
            continue;
        }
        take(agent, measure, &directive, &note, now)
            .and_then(|kept| kept.map_err(|error| RunError::Failed(error.to_string())))
            .map_err(|error| RunError::refused(path.display(), error))?;
        *lock(&measure.restriction) = lock(&agent.state).restriction(measure.id());
        agent.with_tap(|tap| {
            tap.directive(&note);
            Ok(())
        })?;
        tell(agent, &directive, &note);
    }
    Ok(())
}

fn notes(directory: &Path) -> Result<Vec<PathBuf>, RunError> {
    let failed = |error: std::io::Error| RunError::refused(directory.display(), error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "note") {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Judges a directive and keeps what it leaves. Whether that is on disk is the inner result.
fn take(
    agent: &Agent,
    measure: &Measure,
    directive: &Directive,
    note: &str,
    now: Timestamp,
) -> Result<Result<(), super::state::StateError>, RunError> {
    let chain = lock(&measure.chain).clone();
    // Read, judged and written under one lock: of two directives with one number the second is refused.
    let mut state = lock(&agent.state);
    let left = state
        .restriction(measure.id())
        .directed(directive, note, &chain, now)
        .map_err(|error| RunError::refused("directive", error))?;
    Ok(state.narrow(measure.id(), &left))
}

/// Brings the kernel to what is kept. No renewal comes between: it waits for the permission. The loader is told the directive
/// itself, and from then on refuses what it took away.
fn enforce(agent: &Agent, measure: &Measure, note: Option<&str>) {
    {
        let _permission = lock(&agent.permission);
        let restriction: Restriction = lock(&agent.state).restriction(measure.id());
        let before = std::mem::replace(&mut *lock(&measure.restriction), restriction.clone());
        let ends = restriction.refusal().is_some()
            || restriction.not_after_ns != before.not_after_ns
            || restriction.share_ppm != before.share_ppm;
        let cap = measure.cap_policy();
        let written = agent.with_tap(|tap| {
            if let Some(note) = note {
                tap.directive(note);
            }
            match cap {
                Ok(cap) => tap.set_cap(CapSlot::Measure(u32::from(measure.slot)), cap),
                Err(_) => tap.set_lease(u32::from(measure.slot), Lease::default()),
            }
            // A lease may reach beyond the new end, and what it admits is the facility's cap, which the renewal below lowers before
            // it gives another. A clock in doubt gives none: then nothing is admitted under the old share either.
            if ends {
                tap.set_lease(u32::from(measure.slot), Lease::default());
            }
            Ok(())
        });
        if let Err(error) = written {
            tracing::error!(measure = measure.id(), %error, "the kernel did not take it; its lease ends by itself");
        }
    }
    renew::renew(agent);
}

fn tell(agent: &Agent, directive: &Directive, note: &str) {
    let kind = match directive.kind {
        Kind::Stop => "stop".to_owned(),
        Kind::LowerShare(share_ppm) => format!("lower-share {share_ppm}"),
        Kind::Shorten(not_after) => format!("shorten {not_after}"),
    };
    // It is in force whatever the disk takes.
    if let Err(error) = agent.audit.document(documents::Kind::Directive, note) {
        tracing::error!(%error, "a directive is missing among the documents");
    }
    agent.audit.tell(&Leaf::Directive {
        measure: directive.measure.clone(),
        number: directive.number,
        kind,
        sha256: hex::encode(keys::sha256(note.as_bytes())),
    });
    tracing::warn!(
        measure = directive.measure,
        number = directive.number,
        kind = directive.kind.name(),
        reason = directive.reason,
        "a directive of the Commission is in force"
    );
}

/// The measure of this id, or all.
fn named<'a>(agent: &'a Agent, id: Option<&str>) -> Result<Vec<&'a Measure>, RunError> {
    match id {
        Some(id) => agent.measure(Some(id)).map(|measure| vec![measure]),
        None => Ok(agent.measures.iter().collect()),
    }
}

/// The judged moment; a clock in doubt stands in the way of nothing that stops, so then it is what the clock shows.
fn now(agent: &Agent) -> Timestamp {
    renew::now(agent).unwrap_or_else(|_in_doubt| Timestamp::now())
}
