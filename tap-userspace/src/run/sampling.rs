//! Sampling: every second, how large a part of the flows each measure looks at; at stated times a new seed.
//!
//! In: what the kernel has counted. Out: thresholds in the kernel, never above the order's, so that whole flows are kept
//! and the cap, which cuts through flows, seldom has to bite. Every change is on disk before it is made; what cannot be
//! recorded is not done. Bounds: floor and ceiling of the thresholds, a change a second.
//!
//! One hash serves all measures, so their samples are nested: a measure that brings its own sample below the facility's
//! share brings the union of the smaller ones below it too. So each measure is held against the lower of its own share and
//! the facility's, and none needs to know of another.

mod changes;
pub(super) mod controller;
mod seed;
#[cfg(test)]
mod tests;

pub(super) use changes::{Change, ChangeLog};

use super::agent::{Agent, Seed, lock};
use super::error::RunError;
use super::swap;
use super::totals;
use crate::audit::Leaf;
use crate::limits::{SAMPLING_STEP, TOTALS_INTERVAL};
use crate::loader::Reading;
use controller::{Controller, Totals};
use jiff::Timestamp;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tap_common::abi::counter::{MeasureCounters, Verdict};
use tap_common::limits::PPM;

/// The sample of one measure.
#[derive(Debug)]
pub(super) struct Sample {
    controller: Controller,
    pub(super) changes_total: u64,
    failing: bool,
}

impl Sample {
    /// Begins with what the order allows: a threshold, 0 to 2^32.
    pub(super) fn new(ceiling: u64) -> Self {
        Self { controller: Controller::new(ceiling), changes_total: 0, failing: false }
    }

    /// The threshold in force.
    pub(super) fn threshold(&self) -> u64 {
        self.controller.threshold()
    }

    /// The order's.
    pub(super) fn ceiling(&self) -> u64 {
        self.controller.ceiling()
    }
}

/// Records the beginning and writes every measure's first threshold.
///
/// # Errors
/// It cannot be recorded, or the kernel does not take it.
pub(super) fn begin(agent: &Agent, now: Timestamp) -> Result<(), RunError> {
    let write = |change: &Change<'_>| {
        lock(&agent.changes).write(change).map_err(|error| RunError::failed("state.directory", error))
    };
    let generation = lock(&agent.generations).last_number().saturating_add(1);
    write(&Change::Seed { time: now.to_string(), generation, reason: "start" })?;
    for measure in &agent.measures {
        let new = lock(&measure.sample).threshold();
        write(&Change::Threshold { time: now.to_string(), measure: measure.id(), old: None, new, reason: "start" })?;
        agent.with_tap(|tap| {
            tap.set_sampling(u32::from(measure.slot), new);
            Ok(())
        })?;
    }
    Ok(())
}

/// Looks every second, on the second, until the agent stops.
pub(super) fn run(agent: &Agent) {
    let times: Vec<_> = agent.config.sampling.new_seed_at.iter().filter_map(|time| time.parse().ok()).collect();
    let mut seen = Timestamp::now();
    let mut failing = false;
    let mut declared = Instant::now();
    while !agent.stopping() {
        let due = declared.elapsed() >= TOTALS_INTERVAL;
        let looked = step(agent).and_then(|()| if due { totals::declare(agent) } else { Ok(()) });
        if due {
            declared = Instant::now();
        }
        match looked {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, "the samples cannot be looked at");
            }
            Err(_) => {}
        }
        let now = Timestamp::now();
        if seed::is_due(&times, seen, now) {
            match new_seed(agent, now) {
                Ok(generation) => tracing::info!(generation, "the flow hash has a new seed"),
                Err(error) => tracing::error!(%error, "the flow hash keeps its seed until the next stated time"),
            }
        }
        seen = now;
        std::thread::park_timeout(until_next_step(Timestamp::now()));
    }
}

/// Time until the next whole step of the wall clock.
fn until_next_step(now: Timestamp) -> Duration {
    let step_ns = SAMPLING_STEP.as_nanos();
    let into_ns = now.as_nanosecond().unsigned_abs() % step_ns;
    Duration::from_nanos(u64::try_from(step_ns - into_ns).unwrap_or(u64::MAX)).min(SAMPLING_STEP)
}

fn step(agent: &Agent) -> Result<(), RunError> {
    let facility_share_ppm = lock(&agent.permission).facility_share_ppm;
    let Reading { counters, boot_ns: now_ns } = agent.with_tap(|tap| tap.reading())?;
    for (measure, counted) in agent.measures.iter().zip(&counters.measures) {
        let share_ppm = measure.share_ppm().min(facility_share_ppm);
        let bits = u128::from(agent.host.facility.capacity_bits_per_second) * u128::from(share_ppm);
        let share_bytes_per_second = u64::try_from(bits / u128::from(PPM) / 8).unwrap_or(u64::MAX);
        let mut sample = lock(&measure.sample);
        let old = sample.threshold();
        let Some((new, reason)) = sample.controller.step(now_ns, load(counted), share_bytes_per_second) else {
            continue;
        };
        let time = Timestamp::now().to_string();
        let change = Change::Threshold { time, measure: measure.id(), old: Some(old), new, reason: reason.name() };
        if let Err(error) = lock(&agent.changes).write(&change) {
            sample.controller.take_back(old);
            if !sample.failing {
                tracing::error!(%error, "a change of the sample cannot be recorded: it is not made");
            }
            sample.failing = true;
            continue;
        }
        sample.failing = false;
        sample.changes_total += 1;
        drop(sample);
        agent.audit.tell(&Leaf::SampleMoved { measure: measure.id().to_owned(), from: old, to: new });
        agent.with_tap(|tap| {
            tap.set_sampling(u32::from(measure.slot), new);
            Ok(())
        })?;
        tracing::info!(measure = measure.id(), old, new, reason = reason.name(), "the sample's threshold changes");
        totals::announce(agent, measure, counted, new);
    }
    Ok(())
}

fn load(counted: &MeasureCounters) -> Totals {
    Totals {
        admitted_packets: counted.admitted_packets,
        admitted_bytes: counted.admitted_bytes,
        refused_packets: verdict(counted, Verdict::OverCap),
    }
}

pub(super) fn verdict(counted: &MeasureCounters, verdict: Verdict) -> u64 {
    counted.verdicts.get(verdict as usize).copied().unwrap_or_default()
}

/// A threshold as parts per million, rounded.
pub(super) fn ppm(threshold: u64) -> u32 {
    let ppm = (u128::from(threshold) * u128::from(PPM) + (1 << 31)) >> 32;
    u32::try_from(ppm).unwrap_or(u32::MAX)
}

/// A generation with the same sets and another seed. Its number.
fn new_seed(agent: &Agent, now: Timestamp) -> Result<u64, RunError> {
    let mut seed = lock(&agent.loading);
    if agent.stopping() {
        return Err(RunError::Failed("the agent is stopping".into()));
    }
    let new = Seed::random()?;
    let generation = lock(&agent.generations).last_number().saturating_add(1);
    let record = |reason| {
        let change = Change::Seed { time: now.to_string(), generation, reason };
        lock(&agent.changes).write(&change).map_err(|error| RunError::failed("a new seed cannot be recorded", error))
    };
    record("time")?;
    if let Err(error) = swap::reload(agent, &new) {
        record("failed: the seed before stays")?;
        return Err(error);
    }
    *seed = new;
    agent.seeds_total.fetch_add(1, Ordering::Relaxed);
    Ok(generation)
}
