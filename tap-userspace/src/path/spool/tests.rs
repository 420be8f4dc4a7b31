use super::*;
use std::{sync::atomic::AtomicBool, sync::atomic::Ordering, thread};

pub(super) const SMALL: SpoolLimits = SpoolLimits { bytes_max: 8 * 1024, segment_bytes: 1024 };

pub(super) fn key() -> SpoolKey {
    SpoolKey::new([7; 32])
}

pub(super) fn message(sequence: u64) -> Vec<u8> {
    let length = usize::try_from(sequence * 37 % 150).unwrap();
    sequence.to_le_bytes().iter().copied().cycle().take(length + 8).collect()
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn newest(dir: &Path) -> PathBuf {
    recover::list(dir).unwrap().pop().unwrap().1
}

#[test]
fn what_was_appended_is_read_in_order_across_segments_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), &key(), SMALL).unwrap();
    let uuid = spool.uuid();
    for sequence in 0..20 {
        assert_eq!(spool.append(&message(sequence)).unwrap(), sequence);
    }
    assert!(recover::list(dir.path()).unwrap().len() > 2, "several segments");
    drop(spool);
    let spool = Spool::open(dir.path(), &key(), SMALL).unwrap();
    assert_eq!((spool.uuid(), spool.first_sequence(), spool.next_sequence()), (uuid, 0, 20));
    for sequence in 0..20 {
        assert_eq!(spool.read(sequence).unwrap(), Some(message(sequence)));
    }
    assert_eq!(spool.read(20).unwrap(), None);
    assert_eq!(spool.append(b"").unwrap(), 20);
    assert_eq!(spool.read(20).unwrap(), Some(Vec::new()));
}

#[test]
fn acknowledged_messages_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), &key(), SMALL).unwrap();
    (0..20).for_each(|sequence| assert_eq!(spool.append(&message(sequence)).unwrap(), sequence));
    spool.trim(7).unwrap();
    spool.trim(3).unwrap();
    assert_eq!((spool.first_sequence(), spool.read(7).unwrap()), (8, None));
    assert_eq!(spool.read(8).unwrap(), Some(message(8)));
    assert_eq!((spool.status().messages, spool.status().trimmed_total), (12, 8));
    assert!(matches!(spool.trim(20), Err(SpoolError::NotAppended { acknowledged: 20, next: 20 })));
    drop(spool);
    let spool = Spool::open(dir.path(), &key(), SMALL).unwrap();
    assert_eq!((spool.first_sequence(), spool.next_sequence()), (8, 20));
    spool.trim(19).unwrap();
    drop(spool);
    let spool = Spool::open(dir.path(), &key(), SMALL).unwrap();
    assert_eq!((spool.first_sequence(), spool.next_sequence()), (20, 20));
    assert_eq!(spool.append(b"next").unwrap(), 20);
}

#[test]
fn a_full_spool_refuses_the_newest_and_takes_again_after_an_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let limits = SpoolLimits { bytes_max: 2048, segment_bytes: 1024 };
    let spool = Spool::open(dir.path(), &key(), limits).unwrap();
    let mut appended = 0;
    loop {
        match spool.append(&[1; 200]) {
            Ok(sequence) => appended = sequence + 1,
            Err(SpoolError::Full { bytes, bytes_max: 2048 }) => break assert!(bytes <= 2048),
            Err(error) => panic!("{error}"),
        }
        assert!(appended < 100, "the limit binds");
    }
    assert!(spool.append(&[1; 200]).is_err());
    let status = spool.status();
    assert_eq!((status.refused_total, status.appended_total, status.messages), (2, appended, appended));
    let on_disk: u64 = recover::list(dir.path()).unwrap().iter().map(|(_, p)| fs::metadata(p).unwrap().len()).sum();
    assert_eq!(status.bytes, on_disk);
    for sequence in 0..appended {
        assert_eq!(spool.read(sequence).unwrap(), Some(vec![1; 200]));
    }
    spool.trim(appended - 1).unwrap();
    for _ in 0..50 {
        let sequence = spool.append(&[2; 200]).unwrap();
        spool.trim(sequence).unwrap();
        assert!(spool.status().bytes <= 2048);
    }
    assert!(matches!(spool.append(&[0; 1000]), Err(SpoolError::TooLarge { bytes: 1000, bytes_max: 928 })));
}

/// The newest segment cut at every offset: a prefix of the messages survives, whole and right, and the next number
/// follows it. Then the same with each byte changed.
#[test]
fn every_torn_or_damaged_tail_leaves_only_true_messages() {
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("original");
    let spool = Spool::open(&original, &key(), SMALL).unwrap();
    (0..5).for_each(|sequence| assert_eq!(spool.append(&message(sequence)).unwrap(), sequence));
    spool.sync().unwrap();
    drop(spool);
    let content = fs::read(newest(&original)).unwrap();
    let name = newest(&original).file_name().unwrap().to_owned();
    let torn = dir.path().join("torn");

    for offset in 0..content.len() {
        for (cut, bytes) in [(true, content[..offset].to_vec()), (false, flipped(&content, offset))] {
            drop(fs::remove_dir_all(&torn));
            copy(&original, &torn);
            fs::write(torn.join(&name), bytes).unwrap();
            if offset < HEADER_BYTES {
                assert!(matches!(Spool::open(&torn, &key(), SMALL), Err(SpoolError::Header { .. })));
                continue;
            }
            let spool = Spool::open(&torn, &key(), SMALL).unwrap();
            let next = spool.next_sequence();
            assert!(next <= 5 && spool.first_sequence() == 0);
            let damaged = (0..next).filter(|sequence| match spool.read(*sequence) {
                Ok(read) => {
                    assert_eq!(read, Some(message(*sequence)), "offset {offset}");
                    false
                }
                Err(SpoolError::Damaged { .. }) => true,
                Err(error) => panic!("{error}"),
            });
            // A cut loses a suffix; a changed byte loses its own message alone.
            let damaged = damaged.count();
            assert!(if cut { damaged == 0 } else { damaged as u64 + (5 - next) == 1 }, "offset {offset}");
            assert_eq!(spool.append(b"after").unwrap(), next);
            drop(spool);
            let spool = Spool::open(&torn, &key(), SMALL).unwrap();
            assert_eq!(spool.read(next).unwrap(), Some(b"after".to_vec()), "offset {offset}");
        }
    }
}

fn flipped(bytes: &[u8], offset: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[offset] ^= 0x10;
    bytes
}

#[test]
fn a_damaged_older_segment_loses_no_number_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), &key(), SMALL).unwrap();
    (0..20).for_each(|sequence| assert_eq!(spool.append(&message(sequence)).unwrap(), sequence));
    drop(spool);
    let listed = recover::list(dir.path()).unwrap();
    let (first, path) = &listed[1];
    fs::write(path, flipped(&fs::read(path).unwrap(), 20)).unwrap();
    let spool = Spool::open(dir.path(), &key(), SMALL).unwrap();
    for sequence in 0..20 {
        if (*first..listed[2].0).contains(&sequence) {
            assert!(matches!(spool.read(sequence), Err(SpoolError::Damaged { .. })));
        } else {
            assert_eq!(spool.read(sequence).unwrap(), Some(message(sequence)));
        }
    }
    assert_eq!(spool.status().damaged_total, listed[2].0 - first);
}

#[test]
fn nonces_differ_and_nothing_is_written_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let mut salts = std::collections::BTreeSet::new();
    for round in 0..4 {
        let spool = Spool::open(dir.path(), &key(), SMALL).unwrap();
        for _ in 0..3 {
            spool.append(b"canary in the spool").unwrap();
        }
        drop(spool);
        // Each opening begins a segment with a salt of its own; entries of one text differ.
        let content = fs::read(newest(dir.path())).unwrap();
        assert!(salts.insert(content[16..32].to_vec()), "round {round}");
        let entry = 19 + ENTRY_OVERHEAD_BYTES;
        let bodies: Vec<&[u8]> = content[HEADER_BYTES..].chunks(entry).map(|e| &e[16..]).collect();
        assert!(bodies.len() == 3 && bodies[0] != bodies[1] && bodies[1] != bodies[2]);
    }
    for entry in fs::read_dir(dir.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"));
    }
}

#[test]
fn entries_cannot_be_moved() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), &key(), SMALL).unwrap();
    for text in [b"one", b"two"] {
        spool.append(text).unwrap();
    }
    drop(spool);
    let path = newest(dir.path());
    let mut content = fs::read(&path).unwrap();
    let entry = 3 + ENTRY_OVERHEAD_BYTES;
    let (first, second) = content[HEADER_BYTES..].split_at_mut(entry);
    first.swap_with_slice(second);
    fs::write(&path, content).unwrap();
    let spool = Spool::open(dir.path(), &key(), SMALL).unwrap();
    // The second entry is sound and says its number; the first, behind it, is out of order and therefore cut.
    assert!(matches!(spool.read(0), Err(SpoolError::Damaged { sequence: 0, .. })));
    assert_eq!(spool.read(1).unwrap(), Some(b"two".to_vec()));
    assert_eq!(spool.next_sequence(), 2);
}

#[test]
fn another_key_another_process_and_senseless_limits_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), &key(), SMALL).unwrap();
    assert!(matches!(Spool::open(dir.path(), &key(), SMALL), Err(SpoolError::Busy { .. })));
    drop(spool);
    let other = Spool::open(dir.path(), &SpoolKey::new([8; 32]), SMALL).unwrap_err();
    assert!(other.to_string().contains("not made with this spool key"), "{other}");
    fs::remove_file(dir.path().join("identity")).unwrap();
    assert!(matches!(Spool::open(dir.path(), &key(), SMALL), Err(SpoolError::Identity { .. })));
    for (bytes_max, segment_bytes, name) in [
        (1024, 1024, "spool.bytes_max"),
        (1 << 40, 1, "spool.segment_bytes"),
        (1 << 40, 1 << 33, "spool.segment_bytes"),
    ] {
        let refused = Spool::open(dir.path(), &key(), SpoolLimits { bytes_max, segment_bytes }).unwrap_err();
        assert!(refused.to_string().starts_with(name), "{refused}");
    }
}

#[test]
fn key_files_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool.key");
    for refused in ["", "07", &"0".repeat(64), &"g".repeat(64), &"7".repeat(66)] {
        fs::write(&path, refused).unwrap();
        let error = SpoolKey::read(&path).unwrap_err().to_string();
        assert!(error.contains("spool.key") && error.contains("gwtap keygen spool"), "{error}");
        assert!(refused.is_empty() || !error.contains(refused));
    }
    fs::write(&path, format!("{}\n", "07".repeat(32))).unwrap();
    assert_eq!(SpoolKey::read(&path).unwrap().bytes(), key().bytes());
    assert_eq!(format!("{:?}", key()), "SpoolKey(redacted)");
}

/// One thread appends, one reads and acknowledges what it read, one syncs: every message arrives once, in order.
#[test]
fn appending_reading_and_trimming_go_on_side_by_side() {
    const MESSAGES: u64 = 3000;
    let dir = tempfile::tempdir().unwrap();
    let limits = SpoolLimits { bytes_max: 64 * 1024, segment_bytes: 4096 };
    let spool = Spool::open(dir.path(), &key(), limits).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for sequence in 0..MESSAGES {
                while let Err(error) = spool.append(&message(sequence)) {
                    assert!(matches!(error, SpoolError::Full { .. }), "{error}");
                    thread::yield_now();
                }
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                spool.sync().unwrap();
                assert!(spool.status().bytes <= limits.bytes_max);
                // A reader of what another one acknowledges meets `None`, never an error.
                assert!(spool.read(spool.first_sequence()).is_ok());
            }
        });
        let mut sequence = 0;
        while sequence < MESSAGES {
            if let Some(read) = spool.read(sequence).unwrap() {
                assert_eq!(read, message(sequence));
                if sequence % 3 == 0 {
                    spool.trim(sequence).unwrap();
                }
                sequence += 1;
            }
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!(spool.status().appended_total, MESSAGES);
}

#[tokio::test]
async fn a_follower_learns_of_new_messages() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), &key(), SMALL).unwrap();
    let mut next = spool.subscribe();
    spool.clone().append(b"one").unwrap();
    next.changed().await.unwrap();
    assert_eq!(*next.borrow_and_update(), 1);
}
