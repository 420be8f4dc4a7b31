//! Batches: from pseudonymised records to messages in the spool.
//!
//! In: records one by one. Out: messages of at most 60,000 octets in the spool, and the count of what it refused. It
//! never sees a clear address. Bounds: [`BATCH_RECORDS_MAX`] records or [`BATCH_DELAY`], whichever comes first.

use crate::config::SpoolSync;
use crate::ipfix::encode::record_sets;
use crate::ipfix::template::RecordTemplate;
use crate::limits::{BATCH_DELAY, BATCH_RECORDS_MAX};
use crate::notice::day_number;
use crate::path::PseudonymisedRecord;
use crate::path::spool::{Spool, SpoolError};
use std::collections::BTreeSet;
use std::time::Instant;

/// Records that wait to be spooled together.
#[derive(Debug)]
pub(super) struct Batch {
    template: RecordTemplate,
    /// Instance of the kernel's maps that numbered the records.
    instance: [u8; 16],
    records: Vec<PseudonymisedRecord>,
    since: Option<Instant>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Flushed {
    /// Records in the spool.
    pub(super) spooled: u64,
    /// Records that the spool refused: they are lost, and counted.
    pub(super) refused: u64,
    /// Why, for the last one refused.
    pub(super) error: Option<SpoolError>,
}

impl Batch {
    pub(super) fn new(template: RecordTemplate, instance: [u8; 16]) -> Self {
        Self { template, instance, records: Vec::with_capacity(BATCH_RECORDS_MAX), since: None }
    }

    pub(super) fn push(&mut self, record: PseudonymisedRecord, now: Instant) {
        self.since.get_or_insert(now);
        self.records.push(record);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Days in Japan that the records are of.
    pub(super) fn days(&self) -> BTreeSet<u64> {
        self.records.iter().map(|record| day_number(record.time.0)).collect()
    }

    /// Whether it is to be spooled now: by size or by age.
    pub(super) fn due(&self, now: Instant) -> bool {
        self.records.len() >= BATCH_RECORDS_MAX
            || self.since.is_some_and(|since| now.saturating_duration_since(since) >= BATCH_DELAY)
    }

    /// Spools everything. Afterwards the batch is empty and the rings may be released: what the spool refused will not
    /// be taken a second time either. With [`SpoolSync::Each`] it is on the disk then, too.
    pub(super) fn flush(&mut self, spool: &Spool, sync: SpoolSync) -> Flushed {
        let mut flushed = Flushed::default();
        let record_bytes = self.template.template().record_bytes_min().max(1);
        for body in record_sets(&self.records, self.template, &self.instance) {
            // What is no record in a body is shorter than one.
            let records = (body.len() / record_bytes) as u64;
            match spool.append(&body) {
                Ok(_) => flushed.spooled += records,
                Err(error) => {
                    flushed.refused += records;
                    flushed.error = Some(error);
                }
            }
        }
        if sync == SpoolSync::Each
            && flushed.spooled > 0
            && let Err(error) = spool.sync()
        {
            // They are in the spool, and may not be in a moment without power; from here on it refuses what comes.
            flushed.error = Some(error);
        }
        self.records.clear();
        self.since = None;
        flushed
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::path::spool::{SpoolKey, SpoolLimits};
    use crate::path::{AddressKind, ExportedAddress, UnixNs};
    use std::time::Duration;

    pub(in super::super) fn record(sequence: u64) -> PseudonymisedRecord {
        let address = ExportedAddress { bytes: [7; 16], kind: AddressKind::Deterministic };
        PseudonymisedRecord {
            time: UnixNs(1_800_000_000_000_000_000),
            source: address,
            destination: address,
            source_port: Some(443),
            destination_port: Some(50_000),
            protocol: 6,
            tcp_flags: Some(2),
            ip_version: 4,
            direction: 1,
            line_bytes: 84,
            ip_length: 40,
            fragment: 0,
            sliced: false,
            measure: 0,
            generation: 1,
            rules: [1, 0, 0, 0],
            cpu: 0,
            sequence,
            key_epoch: 1,
        }
    }

    pub(in super::super) fn spool(directory: &std::path::Path, bytes_max: u64) -> Spool {
        let key = SpoolKey::new([0x5a; 32]);
        Spool::open(directory, &key, SpoolLimits { bytes_max, segment_bytes: bytes_max / 2 }).unwrap()
    }

    #[test]
    fn it_is_due_by_size_or_by_age() {
        let start = Instant::now();
        let mut batch = Batch::new(RecordTemplate::Psamp, [4; 16]);
        assert!(!batch.due(start + Duration::from_secs(9)), "an empty batch is never due");
        batch.push(record(0), start);
        batch.push(record(1), start + BATCH_DELAY / 2);
        assert!(!batch.due(start + BATCH_DELAY - Duration::from_nanos(1)));
        assert!(batch.due(start + BATCH_DELAY), "the first record's age counts");
        for sequence in 2..BATCH_RECORDS_MAX as u64 {
            assert!(!batch.due(start));
            batch.push(record(sequence), start);
        }
        assert!(batch.due(start));
    }

    #[test]
    fn every_record_is_spooled_or_counted_as_refused() {
        let directory = tempfile::tempdir().unwrap();
        let spool = spool(directory.path(), 2 << 20);
        let mut batch = Batch::new(RecordTemplate::Psamp, [4; 16]);
        let (mut offered, mut spooled, mut refused) = (0, 0, 0);
        while refused == 0 {
            for sequence in 0..1_000 {
                batch.push(record(sequence), Instant::now());
            }
            offered += 1_000;
            let flushed = batch.flush(&spool, SpoolSync::Group);
            assert_eq!(flushed.spooled + flushed.refused, 1_000);
            assert_eq!(flushed.error.is_some(), flushed.refused > 0);
            assert!(batch.is_empty() && !batch.due(Instant::now() + BATCH_DELAY));
            spooled += flushed.spooled;
            refused += flushed.refused;
        }
        assert_eq!(offered, spooled + refused);
        assert!(spooled > 1_000, "{spooled}");
        assert_eq!(spool.status().messages, spool.next_sequence());
    }

    #[test]
    fn a_batch_is_on_the_disk_when_it_is_to_be() {
        let directory = tempfile::tempdir().unwrap();
        let spool = spool(directory.path(), 2 << 20);
        let mut batch = Batch::new(RecordTemplate::Psamp, [4; 16]);
        for (sync, durable) in [(SpoolSync::Group, 0), (SpoolSync::Each, 2)] {
            batch.push(record(0), Instant::now());
            let flushed = batch.flush(&spool, sync);
            assert!(flushed.spooled == 1 && flushed.error.is_none());
            assert_eq!(spool.durable_sequence(), durable, "{sync:?}");
        }
    }
}
