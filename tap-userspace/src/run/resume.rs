//! Resume: what a killed agent had spooled but not yet given back to the rings.
//!
//! In: the last messages of the spool. Out: for each CPU the first record number that is not spooled, so that a record
//! which is still in its ring is not spooled twice. It sees pseudonymised records only. Bound: a ring's space is given
//! back right after its batch is spooled, so no more than one batch can be in both; nothing of it is acknowledged within
//! that moment, because acknowledging takes a flush to the receiving facility's disk.

use crate::ipfix::decode::{Templates, sets};
use crate::ipfix::message::OBSERVATION_DOMAIN;
use crate::ipfix::template::{self, RecordTemplate};
use crate::ipfix::{decode, typed};
use crate::limits::{BATCH_RECORDS_MAX, BODY_BYTES_MAX, DRAIN_RECORDS_MAX};
use crate::path::spool::Spool;
use tap_common::limits::RULES_MAX;

/// First record number of each CPU's ring that the spool does not hold, for records that `instance` numbered.
///
/// A message that cannot be read is passed over, and said: its records would be spooled a second time at worst.
pub(super) fn next_sequences(spool: &Spool, instance: &[u8; 16], rings: usize) -> Vec<u64> {
    let mut templates = Templates::default();
    for template in template::exporter() {
        templates.insert(OBSERVATION_DOMAIN, template);
    }
    let mut next = vec![0; rings];
    let end = spool.next_sequence();
    for sequence in end.saturating_sub(messages_max(rings)).max(spool.first_sequence())..end {
        match spool.read(sequence) {
            Ok(Some(body)) => {
                if let Err(error) = note(&body, instance, &mut templates, &mut next) {
                    tracing::warn!(sequence, %error, "a spooled message does not decode");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(sequence, %error, "a spooled message cannot be read"),
        }
    }
    next
}

/// Notes the records of one message.
fn note(
    body: &[u8],
    wanted: &[u8; 16],
    templates: &mut Templates,
    next: &mut [u64],
) -> Result<(), decode::DecodeError> {
    let mut instance = None;
    for set in sets(body, 0, OBSERVATION_DOMAIN, templates)? {
        let decode::Body::Data(template, records) = set.body else { continue };
        for data in &records {
            if let Some(named) = typed::instance(&template, data)? {
                instance = Some(named);
            } else if instance.as_ref() == Some(wanted)
                && let Some(record) = typed::record(&template, data)?
                && let Some(next) = usize::try_from(record.cpu).ok().and_then(|cpu| next.get_mut(cpu))
            {
                *next = record.sequence.saturating_add(1).max(*next);
            }
        }
    }
    Ok(())
}

/// Messages that one batch, a rule table, a sampling probability and totals beside it can make.
fn messages_max(rings: usize) -> u64 {
    let records = BATCH_RECORDS_MAX + DRAIN_RECORDS_MAX * rings;
    let bytes = [RecordTemplate::Psamp, RecordTemplate::Flow].map(|of| of.template().record_bytes_min());
    let record_bytes = bytes.into_iter().max().unwrap_or_default();
    // Half a body is what the worst packing leaves of it.
    (records * record_bytes / (BODY_BYTES_MAX / 2) + RULES_MAX + 4) as u64
}

#[cfg(test)]
mod tests {
    use super::super::batch::Batch;
    use super::super::batch::tests::{record, spool};
    use super::*;
    use crate::config::SpoolSync;
    use crate::ipfix::encode::{RuleTable, rule_table};
    use crate::path::PseudonymisedRecord;
    use std::time::Instant;

    const OURS: [u8; 16] = [1; 16];

    fn spooled(spool: &Spool, instance: [u8; 16], cpu: u32, sequences: std::ops::Range<u64>) {
        let mut batch = Batch::new(RecordTemplate::Psamp, instance);
        for sequence in sequences {
            batch.push(PseudonymisedRecord { cpu, ..record(sequence) }, Instant::now());
        }
        assert_eq!(batch.flush(spool, SpoolSync::Group).refused, 0);
    }

    #[test]
    fn a_new_spool_begins_every_ring_at_its_beginning() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(next_sequences(&spool(directory.path(), 2 << 20), &OURS, 2), [0, 0]);
    }

    #[test]
    fn the_last_spooled_record_of_each_cpu_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let spool = spool(directory.path(), 2 << 20);
        spooled(&spool, [9; 16], 0, 5_000..5_010);
        spooled(&spool, OURS, 0, 0..1_000);
        spooled(&spool, OURS, 1, 40..57);
        let table =
            RuleTable { measure: 0, measure_id: "m-1", generation: 2, set_sha256: [3; 32], rules: &["r".into()] };
        for body in rule_table(&table) {
            spool.append(&body).unwrap();
        }
        assert_eq!(next_sequences(&spool, &OURS, 3), [1_000, 57, 0]);
        assert_eq!(next_sequences(&spool, &OURS, 1), [1_000], "a CPU that is gone is passed over");
        assert_eq!(next_sequences(&spool, &[2; 16], 2), [0, 0], "other maps count from 0");
    }
}
