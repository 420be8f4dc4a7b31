//! Drain: from the kernel's rings to the spool, every millisecond.
//!
//! In: records of every CPU's ring. Out: pseudonymised batches in the spool; only then is a ring's space given back, so
//! that a killed agent's successor finds what was not spooled (and skips what was). Clear records live in one buffer, for one pass. Bounds: records a pass, records and age of a batch.

use super::agent::{Agent, lock};
use super::batch::Batch;
use super::resume;
use crate::limits::{ALARM_INTERVAL, DRAIN_INTERVAL, DRAIN_RECORDS_MAX};
use crate::path::ring::RingConsumer;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tap_common::abi::record::Record;

/// The rings and what is on its way from them.
pub(super) struct Drain {
    rings: Vec<RingConsumer>,
    /// For each CPU the first record number that is not in the spool.
    next: Vec<u64>,
    clear: Vec<Record>,
    batch: Batch,
    alarmed: Option<Instant>,
}

impl Drain {
    pub(super) fn new(agent: &Agent, rings: Vec<RingConsumer>) -> Self {
        let batch = Batch::new(agent.config.export.template, agent.instance);
        let next = resume::next_sequences(&agent.spool, &agent.instance, rings.len());
        Self { rings, next, clear: Vec::with_capacity(DRAIN_RECORDS_MAX), batch, alarmed: None }
    }

    /// Drains until the agent stops and the rings are empty.
    pub(super) fn run(mut self, agent: &Agent) {
        loop {
            let stopping = agent.stopping();
            let taken = self.pass(agent);
            let now = Instant::now();
            // A batch that stayed empty (nothing of what was taken can leave) gives the rings back all the same.
            let barren = taken > 0 && self.batch.is_empty();
            if self.batch.due(now) || barren || (stopping && taken == 0) {
                self.flush(agent, now);
            }
            if stopping && taken == 0 {
                return;
            }
            std::thread::sleep(DRAIN_INTERVAL);
        }
    }

    /// Every ring once; returns how many records there were.
    fn pass(&mut self, agent: &Agent) -> usize {
        let now = Instant::now();
        let (mut taken, mut drained) = (0, 0);
        let pseudonymiser = lock(&agent.pseudonymiser);
        let Self { rings, next, clear, batch, .. } = self;
        for (ring, next) in rings.iter_mut().zip(next) {
            taken += ring.drain(clear, DRAIN_RECORDS_MAX);
            // What a killed agent had spooled, but not given back.
            clear.retain(|record| record.sequence >= *next);
            if let Some(last) = clear.last() {
                *next = last.sequence.saturating_add(1);
            }
            drained += clear.len() as u64;
            for record in &*clear {
                match pseudonymiser.pseudonymise(record) {
                    Ok(record) => batch.push(record, now),
                    Err(error) => {
                        agent.records.invalid.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(%error, "a record cannot leave");
                    }
                }
            }
            clear.clear();
        }
        drop(pseudonymiser);
        agent.records.drained.fetch_add(drained, Ordering::Relaxed);
        self.inspect(agent, now);
        taken
    }

    /// Counts ring entries that are no records, and says so when a ring cannot be read any further.
    fn inspect(&mut self, agent: &Agent, now: Instant) {
        let statuses = || self.rings.iter().map(RingConsumer::status);
        let entries = statuses().map(|status| status.unknown_total + status.malformed_total).sum();
        agent.records.entries.store(entries, Ordering::Relaxed);
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

    fn flush(&mut self, agent: &Agent, now: Instant) {
        let flushed = self.batch.flush(&agent.spool);
        agent.records.spooled.fetch_add(flushed.spooled, Ordering::Relaxed);
        agent.records.refused.fetch_add(flushed.refused, Ordering::Relaxed);
        if let Some(error) = flushed.error
            && self.alarm_due(now)
        {
            tracing::error!(%error, records = flushed.refused, "the spool refused records: they are lost");
        }
        for ring in &mut self.rings {
            ring.release();
        }
    }
}
