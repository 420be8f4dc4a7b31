//! Sequences of operations against a model: a queue and two numbers.

use super::{
    SpoolError, SpoolLimits,
    tests::{SMALL, copy, key},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, fs::OpenOptions};

#[derive(Clone, Debug)]
enum Operation {
    Append(usize),
    Trim(u64),
    Read(u64),
    Sync,
    /// Closed in order and opened again.
    Reopen,
    /// The process is killed: the directory as it is, opened by another one.
    Kill,
    /// The power goes: at most this many bytes of what was not synced reach the newest segment.
    PowerCut(u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (0..400_usize).prop_map(Operation::Append),
        3 => (0..12_u64).prop_map(Operation::Trim),
        3 => (0..12_u64).prop_map(Operation::Read),
        1 => Just(Operation::Sync),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::Kill),
        1 => (0..600_u64).prop_map(Operation::PowerCut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_spool_is_a_queue_that_survives(operations in prop::collection::vec(operation(), 1..60)) {
        let base = tempfile::tempdir().unwrap();
        let mut dir = base.path().join("0");
        let limits = SpoolLimits { bytes_max: 4096, ..SMALL };
        let mut spool = super::Spool::open(&dir, &key(), limits).unwrap();
        let uuid = spool.uuid();
        let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let (mut first, mut next, mut durable) = (0, 0, 0);

        for (number, operation) in operations.into_iter().enumerate() {
            match operation {
                Operation::Append(length) => {
                    let message = vec![u8::try_from(number).unwrap(); length];
                    match spool.append(&message) {
                        Ok(sequence) => {
                            prop_assert_eq!(sequence, next);
                            model.insert(sequence, message);
                            next += 1;
                        }
                        Err(SpoolError::Full { bytes, .. }) => prop_assert!(bytes + 1024 > 4096 - 600),
                        Err(error) => panic!("{error}"),
                    }
                }
                Operation::Trim(ahead) => match spool.trim(first + ahead) {
                    Ok(()) => {
                        prop_assert!(first + ahead < next);
                        first += ahead + 1;
                        model = model.split_off(&first);
                        // An acknowledged message was read, and reading makes durable.
                        durable = durable.max(first);
                    }
                    Err(error) => {
                        prop_assert!(first + ahead >= next, "{error}");
                    }
                },
                Operation::Read(ahead) => {
                    prop_assert_eq!(spool.read(first + ahead).unwrap(), model.get(&(first + ahead)).cloned());
                    if first + ahead < next {
                        durable = next;
                    }
                }
                Operation::Sync => {
                    spool.sync().unwrap();
                    durable = next;
                }
                Operation::Reopen => {
                    drop(spool);
                    spool = super::Spool::open(&dir, &key(), limits).unwrap();
                    durable = next;
                }
                Operation::Kill | Operation::PowerCut(_) => {
                    let copied = base.path().join((number + 1).to_string());
                    copy(&dir, &copied);
                    if let Operation::PowerCut(kept) = operation {
                        let durable_bytes = durable_bytes(&spool, durable);
                        let (_, newest) = super::recover::list(&copied).unwrap().pop().unwrap();
                        let file = OpenOptions::new().write(true).open(newest).unwrap();
                        let length = file.metadata().unwrap().len();
                        file.set_len(length.min(durable_bytes + kept)).unwrap();
                    }
                    let (opened, before) = (super::Spool::open(&copied, &key(), limits).unwrap(), next);
                    next = opened.next_sequence();
                    prop_assert!(durable <= next && next <= before);
                    prop_assert!(matches!(operation, Operation::PowerCut(_)) || next == before);
                    model.retain(|sequence, _| *sequence < next);
                    (spool, dir, durable) = (opened, copied, next);
                }
            }
            prop_assert_eq!((spool.first_sequence(), spool.next_sequence()), (first, next));
            prop_assert_eq!(spool.status().messages, next - first);
            prop_assert!(spool.status().bytes <= 4096);
            prop_assert_eq!(spool.uuid(), uuid);
        }
        for sequence in first..next {
            prop_assert_eq!(spool.read(sequence).unwrap(), model.get(&sequence).cloned());
        }
    }
}

/// Bytes of the active segment that hold numbers below `durable`.
fn durable_bytes(spool: &super::Spool, durable: u64) -> u64 {
    let state = spool.state();
    let active = state.segments.back().unwrap();
    let places = active.places.iter().take(usize::try_from(durable.saturating_sub(active.first_sequence)).unwrap());
    let bytes: usize = places.map(|place| place.unwrap().entry_bytes()).sum();
    (super::HEADER_BYTES + bytes) as u64
}
