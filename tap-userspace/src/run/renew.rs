//! Renewal: every second the question whether selection is still allowed, answered to the kernel as a lease.
//!
//! In: clocks, window. Out: a lease of at most five seconds, or none. A clock in doubt renews nothing, and the kernel
//! stops by itself; a window that has ended revokes at once.

use super::admit;
use super::agent::{Agent, SLOT, lock};
use super::error::RunError;
use super::lease;
use crate::clock::{self, ClockError, Now};
use crate::limits::STATE_WRITE_NS;
use std::time::Duration;
use tap_common::abi::policy::Lease;
use tap_common::limits::LEASE_RENEWAL_NS;

/// Renews until the agent stops.
pub(super) fn run(agent: &Agent) {
    while !agent.stopping() {
        renew(agent);
        std::thread::park_timeout(Duration::from_nanos(LEASE_RENEWAL_NS));
    }
}

/// Asks once, and writes the answer.
pub(super) fn renew(agent: &Agent) {
    let mut view = lock(&agent.lease);
    if view.revoked {
        return;
    }
    let granted = judge(agent).and_then(|now| {
        let window = lock(&agent.active).window;
        let window = window.ok_or_else(|| Doubt::Window("no selector set is active".into()))?;
        lease::lease(&now, &window).map_err(|reason| Doubt::Window(reason.to_string()))
    });
    let (write, refused) = match granted {
        Ok(lease) => (Some(lease), None),
        Err(Doubt::Window(reason)) => (Some(Lease::default()), Some(reason)),
        Err(Doubt::Clock(reason)) => (None, Some(reason)),
    };
    let mut refused = refused;
    if let Some(lease) = write {
        let act = |tap: &mut crate::load::Tap| {
            tap.flush_log();
            tap.set_lease(SLOT, lease);
            Ok(())
        };
        match agent.with_tap(act) {
            Ok(()) => view.lease = lease,
            Err(error) => refused = Some(format!("the kernel did not take the lease: {error}")),
        }
    }
    if let Some(reason) = &refused {
        view.refused_total += 1;
        if view.refused.as_ref() != Some(reason) {
            tracing::error!(reason, "the lease is not renewed; the kernel stops selecting");
        }
    } else if view.refused.is_some() {
        tracing::info!("the lease is renewed again");
    }
    view.refused = refused;
}

/// Takes the lease away for good: the agent stops.
///
/// # Errors
/// The kernel did not take it; the old one ends by itself within five seconds.
pub(super) fn revoke(agent: &Agent) -> Result<(), RunError> {
    let mut view = lock(&agent.lease);
    view.revoked = true;
    view.refused = Some("the agent is stopping".into());
    agent.with_tap(|tap| {
        tap.set_lease(SLOT, Lease::default());
        Ok(())
    })?;
    view.lease = Lease::default();
    Ok(())
}

enum Doubt {
    Clock(String),
    Window(String),
}

/// Reads and judges the clock; keeps what it shows.
fn judge(agent: &Agent) -> Result<Now, Doubt> {
    let reading = clock::read().map_err(|error| Doubt::Clock(error.to_string()))?;
    let mut view = lock(&agent.clock);
    view.synchronised = reading.synchronised;
    let judged = view.watch.judge(&reading);
    let set_back = matches!(judged, Err(ClockError::SetBack { .. }));
    if set_back && !view.set_back {
        view.steps_back_total += 1;
    }
    view.set_back = set_back;
    let now = judged.map_err(|error| Doubt::Clock(describe(&error)))?;
    if let Some(forward_ns) = now.forward_ns {
        view.steps_forward_total += 1;
        tracing::warn!(forward_ns, "the clock was set forward");
    }
    lock(&agent.pseudonymiser).set_boot_to_unix_ns(now.boot_to_unix_ns);
    if now.unix_ns.saturating_sub(view.kept_unix_ns) >= STATE_WRITE_NS {
        keep_time(agent, now.unix_ns)?;
        view.kept_unix_ns = now.unix_ns;
    }
    Ok(now)
}

/// The same text every second, so that it is logged once; how far back the clock is stands in the first one.
fn describe(error: &ClockError) -> String {
    match error {
        ClockError::SetBack { .. } => "the clock was set back: it shows a time before one already seen".into(),
        ClockError::Unsynchronised => error.to_string(),
    }
}

fn keep_time(agent: &Agent, unix_ns: u64) -> Result<(), Doubt> {
    lock(&agent.state).keep_time(unix_ns).map_err(|error| Doubt::Clock(error.to_string()))
}

/// The judged moment, for checks at run time.
///
/// # Errors
/// The clock is in doubt.
pub(super) fn now(agent: &Agent) -> Result<jiff::Timestamp, RunError> {
    let now = judge(agent).map_err(|doubt| match doubt {
        Doubt::Clock(reason) | Doubt::Window(reason) => RunError::refused("clock", reason),
    })?;
    admit::timestamp(&now)
}
