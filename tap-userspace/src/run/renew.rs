//! Renewal: every second the question whether each measure may still select, answered to the kernel as its lease.
//!
//! In: clocks, windows. Out: for each measure a lease of at most five seconds, or none, and the facility's cap for those
//! that have one. A clock in doubt renews nothing, and the kernel stops by itself; a window that has ended revokes its own
//! measure's lease at once and touches no other's.

use super::agent::{Agent, Permission, lock};
use super::error::RunError;
use super::lease::{self, Window};
use super::measure::Measure;
use super::{admit, facility, orders};
use crate::clock::{self, ClockError, Now};
use crate::limits::STATE_WRITE_NS;
use crate::load::{CapSlot, cap_policy};
use crate::loader::Tap;
use std::time::Duration;
use tap_common::abi::policy::Lease;
use tap_common::limits::{LEASE_RENEWAL_NS, MEASURES_MAX};

/// Renews until the agent stops.
pub(super) fn run(agent: &Agent) {
    while !agent.stopping() {
        renew(agent);
        if agent.loader_is_gone() {
            tracing::error!("the loader is gone; the kernel stops selecting, and the agent ends");
            return;
        }
        std::thread::park_timeout(Duration::from_nanos(LEASE_RENEWAL_NS));
    }
}

/// Asks once for all measures, and writes the answers.
pub(super) fn renew(agent: &Agent) {
    let mut permission = lock(&agent.permission);
    if permission.revoked {
        return;
    }
    let now = match judge(agent) {
        Ok(now) => now,
        Err(reason) => {
            agent.audit.clock(Some(&reason));
            return agent.measures.iter().for_each(|measure| note(agent, measure, None, Some(reason.clone())));
        }
    };
    agent.audit.clock(None);
    let answers: Vec<_> = agent.measures.iter().map(|measure| (measure, answer(measure, &now))).collect();
    match agent.with_tap(|tap| write(agent, tap, &mut permission, &answers)) {
        Ok(()) => {
            for (measure, answer) in answers {
                note(agent, measure, Some(*answer.as_ref().unwrap_or(&Lease::default())), answer.err());
            }
        }
        Err(error) => {
            let reason = format!("the kernel did not take the lease: {error}");
            agent.measures.iter().for_each(|measure| note(agent, measure, None, Some(reason.clone())));
        }
    }
}

/// The measure's lease, or why it has none.
fn answer(measure: &Measure, now: &Now) -> Result<Lease, String> {
    let restriction = lock(&measure.restriction).clone();
    if let Some(reason) = restriction.refusal() {
        return Err(reason);
    }
    measure.cap_policy().map_err(|_too_small| "a directive left a share that is too small for a bucket")?;
    let (window, rules_end) = {
        let active = lock(&measure.active);
        (active.window.ok_or("no selector set is active: it was withdrawn, or none was loaded")?, active.rules_end)
    };
    // What decides has a rule that ends then; a generation without it has a later end.
    let rules_end_ns = rules_end.map_or(Ok(u64::MAX), admit::unix_ns).map_err(|error| error.to_string())?;
    let window = window.intersect(Window { not_before_ns: 0, not_after_ns: rules_end_ns });
    let ordered = orders::window(&lock(&measure.chain), &restriction).map_err(|error| error.to_string())?;
    lease::lease(now, &window.intersect(ordered)).map_err(|reason| reason.to_string())
}

/// Writes leases and the facility's cap. A lower cap is there before a lease that asks for it, a higher one after those
/// that stood against it are gone.
fn write(
    agent: &Agent,
    tap: &mut Tap,
    permission: &mut Permission,
    answers: &[(&Measure, Result<Lease, String>)],
) -> Result<(), crate::load::LoadError> {
    tap.flush_log();
    let live = answers.iter().filter(|(_, answer)| answer.is_ok());
    let share_ppm =
        facility::share_ppm(live.map(|(measure, _)| (measure.admitted.order.measure.basis, measure.share_ppm())));
    // Without a live measure nothing is admitted, whatever the cap is.
    let share_ppm = if share_ppm == 0 { permission.facility_share_ppm } else { share_ppm };
    let cap = cap_policy(agent.host.facility.capacity_bits_per_second, share_ppm)?;
    if share_ppm < permission.facility_share_ppm {
        tap.set_cap(CapSlot::Facility, cap);
    }
    for (measure, answer) in answers {
        tap.set_lease(u32::from(measure.slot), *answer.as_ref().unwrap_or(&Lease::default()));
    }
    if share_ppm > permission.facility_share_ppm {
        tap.set_cap(CapSlot::Facility, cap);
    }
    if share_ppm != permission.facility_share_ppm {
        tracing::info!(share_ppm, "the facility's share follows the live measures");
    }
    permission.facility_share_ppm = share_ppm;
    Ok(())
}

/// Keeps what a measure was told: the lease that was written, if one was, and why it is none.
fn note(agent: &Agent, measure: &Measure, written: Option<Lease>, refused: Option<String>) {
    let mut view = lock(&measure.lease);
    let had = view.refused.is_none() && view.lease.deadline_ns > 0;
    let changed = if refused.is_some() { view.refused != refused } else { !had };
    if let Some(lease) = written {
        view.lease = lease;
    }
    if let Some(reason) = &refused {
        view.refused_total += 1;
        if changed {
            tracing::error!(measure = measure.id(), reason, "the lease is not renewed; the kernel stops selecting");
        }
    } else if view.refused.is_some() {
        tracing::info!(measure = measure.id(), "the lease is renewed again");
    }
    view.refused.clone_from(&refused);
    drop(view);
    if changed {
        agent.audit.lease(measure.id(), refused.as_deref());
    }
}

/// Takes a measure's lease away until its set is another.
///
/// # Errors
/// The kernel did not take it; the old one ends by itself within five seconds, and none follows.
pub(super) fn end(agent: &Agent, measure: &Measure) -> Result<(), RunError> {
    let _permission = lock(&agent.permission);
    lock(&measure.active).window = None;
    agent.with_tap(|tap| {
        tap.set_lease(u32::from(measure.slot), Lease::default());
        Ok(())
    })
}

/// Takes every lease away for good: the agent stops.
///
/// # Errors
/// The kernel did not take it; the old ones end by themselves within five seconds.
pub(super) fn revoke(agent: &Agent) -> Result<(), RunError> {
    let mut permission = lock(&agent.permission);
    permission.revoked = true;
    agent.with_tap(|tap| {
        void_leases(tap);
        Ok(())
    })?;
    for measure in &agent.measures {
        let mut view = lock(&measure.lease);
        view.refused = Some("the agent is stopping".into());
        view.lease = Lease::default();
    }
    Ok(())
}

/// No slot has a lease, whoever gave it.
pub(super) fn void_leases(tap: &mut Tap) {
    for (slot, _) in (0..).zip([(); MEASURES_MAX]) {
        tap.set_lease(slot, Lease::default());
    }
}

/// Reads and judges the clock; keeps what it shows.
fn judge(agent: &Agent) -> Result<Now, String> {
    let reading = match clock::read() {
        Ok(reading) => reading,
        Err(error) => {
            lock(&agent.clock).doubt = Some(clock::UNREADABLE);
            return Err(error.to_string());
        }
    };
    let mut view = lock(&agent.clock);
    view.synchronised = reading.synchronised;
    view.error_ns = reading.error_ns;
    let judged = view.watch.judge(&reading);
    let doubt = judged.as_ref().err().map(ClockError::name);
    if doubt != view.doubt {
        match judged {
            Err(ClockError::SetBack { .. }) => view.steps_back_total += 1,
            Err(ClockError::SetForward { .. }) => view.steps_forward_total += 1,
            _ => {}
        }
    }
    view.doubt = doubt;
    let now = judged.map_err(|error| describe(&error))?;
    if let Some(forward_ns) = now.forward_ns {
        view.steps_forward_total += 1;
        tracing::warn!(forward_ns, "the clock was set forward");
    }
    for measure in &agent.measures {
        lock(&measure.pseudonymiser).set_boot_to_unix_ns(now.boot_to_unix_ns);
    }
    if now.unix_ns.saturating_sub(view.kept_unix_ns) >= STATE_WRITE_NS {
        let mut state = lock(&agent.state);
        state.keep_time(now.unix_ns).map_err(|error| error.to_string())?;
        agent.audit.keep_head(&mut state).map_err(|error| error.to_string())?;
        drop(state);
        view.kept_unix_ns = now.unix_ns;
    }
    Ok(now)
}

/// The same text every second, so that it is logged once; how far back the clock is stands in the first one.
fn describe(error: &ClockError) -> String {
    match error {
        ClockError::SetBack { .. } => {
            "the clock was set back: it shows a time before one already seen, or is behind where it was".into()
        }
        ClockError::BeforeKept { .. } => "the clock shows a time before the last one kept on disk".into(),
        ClockError::SetForward { .. } => "the clock was set forward further than a correction goes".into(),
        ClockError::Inexact { .. } => {
            "the kernel takes a larger error of the clock for possible than windows allow".into()
        }
        ClockError::Unsynchronised => error.to_string(),
    }
}

/// The judged moment, for checks at run time.
///
/// # Errors
/// The clock is in doubt.
pub(super) fn now(agent: &Agent) -> Result<jiff::Timestamp, RunError> {
    let now = judge(agent).map_err(|reason| RunError::refused("clock", reason))?;
    admit::timestamp(&now)
}
