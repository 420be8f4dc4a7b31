//! Power loss on the receiving side: what was being written is cut short or changed at each offset and never counts; a stored file that
//! a disk gives back short is named. In the default suite some offsets, with `GWTAP_LONG=1` every one.

use std::path::PathBuf;

use super::kit::{HOST, Kit, append, append_rules, emptied};
use crate::path::export::Acknowledgement;
use crate::receive::read::{ReadError, StoredRecord, records};
use crate::receive::store::{Store, StoredMessage, sorted};

/// What is damaged of each file.
const TAIL_BYTES: usize = 64 << 10;
const STEP: usize = 389;
const MESSAGES: u64 = 4;

fn offsets(length: usize) -> impl Iterator<Item = usize> {
    let every = std::env::var_os("GWTAP_LONG").is_some_and(|value| value == "1");
    (length.saturating_sub(TAIL_BYTES)..length).step_by(if every { 1 } else { STEP })
}

fn read(store: &std::path::Path) -> (Vec<StoredRecord>, Option<ReadError>) {
    let mut all = Vec::new();
    let ended = records(store, |record| {
        all.push(record.clone());
        true
    });
    (all, ended.err())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_power_cut_leaves_of_any_file_of_the_store_is_named_or_comes_again_and_nothing_is_invented() {
    let kit = Kit::new();
    let spool = kit.spool();
    append_rules(&spool);
    append(&spool, 0, 30 * (MESSAGES - 1), 30);
    let receiver = kit.receiver(0).await.unwrap();
    let exporter = kit.exporter("host", receiver.address, &spool, Acknowledgement::Required);
    emptied(&spool).await;
    exporter.stop().await;
    receiver.stop().await;
    let uuid = spool.uuid();
    let directory = kit.store().join(hex::encode(HOST.0)).join(hex::encode(uuid));
    let names = sorted(&directory).unwrap();
    assert_eq!(names.len() as u64, MESSAGES);
    let whole = kit.stored();

    for (sequence, name) in (0..).zip(&names) {
        let path = directory.join(name);
        let bytes = std::fs::read(&path).unwrap();
        let mut unnamed = 0;
        for offset in offsets(bytes.len()) {
            // The disk gave a stored file back short: it is named, what stands before it is shown, and nothing else.
            std::fs::write(&path, &bytes[..offset]).unwrap();
            let (found, error) = read(&kit.store());
            assert!(is_part(&found, &whole), "{name} cut at {offset}");
            unnamed += u32::from(error.is_none());
            assert!(error.is_none_or(|error| names_it(&error, &path)), "{name} cut at {offset}");
            assert!(found.len() < whole.len() || sequence == 0, "{name} cut at {offset}");
            // A changed bit: an error, or a file of the same shape; never more records.
            let mut changed = bytes.clone();
            changed[offset] ^= 1 << (offset % 8);
            std::fs::write(&path, &changed).unwrap();
            let (found, error) = read(&kit.store());
            assert!(found.len() <= whole.len(), "{name} changed at {offset}");
            assert!(error.is_none_or(|error| names_it(&error, &path)), "{name} changed at {offset}");

            // Being written when the power went: it has no name, does not count, and is stored whole when it comes again.
            for torn in [&bytes[..offset], &changed] {
                std::fs::remove_file(&path).unwrap();
                std::fs::write(directory.join(format!(".{sequence:020}.new")), torn).unwrap();
                let (found, error) = read(&kit.store());
                assert!(error.is_none() && is_part(&found, &whole));
                let store = Store::open(&kit.store()).unwrap();
                let place = store.spool(&HOST.0, &uuid);
                let before = place.store(0, &[]).unwrap();
                assert_eq!(before.through, u64::checked_sub(sequence, 1), "{name} torn at {offset}");
                let again = StoredMessage { sequence, contents: bytes.clone(), records: 30 };
                assert_eq!(place.store(0, &[again]).unwrap().through, Some(MESSAGES - 1));
            }
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        // Cut between its two messages, or empty, it looks whole.
        assert!(unnamed <= 2, "{name}: {unnamed} cuts were not named");
    }
    assert_eq!(kit.stored(), whole);
}

/// Each record is one of those stored, in their order; names of rules apart, which stand in a file of their own.
fn is_part(found: &[StoredRecord], whole: &[StoredRecord]) -> bool {
    let mut all = whole.iter();
    found.iter().all(|record| all.any(|stored| stored.record == record.record && stored.instance == record.instance))
}

fn names_it(error: &ReadError, path: &PathBuf) -> bool {
    matches!(error, ReadError::Damaged { path: named, .. } if named == path)
}
