//! The log under its own promises: proofs against a naive tree, crashes at every byte of every file.

use super::checkpoint::Checkpoint;
use super::files::{self, Tiles};
use super::leaf::{Entry, Leaf};
use super::merkle::{self, Hash, Subtrees};
use super::*;
use crate::keys::SecretKey;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const START: u64 = 1_800_000_000 * SECOND;

/// A directory in memory, where there is one: these tests flush some ten thousand files.
pub(super) fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(if memory.is_dir() { memory } else { Path::new("/tmp") }).unwrap()
}

/// A log in a directory of its own, and its key.
pub(super) struct Made {
    pub(super) directory: tempfile::TempDir,
    secret: String,
}

impl Made {
    pub(super) fn new() -> Self {
        let key = SecretKey::generate("test.log").unwrap();
        Self { directory: directory(), secret: key.encode().to_string() }
    }

    pub(super) fn with(entries: u64) -> Self {
        let made = Self::new();
        let log = made.open().unwrap();
        (0..entries)
            .for_each(|number| assert_eq!(log.append_at(START + number * SECOND, &leaf(number)).unwrap(), number));
        made
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn key(&self) -> SecretKey {
        SecretKey::parse(&self.secret, "test").unwrap()
    }

    pub(super) fn open(&self) -> Result<Log, LogError> {
        Log::open(self.path(), self.key())
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        let note = std::fs::read_to_string(self.path().join("checkpoint")).unwrap();
        Checkpoint::verify(&note, &self.key().public(), "checkpoint").unwrap()
    }
}

pub(super) fn leaf(number: u64) -> Leaf {
    Leaf::Activation {
        measure: "m-1".into(),
        number,
        set_sha256: hex::encode(Sha256::digest(number.to_be_bytes())),
        rules: number % 7,
        valid_until: jiff::Timestamp::from_nanosecond(i128::from(START)).unwrap(),
    }
}

/// Every file below a directory, with its bytes.
pub(super) fn snapshot(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((path.strip_prefix(directory).unwrap().to_owned(), std::fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

fn restore(directory: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// RFC 6962, section 2.1, word for word.
fn naive_root(data: &[Vec<u8>]) -> Hash {
    match data {
        [] => Sha256::digest([]).into(),
        [one] => Sha256::digest([&[0], one.as_slice()].concat()).into(),
        _ => {
            let (left, right) = data.split_at(naive_split(data.len()));
            Sha256::digest([&[1], naive_root(left).as_slice(), &naive_root(right)].concat()).into()
        }
    }
}

fn naive_split(length: usize) -> usize {
    let mut split = 1;
    while split * 2 < length {
        split *= 2;
    }
    split
}

fn naive_path(index: usize, data: &[Vec<u8>]) -> Vec<Hash> {
    if data.len() == 1 {
        return Vec::new();
    }
    let (left, right) = data.split_at(naive_split(data.len()));
    if index < left.len() {
        [naive_path(index, left), vec![naive_root(right)]].concat()
    } else {
        [naive_path(index - left.len(), right), vec![naive_root(left)]].concat()
    }
}

fn naive_consistency(old: usize, data: &[Vec<u8>], whole: bool) -> Vec<Hash> {
    if old == data.len() {
        return if whole { Vec::new() } else { vec![naive_root(data)] };
    }
    let (left, right) = data.split_at(naive_split(data.len()));
    if old <= left.len() {
        [naive_consistency(old, left, whole), vec![naive_root(right)]].concat()
    } else {
        [naive_consistency(old - left.len(), right, false), vec![naive_root(left)]].concat()
    }
}

/// Subtrees of leaves at hand.
struct Leaves<'a>(&'a [Vec<u8>]);

impl Subtrees for Leaves<'_> {
    type Error = std::convert::Infallible;

    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        let (first, length) = (usize::try_from(index << level).unwrap(), 1_usize << level);
        Ok(naive_root(&self.0[first..first + length]))
    }
}

#[test]
fn every_proof_is_the_naive_trees_and_holds_for_nothing_else() {
    let data: Vec<Vec<u8>> = (0..70_u8).map(|number| vec![number; usize::from(number)]).collect();
    let other = [7_u8; 32];
    for size in 0..data.len() {
        let tree = &data[..size];
        let (leaves, size) = (Leaves(tree), size as u64);
        let root = naive_root(tree);
        let hashes: Vec<Hash> = tree.iter().map(|leaf| merkle::leaf_hash(leaf)).collect();
        assert_eq!(merkle::root(&hashes), root);
        assert_eq!(merkle::tree_root(&leaves, size).unwrap(), root);
        for (index, hash) in (0_u64..).zip(&hashes) {
            let proof = merkle::prove_inclusion(&leaves, index, size).unwrap();
            assert_eq!(proof, naive_path(index.try_into().unwrap(), tree), "{index} of {size}");
            assert!(merkle::inclusion_holds(&proof, hash, index, size, &root), "{index} of {size}");
            assert!(!merkle::inclusion_holds(&proof, &other, index, size, &root));
            assert!(!merkle::inclusion_holds(&proof, hash, index, size, &other));
            for wrong in (0..size).filter(|wrong| *wrong != index) {
                assert!(!merkle::inclusion_holds(&proof, hash, wrong, size, &root), "{index} as {wrong} of {size}");
            }
            for altered in alterations(&proof) {
                assert!(!merkle::inclusion_holds(&altered, hash, index, size, &root), "{index} of {size}");
            }
        }
        for old in 0..=size {
            let old_root = naive_root(&tree[..old.try_into().unwrap()]);
            let proof = merkle::prove_consistency(&leaves, old, size).unwrap();
            let holds =
                |proof: &[Hash], old_root, root| merkle::consistency_holds(proof, (old, old_root), (size, root));
            if old > 0 {
                assert_eq!(proof, naive_consistency(old.try_into().unwrap(), tree, true), "{old} of {size}");
            }
            assert!(holds(&proof, &old_root, &root), "{old} of {size}");
            assert!(
                !holds(&proof, &other, &root) && (old == 0 || !holds(&proof, &old_root, &other)),
                "{old} of {size}"
            );
            for altered in alterations(&proof) {
                assert!(!holds(&altered, &old_root, &root), "{old} of {size}");
            }
        }
    }
}

/// A proof with a hash altered, missing, or too many.
fn alterations(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut altered = vec![[proof, &[[1; 32]]].concat()];
    for position in 0..proof.len() {
        let mut flipped = proof.to_vec();
        flipped[position][position % 32] ^= 1;
        let mut shorter = proof.to_vec();
        shorter.remove(position);
        altered.extend([flipped, shorter]);
    }
    altered
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    /// What lies on disk is the naive tree of what was appended, over the borders of tiles.
    #[test]
    fn the_tiles_are_the_naive_tree_of_the_entries(size in 1_u64..600, old in 0_u64..600, index in 0_u64..600) {
        let made = Made::with(size);
        let entries: Vec<Vec<u8>> = files::bundles(size)
            .flat_map(|bundle| files::bundle_entries(made.path(), bundle).unwrap())
            .collect();
        prop_assert_eq!(entries.len() as u64, size);
        for (number, entry) in (0_u64..).zip(&entries) {
            prop_assert_eq!(&serde_json::from_slice::<Entry>(entry).unwrap().act, &leaf(number));
        }
        let checkpoint = made.checkpoint();
        prop_assert_eq!((checkpoint.size, checkpoint.root), (size, naive_root(&entries)));
        let (old, index) = (old % (size + 1), index % size);
        let tiles = Tiles { root: made.path(), size };
        let proof = merkle::prove_inclusion(&tiles, index, size).unwrap();
        prop_assert_eq!(proof, naive_path(usize::try_from(index).unwrap(), &entries));
        let proof = merkle::prove_consistency(&tiles, old, size).unwrap();
        if old > 0 {
            prop_assert_eq!(proof, naive_consistency(usize::try_from(old).unwrap(), &entries, true));
        }
        prop_assert_eq!(made.open().unwrap().head().entries, size);
    }
}

#[test]
fn an_append_cut_off_at_any_byte_of_any_file_loses_nothing_acknowledged() {
    // Within a tile, into a full one, behind one.
    for size in [0, 2, 254, 255, 256] {
        let made = Made::with(size);
        // The partial tiles of earlier sizes have no part in this.
        let part = |name: &Path| name.to_str().unwrap().rsplit_once(".p/").and_then(|(_, width)| width.parse().ok());
        let needed = |name: &Path| part(name).is_none_or(|width: u64| width == size % 256 || size == 256);
        let all = snapshot(made.path());
        let before: Vec<_> = all.iter().filter(|(name, _)| needed(name)).cloned().collect();
        made.open().unwrap().append_at(START + size * SECOND, &leaf(size)).unwrap();
        let after = snapshot(made.path());
        // In the order of writing: entries, tiles by level, checkpoint.
        let mut written: Vec<_> = after.into_iter().filter(|file| !all.contains(file)).collect();
        written.sort_by_key(|(name, _)| match name.to_str().unwrap() {
            "checkpoint" => (2, name.clone()),
            name if name.starts_with("tile/entries") => (0, name.into()),
            name => (1, name.into()),
        });
        assert!(written.len() >= 3, "{size}: entries, a tile, the checkpoint");
        for (number, (name, bytes)) in written.iter().enumerate() {
            // Every offset is tried for small files; of large ones those around the new entry, and some.
            let near = |offset: usize| offset < 20 || bytes.len() - offset < 20 || offset.is_multiple_of(5_000);
            let offsets = (0..=bytes.len()).filter(|offset| bytes.len() < 700 || near(*offset));
            for offset in offsets {
                for temporary in [true, false] {
                    if !temporary && name == Path::new("checkpoint") && offset < bytes.len() {
                        // A rename is whole or not at all: a torn checkpoint is damage, not a crash.
                        continue;
                    }
                    let crashed = Made { directory: directory(), secret: made.secret.clone() };
                    restore(crashed.path(), &before);
                    restore(crashed.path(), &written[..number]);
                    let mut torn = name.clone().into_os_string();
                    if temporary {
                        torn.push(".new");
                    }
                    restore(crashed.path(), &[(torn.into(), bytes[..offset].to_vec())]);
                    let log = crashed.open().unwrap_or_else(|error| panic!("{size} {name:?} {offset}: {error}"));
                    let entries = log.head().entries;
                    let whole = number > 0 || (!temporary && offset == bytes.len());
                    assert_eq!(entries, size + u64::from(whole), "{size} {name:?} {offset} {temporary}");
                    assert_eq!(log.append_at(START + size * SECOND, &leaf(entries)).unwrap(), entries);
                    drop(log);
                    let held: Vec<Leaf> = files::bundles(entries + 1)
                        .flat_map(|bundle| files::bundle_entries(crashed.path(), bundle).unwrap())
                        .map(|entry| serde_json::from_slice::<Entry>(&entry).unwrap().act)
                        .collect();
                    assert_eq!(held, (0..=entries).map(leaf).collect::<Vec<_>>());
                }
            }
        }
    }
}

#[test]
fn a_log_has_one_writer_and_keeps_the_latest_time() {
    let made = Made::new();
    let log = made.open().unwrap();
    assert!(matches!(made.open(), Err(LogError::Busy(_))));
    assert_eq!(log.last_time(), None);
    log.append_at(START + 100 * SECOND, &leaf(0)).unwrap();
    log.append_at(START + 7 * SECOND, &leaf(1)).unwrap();
    assert_eq!(log.last_time(), Some(START + 100 * SECOND));
    drop(log);
    let log = made.open().unwrap();
    assert_eq!(log.last_time(), Some(START + 100 * SECOND), "the last entry knows the latest time before it");
    log.append_at(START + 200 * SECOND, &leaf(2)).unwrap();
    assert_eq!(log.last_time(), Some(START + 200 * SECOND));
    log.append_timed(START + 900 * SECOND, false, &leaf(3)).unwrap();
    assert_eq!(log.last_time(), Some(START + 200 * SECOND), "a clock that nobody vouches for is no measure of another");
}

#[test]
fn a_log_is_not_begun_anew_where_its_checkpoint_is_gone_or_another_key_signs() {
    let made = Made::with(5);
    let other = SecretKey::generate("test.log").unwrap();
    assert!(matches!(Log::open(made.path(), other), Err(LogError::Checkpoint { .. })));
    std::fs::remove_file(made.path().join("checkpoint")).unwrap();
    assert!(matches!(made.open(), Err(LogError::Damaged { .. })));
}

#[test]
fn a_log_that_cannot_be_written_says_so_and_goes_on_when_it_can() {
    let made = Made::with(3);
    let log = made.open().unwrap();
    // A directory where the next bundle is to be: the same for root as for anybody.
    let obstacle = made.path().join("tile/entries/000.p/4.new");
    std::fs::create_dir(&obstacle).unwrap();
    let refused = log.append_at(START + 9 * SECOND, &leaf(3)).unwrap_err().to_string();
    assert!(refused.contains("000.p/4") && refused.contains("[log] directory"), "{refused}");
    assert_eq!((log.head().entries, log.head().failed_total), (3, 1));
    std::fs::remove_dir(&obstacle).unwrap();
    // The tiles were written, the checkpoint was not: the entry is not acknowledged, and nobody finds it later.
    let obstacle = made.path().join("checkpoint.new");
    std::fs::create_dir(&obstacle).unwrap();
    log.append_at(START + 9 * SECOND, &leaf(77)).unwrap_err();
    std::fs::remove_dir(&obstacle).unwrap();
    drop(log);
    let log = made.open().unwrap();
    assert_eq!(log.head().entries, 3, "what was refused was not taken up");
    assert_eq!(log.append_at(START + 10 * SECOND, &leaf(3)).unwrap(), 3);
}

#[test]
fn a_log_is_held_against_a_head_that_was_seen_of_it() {
    let made = Made::with(300);
    let seen: Vec<(u64, Hash)> = {
        let log = made.open().unwrap();
        let head = log.head();
        assert_eq!(log.name(), "test.log");
        log.continues(head.entries, &head.root).unwrap();
        log.append_at(START + 900 * SECOND, &leaf(300)).unwrap();
        [head, log.head()].map(|head| (head.entries, head.root)).to_vec()
    };
    let log = made.open().unwrap();
    seen.iter().for_each(|(entries, root)| log.continues(*entries, root).unwrap());
    // Other entries, fewer entries.
    for (entries, root) in [(300, seen[1].1), (301, seen[0].1), (299, seen[0].1)] {
        let refused = log.continues(entries, &root).unwrap_err().to_string();
        assert!(refused.contains(&format!("its first {entries} entries are not those")), "{refused}");
    }
    let refused = log.continues(302, &seen[1].1).unwrap_err().to_string();
    assert!(refused.contains("has 301 entries, and this host has seen 302"), "{refused}");
}
