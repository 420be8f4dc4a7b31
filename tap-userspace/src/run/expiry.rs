//! Expiry: a rule that ends leaves the kernel.
//!
//! In: the ends of the active sets' rules, the judged clock. Out: a generation without what is over. The kernel stops at the
//! end by itself, for the measure's lease ends with the first of its rules (see [`super::renew`]); the generation made here
//! brings the others back. Bound: what decides is looked at four times a second.

use super::agent::{Agent, lock};
use super::{renew, swap};
use crate::limits::{EXPIRY_LOOK, EXPIRY_RETRY};
use jiff::Timestamp;
use std::time::Duration;

/// Swaps whenever a rule is over, until the agent stops.
pub(super) fn run(agent: &Agent) {
    while !agent.stopping() {
        let wait = match next_end(agent).map(|end| until(Timestamp::now(), end)) {
            Some(Duration::ZERO) => over(agent),
            Some(wait) => wait.min(EXPIRY_LOOK),
            None => EXPIRY_LOOK,
        };
        std::thread::park_timeout(wait);
    }
}

fn next_end(agent: &Agent) -> Option<Timestamp> {
    agent.measures.iter().filter_map(|measure| lock(&measure.active).due()).min()
}

fn until(now: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// A rule is over by the wall clock: by the judged one, too, or nothing happens. How long to wait then.
fn over(agent: &Agent) -> Duration {
    let Ok(now) = renew::now(agent) else { return EXPIRY_LOOK };
    if next_end(agent).is_none_or(|end| end > now) {
        return EXPIRY_LOOK;
    }
    match swap::expire(agent) {
        Ok(()) => {
            tracing::info!("rules that are over are out of the kernel");
            Duration::ZERO
        }
        Err(error) => {
            tracing::error!(%error, "rules are over, and no generation without them can be loaded");
            EXPIRY_RETRY
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_waits_no_more() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let end = at("2026-12-01T00:00:10Z");
        assert_eq!(until(at("2026-12-01T00:00:07.5Z"), end), Duration::from_millis(2_500));
        assert_eq!(until(end, end), Duration::ZERO);
        assert_eq!(until(at("2027-12-01T00:00:00Z"), end), Duration::ZERO);
    }
}
