//! Drain: from the kernel's rings to the spools, every millisecond.
//!
//! In: records of every CPU's ring. Out: pseudonymised batches in the spool of each record's measure, and of no other; only
//! then is a ring's space given back, so that a killed agent's successor finds what was not spooled (and skips what was).
//! Clear records live in one buffer, for one pass. Bounds: records a pass, records and age of a batch.

use super::agent::{Agent, lock};
use super::batch::Batch;
use super::measure::Measure;
use super::receipts;
use super::resume;
use crate::limits::{ALARM_INTERVAL, DRAIN_INTERVAL, DRAIN_RECORDS_MAX};
use crate::path::ring::RingConsumer;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tap_common::abi::record::Record;
use zeroize::Zeroize as _;

/// The rings and what is on its way from them.
pub(super) struct Drain {
    rings: Vec<RingConsumer>,
    clear: Vec<Record>,
    /// By slot.
    pipelines: Vec<Pipeline>,
    alarmed: Option<Instant>,
}

/// The way of one measure's records.
struct Pipeline {
    /// For each CPU the first record number that may not be in the spool yet.
    next: Vec<u64>,
    batch: Batch,
    drained: u64,
}

impl Pipeline {
    fn new(agent: &Agent, measure: &Measure, rings: usize) -> Self {
        Self {
            next: resume::next_sequences(&measure.spool, &agent.instance, rings),
            batch: Batch::new(measure.config.export.template, agent.instance),
            drained: 0,
        }
    }

    /// Whether a killed agent had the record spooled already; if not, it is taken now.
    fn had(&mut self, cpu: usize, record: &Record) -> bool {
        let Some(next) = self.next.get_mut(cpu) else { return false };
        if record.sequence < *next {
            return true;
        }
        *next = record.sequence.saturating_add(1);
        false
    }
}

impl Drain {
    pub(super) fn new(agent: &Agent, rings: Vec<RingConsumer>) -> Self {
        let pipelines = agent.measures.iter().map(|measure| Pipeline::new(agent, measure, rings.len())).collect();
        Self { rings, clear: Vec::with_capacity(DRAIN_RECORDS_MAX), pipelines, alarmed: None }
    }

    /// Drains until the agent stops and the rings are empty.
    pub(super) fn run(mut self, agent: &Agent) {
        loop {
            let stopping = agent.stopping();
            let taken = self.pass(agent);
            let now = Instant::now();
            // Batches that stayed empty (nothing of what was taken can leave) give the rings back all the same.
            let barren = taken > 0 && self.pipelines.iter().all(|pipeline| pipeline.batch.is_empty());
            let due = self.pipelines.iter().any(|pipeline| pipeline.batch.due(now));
            if due || barren || (stopping && taken == 0) {
                self.flush(agent, now);
            }
            if stopping && taken == 0 {
                return;
            }
            // Whoever took all that a pass takes of a ring has more waiting; a consumer that spins on nearly empty rings makes each
            // record dearer for the kernel.
            if taken < DRAIN_RECORDS_MAX {
                std::thread::sleep(DRAIN_INTERVAL);
            }
        }
    }

    /// Every ring once; returns how many records there were.
    fn pass(&mut self, agent: &Agent) -> usize {
        let now = Instant::now();
        let mut taken = 0;
        let generations = lock(&agent.generations);
        let pseudonymisers: Vec<_> = agent.measures.iter().map(|measure| lock(&measure.pseudonymiser)).collect();
        let Self { rings, clear, pipelines, .. } = self;
        for (cpu, ring) in rings.iter_mut().enumerate() {
            taken += ring.drain(clear, DRAIN_RECORDS_MAX);
            for record in &*clear {
                let slot = usize::from(record.measure);
                let (Some(measure), Some(pipeline), Some(pseudonymiser)) =
                    (agent.measures.get(slot), pipelines.get_mut(slot), pseudonymisers.get(slot))
                else {
                    // Of a slot that has no measure: it leaves on nobody's way.
                    agent.invalid.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                if pipeline.had(cpu, record) {
                    continue;
                }
                pipeline.drained += 1;
                let Some(record) = generations.own(record) else {
                    measure.records.invalid.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                match pseudonymiser.pseudonymise(&record) {
                    Ok(record) => pipeline.batch.push(record, now),
                    Err(error) => {
                        measure.records.invalid.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(measure = measure.id(), %error, "a record cannot leave");
                    }
                }
            }
            erase(clear);
        }
        drop(pseudonymisers);
        drop(generations);
        for (measure, pipeline) in agent.measures.iter().zip(pipelines) {
            measure.records.drained.fetch_add(std::mem::take(&mut pipeline.drained), Ordering::Relaxed);
        }
        self.inspect(agent, now);
        taken
    }

    /// Counts ring entries that are no records, and says so when a ring cannot be read any further.
    fn inspect(&mut self, agent: &Agent, now: Instant) {
        let statuses = || self.rings.iter().map(RingConsumer::status);
        let entries = statuses().map(|status| status.unknown_total + status.malformed_total).sum();
        agent.entries.store(entries, Ordering::Relaxed);
        if statuses().any(|status| status.corrupt) && self.alarm_due(now) {
            tracing::error!(
                "a ring's contents contradict themselves: its records are lost until the maps are made anew"
            );
        }
    }

    fn alarm_due(&mut self, now: Instant) -> bool {
        let due = self.alarmed.is_none_or(|last| now.saturating_duration_since(last) >= ALARM_INTERVAL);
        if due {
            self.alarmed = Some(now);
        }
        due
    }

    /// Every measure's batch at once: the rings hold the records of all of them.
    fn flush(&mut self, agent: &Agent, now: Instant) {
        let mut refusals = Vec::new();
        for (measure, pipeline) in agent.measures.iter().zip(&mut self.pipelines) {
            receipts::days(agent, measure, pipeline.batch.days());
            let flushed = pipeline.batch.flush(&measure.spool, measure.config.spool.sync);
            measure.records.spooled.fetch_add(flushed.spooled, Ordering::Relaxed);
            measure.records.refused.fetch_add(flushed.refused, Ordering::Relaxed);
            refusals.extend(flushed.error.map(|error| (measure.id(), error, flushed.refused)));
        }
        if !refusals.is_empty() && self.alarm_due(now) {
            for (measure, error, records) in refusals {
                tracing::error!(measure, %error, records, "the spool refused records: they are lost");
            }
        }
        for ring in &mut self.rings {
            ring.release();
        }
    }
}

/// Empties the buffer, and leaves no address in the memory that it keeps for the next pass.
fn erase(clear: &mut Vec<Record>) {
    for record in &mut *clear {
        record.source.zeroize();
        record.destination.zeroize();
    }
    clear.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_left_in_the_buffer() {
        let address = [0x5a; 16];
        // SAFETY: a record is integers alone, for which zeros are values.
        let mut record: Record = unsafe { std::mem::zeroed() };
        (record.source, record.destination) = (address, address);
        let mut clear = vec![record; 3];
        erase(&mut clear);
        assert!(clear.is_empty());
        for left in clear.spare_capacity_mut().iter_mut().take(3) {
            // SAFETY: the three of them were written above, and nothing takes them away but `clear`.
            let left = unsafe { left.assume_init_mut() };
            assert!(left.source == [0; 16] && left.destination == [0; 16]);
        }
    }
}
