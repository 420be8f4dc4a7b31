//! What binds a running measure beyond its order: the Commission's directives, and the carrier's kill switch.
//!
//! In: directives whose signature was verified, and the kill switch. Out: the measure's share and its last moment, or why
//! it may not select at all. It goes to disk as it is. Only [`Restriction::release`] takes anything back, and only the
//! carrier's own switch.

use super::{Directive, DirectiveError, Kind, wrong};
use crate::limits::DIRECTIVES_KEPT_MAX;
use crate::order::Order;
use crate::order::window::in_jst;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Everything that binds one measure beyond its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restriction {
    /// Highest number of a directive; 0 before the first.
    pub number: u64,
    /// Reason of the directive that stopped the measure.
    pub stopped: Option<String>,
    /// The facility's share that a directive left, in parts per million.
    pub share_ppm: Option<u32>,
    /// First nanosecond after the end that a directive set, since 1970.
    pub not_after_ns: Option<u64>,
    /// The carrier's kill switch, if it was thrown.
    pub kill_switch: Option<KillSwitch>,
    /// The last directives, as they were signed.
    pub directives: Vec<String>,
}

/// The carrier's kill switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillSwitch {
    /// Why.
    pub reason: String,
    /// Since when (RFC 3339).
    pub since: String,
}

impl Restriction {
    /// What is left after a directive, whose note is `note`; `chain` holds the order that began the measure and those that
    /// extend it.
    ///
    /// # Errors
    /// It is for another measure or order, its number is not higher than the last, it was issued later than `now`, or it
    /// does not narrow what is in force.
    pub fn directed(
        &self,
        directive: &Directive,
        note: &str,
        chain: &[Order],
        now: Timestamp,
    ) -> Result<Self, DirectiveError> {
        let Some(order) = chain.iter().find(|order| order.sha256 == directive.order_sha256) else {
            return wrong("order_sha256", "names an order that is not in force here");
        };
        if directive.measure != order.measure.id {
            return wrong("measure", format!("{:?}, the order's is {:?}", directive.measure, order.measure.id));
        }
        if directive.number <= self.number {
            let next = self.number.saturating_add(1);
            let reason = format!("{} is not above {}, the last one; {next} is next", directive.number, self.number);
            return wrong("number", reason);
        }
        if directive.issued > now {
            return wrong("issued", format!("{} is later than this host's clock", in_jst(directive.issued)));
        }
        let mut left = self.clone();
        match directive.kind {
            Kind::Stop => left.stopped = Some(directive.reason.clone()),
            Kind::LowerShare(share_ppm) => {
                let highest = self.share_ppm.unwrap_or(u32::MAX).min(order.facility.share_ppm);
                if share_ppm >= highest {
                    return wrong("share_ppm", format!("{share_ppm} is not below {highest}, which is in force"));
                }
                left.share_ppm = Some(share_ppm);
            }
            Kind::Shorten(not_after) => {
                let last = chain.iter().map(|order| order.measure.not_after).max().unwrap_or(Timestamp::MIN);
                let end = self.not_after_ns.map_or(last.as_nanosecond(), i128::from).min(last.as_nanosecond());
                if not_after.as_nanosecond() >= end {
                    return wrong("not_after", format!("{} is not before the end in force", in_jst(not_after)));
                }
                // A moment before 1970 has long ended the measure.
                left.not_after_ns = Some(u64::try_from(not_after.as_nanosecond()).unwrap_or(0));
            }
        }
        left.number = directive.number;
        left.directives.push(note.to_owned());
        let beyond = left.directives.len().saturating_sub(DIRECTIVES_KEPT_MAX);
        left.directives.drain(..beyond);
        Ok(left)
    }

    /// The carrier throws its switch; the first reason stands.
    #[must_use]
    pub fn killed(&self, reason: &str, now: Timestamp) -> Self {
        let thrown = || KillSwitch { reason: reason.to_owned(), since: now.to_string() };
        Self { kill_switch: self.kill_switch.clone().or_else(|| Some(thrown())), ..self.clone() }
    }

    /// The carrier takes its own switch back; what the Commission directed stays.
    #[must_use]
    pub fn release(&self) -> Self {
        Self { kill_switch: None, ..self.clone() }
    }

    /// Why the measure may not select at all, if so.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        match (&self.stopped, &self.kill_switch) {
            (Some(reason), _) => Some(format!("stopped by a directive of the Commission: {reason}")),
            (None, Some(switch)) => Some(format!("the carrier's kill switch: {}", switch.reason)),
            (None, None) => None,
        }
    }

    /// What is left of a tap's share: in proportion to what is left of the facility's, rounded down, so that all taps
    /// together stay within it.
    #[must_use]
    pub fn tap_share_ppm(&self, tap_share_ppm: u32, facility_share_ppm: u32) -> u32 {
        match self.share_ppm {
            Some(left) if left < facility_share_ppm => {
                let share = u64::from(tap_share_ppm) * u64::from(left) / u64::from(facility_share_ppm);
                u32::try_from(share).unwrap_or(tap_share_ppm).min(tap_share_ppm)
            }
            _ => tap_share_ppm,
        }
    }
}
