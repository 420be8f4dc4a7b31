//! Totals: what each step between the port and the spool was given and let through, declared in the export.
//!
//! In: the kernel's counters and the drain's. Out: a message in each measure's spool, so that the receiving facility knows what a full
//! ring or a full spool lost. Bounds: one message for each [`TOTALS_INTERVAL`](crate::limits::TOTALS_INTERVAL), none while nothing
//! changes, one more when the sample changes and when the agent stops.

use super::agent::{Agent, lock};
use super::error::RunError;
use super::measure::Measure;
use super::sampling::{ppm, verdict};
use crate::ipfix::selection::{self, Step, Totals};
use std::sync::atomic::Ordering;
use tap_common::abi::counter::{MeasureCounters, Verdict};

/// Declares the totals of every measure whose totals changed.
///
/// # Errors
/// The kernel's counters cannot be read.
pub(super) fn declare(agent: &Agent) -> Result<(), RunError> {
    let counters = agent.with_tap(|tap| tap.counters())?;
    for (measure, counted) in agent.measures.iter().zip(&counters.measures) {
        if *lock(&measure.declared) != Some(totals(measure, counted)) {
            let threshold = lock(&measure.sample).threshold();
            announce(agent, measure, counted, threshold);
        }
    }
    Ok(())
}

/// Tells the receiving facility the probability from now on, and the totals. What cannot be told now is told the next time.
pub(super) fn announce(agent: &Agent, measure: &Measure, counted: &MeasureCounters, threshold: u64) {
    let totals = totals(measure, counted);
    match measure.spool.append(&selection::body(&totals, ppm(threshold), &agent.instance)) {
        Ok(_) => *lock(&measure.declared) = Some(totals),
        Err(error) => tracing::error!(measure = measure.id(), %error, "totals cannot be spooled"),
    }
}

fn totals(measure: &Measure, counted: &MeasureCounters) -> Totals {
    let observed: u64 = counted.verdicts.iter().sum();
    let sampled = observed.saturating_sub(verdict(counted, Verdict::NotSampled));
    let selected = verdict(counted, Verdict::Selected);
    let records = &measure.records;
    let spooled = records.spooled.load(Ordering::Relaxed);
    let lost = records.refused.load(Ordering::Relaxed).saturating_add(records.invalid.load(Ordering::Relaxed));
    let step = |observed, selected| Step { observed, selected };
    Totals {
        measure: measure.slot,
        sample: step(observed, sampled),
        selection: step(sampled, selected),
        ring: step(selected, selected.saturating_sub(counted.ring_lost)),
        // Not what was drained: a part of that is on its way.
        spool: step(spooled.saturating_add(lost), spooled),
    }
}
