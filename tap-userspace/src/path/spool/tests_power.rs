//! Power loss, as every file of a spool may look afterwards: cut short or with a changed bit at each offset of its last 64 KB. In the
//! default suite some of the offsets, with `GWTAP_LONG=1` (`cargo xtask test --long`) every one.

use super::{
    Spool, SpoolError, SpoolLimits,
    tests::{copy, key},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What is damaged of each file.
const TAIL_BYTES: usize = 64 << 10;
/// The default suite's step, a prime: over the files it meets every part of an entry.
const STEP: usize = 6_011;
/// The last bytes of each file are looked at more closely: there a write was under way.
const CLOSE_BYTES: usize = 96;
const CLOSE_STEP: usize = 19;

const LIMITS: SpoolLimits = SpoolLimits { bytes_max: 1 << 20, segment_bytes: 72 << 10 };
const MESSAGES: u64 = 260;
/// Acknowledged in two steps: an older position stands beside the newer one.
const ACKNOWLEDGED: [u64; 2] = [3, 7];

fn message(sequence: u64) -> Vec<u8> {
    let length = usize::try_from(400 + sequence * 37 % 500).unwrap();
    sequence.to_le_bytes().iter().copied().cycle().take(length).collect()
}

/// The offsets of a file of this length that are damaged.
fn offsets(length: usize) -> Vec<usize> {
    let every = std::env::var_os("GWTAP_LONG").is_some_and(|value| value == "1");
    let begin = length.saturating_sub(TAIL_BYTES);
    let taken = |offset: &usize| {
        every
            || (offset - begin).is_multiple_of(STEP)
            || (length - offset <= CLOSE_BYTES && (length - offset).is_multiple_of(CLOSE_STEP))
    };
    (begin..length).filter(taken).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Damage {
    Cut,
    Bit,
}

fn damaged(bytes: &[u8], offset: usize, damage: Damage) -> Vec<u8> {
    match damage {
        Damage::Cut => bytes[..offset].to_vec(),
        Damage::Bit => {
            let mut bytes = bytes.to_vec();
            bytes[offset] ^= 1 << (offset % 8);
            bytes
        }
    }
}

/// Where each message's entry ends in its segment, by segment file.
fn entries(spool: &Spool) -> BTreeMap<PathBuf, Vec<(u64, usize)>> {
    let state = spool.state();
    let ends = |segment: &super::Segment| {
        let places = (segment.first_sequence..).zip(&segment.places);
        places
            .map(|(sequence, place)| {
                let place = place.unwrap();
                (sequence, usize::try_from(place.offset).unwrap() + place.entry_bytes())
            })
            .collect()
    };
    state.segments.iter().map(|segment| (segment.path.file_name().unwrap().into(), ends(segment))).collect()
}

#[test]
fn whatever_a_power_cut_leaves_of_any_file_of_the_spool_gives_true_messages_and_loses_no_more_than_it_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("original");
    let spool = Spool::open(&original, &key(), LIMITS).unwrap();
    (0..MESSAGES).for_each(|sequence| assert_eq!(spool.append(&message(sequence)).unwrap(), sequence));
    ACKNOWLEDGED.iter().for_each(|through| spool.trim(*through).unwrap());
    spool.sync().unwrap();
    let entries = entries(&spool);
    assert!(entries.len() >= 3, "several segments: {}", entries.len());
    drop(spool);
    let newest = entries.keys().next_back().unwrap().clone();

    let (mut opened, mut refused) = (0, 0);
    for file in fs::read_dir(&original).unwrap() {
        let name = PathBuf::from(file.unwrap().file_name());
        let bytes = fs::read(original.join(&name)).unwrap();
        for offset in offsets(bytes.len()) {
            for damage in [Damage::Cut, Damage::Bit] {
                let here = format!("{} at {offset}: {damage:?}", name.display());
                let torn = dir.path().join("torn");
                drop(fs::remove_dir_all(&torn));
                copy(&original, &torn);
                fs::write(torn.join(&name), damaged(&bytes, offset, damage)).unwrap();
                let is_newest = name == newest;
                match Spool::open(&torn, &key(), LIMITS) {
                    Ok(spool) => {
                        opened += 1;
                        let lost = lost(&spool, &here, is_newest && damage == Damage::Cut);
                        assert!(
                            lost.iter().all(|sequence| hit(entries.get(&name), *sequence, offset, damage)),
                            "{here}: {lost:?}"
                        );
                        goes_on(spool, &torn, &here);
                    }
                    // Without the newest header or the identity nothing says which numbers were given: it is refused by name.
                    Err(SpoolError::Header { .. }) => {
                        assert!(is_newest && offset < super::HEADER_BYTES, "{here}");
                        refused += 1;
                    }
                    Err(SpoolError::Key { .. }) => {
                        assert_eq!(name, Path::new("identity"), "{here}");
                        refused += 1;
                    }
                    Err(error) => panic!("{here}: {error}"),
                }
            }
        }
    }
    println!("{opened} damaged spools opened, {refused} refused by name");
    assert!(opened > 50 && refused > 5);
}

/// Messages that the spool does not give back; each one that it gives is the one that was appended.
fn lost(spool: &Spool, here: &str, may_end_early: bool) -> Vec<u64> {
    let (first, next) = (spool.first_sequence(), spool.next_sequence());
    // An older position at most: what is acknowledged may come again, what is not never goes.
    assert!(first <= ACKNOWLEDGED[1] + 1, "{here}: first {first}");
    assert!(next <= MESSAGES, "{here}: next {next}");
    assert!(may_end_early || next + 1 >= MESSAGES, "{here}: next {next}");
    let mut lost: Vec<u64> = (next..MESSAGES).collect();
    for sequence in first..next {
        match spool.read(sequence) {
            Ok(read) => assert_eq!(read, Some(message(sequence)), "{here}: message {sequence}"),
            Err(SpoolError::Damaged { .. }) => lost.push(sequence),
            Err(error) => panic!("{here}: {error}"),
        }
    }
    lost
}

/// Whether the damage met that message: a cut everything that ends behind it, a bit its own entry, in a header all of the segment.
fn hit(ends: Option<&Vec<(u64, usize)>>, sequence: u64, offset: usize, damage: Damage) -> bool {
    let Some(ends) = ends else { return false };
    let Some(at) = ends.iter().position(|(found, _)| *found == sequence) else { return false };
    let begin = if at == 0 { super::HEADER_BYTES } else { ends[at - 1].1 };
    offset < super::HEADER_BYTES || offset < ends[at].1 && (damage == Damage::Cut || offset >= begin)
}

/// It takes messages behind what it found, and has them after a restart.
fn goes_on(spool: Spool, torn: &Path, here: &str) {
    let next = spool.append(b"after").unwrap();
    drop(spool);
    let spool = Spool::open(torn, &key(), LIMITS).unwrap();
    assert_eq!(spool.read(next).unwrap(), Some(b"after".to_vec()), "{here}");
}
