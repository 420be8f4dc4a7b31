//! The log in a bundle: entries, the checkpoint over them, what witnesses and earlier copies say of it.
//!
//! In: the bundle's entries below `log/`, which are a whole log in the C2SP tlog-tiles format, and public keys. Out: the
//! entries in order, or which was altered. All entries are there, so the root over them proves each one and that there is no
//! other. Bound: those of the bundle.

use super::container::Files;
use super::report::{LogReport, Witnessed};
use super::{Finding, Keys};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::cosignature;
use crate::audit::leaf::{Entry, Times};
use crate::audit::merkle::{Hash, Range, empty_root, leaf_hash};
use crate::audit::tile::{self, Kind, TILE_LEVELS_MAX, TILE_WIDTH, Tile};
use crate::keys::PublicKey;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Where the log's files stand.
pub(super) const LOG: &str = "log/";
/// Earlier checkpoints with cosignatures.
pub(super) const COSIGNED: &str = "cosigned/";

/// Entries by number; one that this version does not know is left out.
pub(super) type Entries = Vec<(u64, Entry)>;

/// Files of the tree of `size` entries, below the log's directory: what a bundle must have of it.
pub(super) fn tiles(size: u64) -> impl Iterator<Item = Tile> {
    let kinds = std::iter::once(Kind::Entries).chain((0..TILE_LEVELS_MAX).map(Kind::Hashes));
    kinds.flat_map(move |kind| {
        let full = (0..Tile::full(kind, size)).map(move |index| Tile { kind, index, width: TILE_WIDTH });
        full.chain(Tile::partial(kind, size))
    })
}

/// Reads and judges the log.
pub(super) fn check(
    files: &Files,
    keys: &Keys,
    log_key: &str,
    earlier: &[(String, String)],
    findings: &mut Vec<Finding>,
) -> (LogReport, Entries) {
    let mut report = LogReport::default();
    let name = format!("{LOG}checkpoint");
    let Some(checkpoint) = files.get(&name).and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
        findings.push(Finding::new(name, "is missing: removed"));
        return (report, Entries::new());
    };
    let Some(key) = keys.public.iter().find(|key| key.to_string() == log_key) else {
        findings.push(Finding::new(name, "the log's key is not among --keys: whose log this is cannot be said"));
        return (report, Entries::new());
    };
    let head = match Checkpoint::verify(checkpoint, key, &name) {
        Ok(head) => head,
        Err(error) => {
            findings.push(Finding::new(name, error.to_string()));
            return (report, Entries::new());
        }
    };
    let (entries, roots) = entries(files, &head, findings);
    (report.origin, report.entries, report.root) = (head.origin.clone(), head.size, hex::encode(head.root));
    report.first = entries.first().map(|(_, entry)| entry.time);
    report.last = entries.last().map(|(_, entry)| entry.time);
    report.unknown = head.size.saturating_sub(entries.len() as u64);
    let prefix = format!("{LOG}{COSIGNED}");
    let own = files.iter().filter(|(file, _)| file.starts_with(&prefix) || **file == name);
    for (file, bytes) in own {
        let text = String::from_utf8_lossy(bytes);
        if let Some(old) = beginning(file, &text, key, (&head, &roots), findings) {
            witnessed(&text, &old, keys, key, &mut report);
        }
    }
    for (file, text) in earlier {
        if let Some(old) = beginning(file, text, key, (&head, &roots), findings) {
            report.continues.push(old.size);
            witnessed(text, &old, keys, key, &mut report);
        }
    }
    (report, entries)
}

/// An earlier checkpoint of the log, if the log begins with it.
fn beginning(
    file: &str,
    note: &str,
    key: &PublicKey,
    (head, roots): (&Checkpoint, &BTreeMap<u64, Hash>),
    findings: &mut Vec<Finding>,
) -> Option<Checkpoint> {
    let old = match Checkpoint::verify(note, key, file) {
        Ok(old) => old,
        Err(error) => {
            findings.push(Finding::new(file, error.to_string()));
            return None;
        }
    };
    if old.size > head.size {
        let what = format!(
            "the log had {} entries then, it has {} in the bundle: the log was set back, or the bundle is the older one",
            old.size, head.size
        );
        findings.push(Finding::new(file, what));
        return None;
    }
    if roots.get(&old.size) != Some(&old.root) {
        let what = format!(
            "the log of {} entries then is not the beginning of the one in the bundle: two logs under one key. The log was \
             written anew, or the host's keys are on a second host",
            old.size
        );
        findings.push(Finding::new(file, what));
        return None;
    }
    Some(old)
}

/// Whose cosignatures a checkpoint has, of the keys that were named.
fn witnessed(note: &str, at: &Checkpoint, keys: &Keys, log: &PublicKey, report: &mut LogReport) {
    for witness in keys.public.iter().filter(|key| key.bytes != log.bytes) {
        let Ok(unix_s) = cosignature::verify(note, witness, "") else { continue };
        let time = i64::try_from(unix_s).ok().and_then(|unix_s| Timestamp::from_second(unix_s).ok());
        report.witnessed.extend(time.map(|time| Witnessed { by: witness.name.clone(), entries: at.size, time }));
    }
    report.witnessed.sort_by_key(|witnessed| witnessed.entries);
    report.witnessed.dedup();
}

/// The entries, held against their hashes and the root; and the root of the tree at every size.
fn entries(files: &Files, head: &Checkpoint, findings: &mut Vec<Finding>) -> (Entries, BTreeMap<u64, Hash>) {
    let (mut entries, mut range) = (Entries::new(), Range::default());
    let mut roots = BTreeMap::from([(0, empty_root())]);
    let mut latest: Option<Timestamp> = None;
    let (before, mut leaves) = (findings.len(), Vec::new());
    let mut expected = BTreeSet::new();
    for tile in tiles(head.size).take_while(|_| head.size <= files.values().map(|bytes| bytes.len() as u64).sum()) {
        let name = format!("{LOG}{}", tile.path().display());
        let bytes = files.get(&name);
        expected.insert(name.clone());
        let Some(bytes) = bytes else {
            findings.push(Finding::new(name, "is missing: removed"));
            continue;
        };
        if tile.kind != Kind::Entries {
            continue;
        }
        let listed = tile::entries(bytes).unwrap_or_default();
        if listed.len() != usize::from(tile.width) {
            findings.push(Finding::new(&name, format!("does not hold {} entries of a log", tile.width)));
        }
        let by_tile = format!("{LOG}{}", Tile { kind: Kind::Hashes(0), ..tile }.path().display());
        let by_tile = files.get(&by_tile).and_then(|bytes| tile::hashes(bytes, tile.width)).unwrap_or_default();
        for (place, bytes) in listed.into_iter().enumerate() {
            let (number, hash) = (range.size(), leaf_hash(bytes));
            if by_tile.get(place).is_some_and(|by_tile| *by_tile != hash) {
                findings
                    .push(Finding::new(format!("{name}, entry {number}"), "is not the one that was logged: altered"));
            }
            range.push(hash);
            leaves.push(hash);
            roots.insert(range.size(), range.root());
            let shown = Times::of(bytes).map(|times| times.latest()).filter(|it| latest.is_none_or(|was| was <= *it));
            if shown.is_none() {
                let what = "is no entry, or shows a latest time before that of the entry before it";
                findings.push(Finding::new(format!("{name}, entry {number}"), what));
            }
            latest = shown.or(latest);
            entries.extend(serde_json::from_slice(bytes).ok().map(|entry| (number, entry)));
        }
    }
    if findings.len() == before && (range.size(), range.root()) != (head.size, head.root) {
        let what = "the entries are not those that the log's key signed for: altered, removed or added";
        findings.push(Finding::new(format!("{LOG}tile/entries"), what));
    }
    if findings.len() == before {
        hash_tiles(files, head.size, leaves, findings);
    }
    let tile = format!("{LOG}tile/");
    let strange = files.keys().filter(|name| name.starts_with(&tile) && !expected.contains(*name));
    findings.extend(strange.map(|name| Finding::new(name, "is no part of the log of this checkpoint: added")));
    (entries, roots)
}

/// Tiles of hashes are those of the entries; readers of the log in other tools go by them.
fn hash_tiles(files: &Files, size: u64, leaves: Vec<Hash>, findings: &mut Vec<Finding>) {
    let width = usize::from(TILE_WIDTH);
    let mut hashes = leaves;
    for level in 0..TILE_LEVELS_MAX {
        let of_level = tiles(size).filter(|tile| tile.kind == Kind::Hashes(level));
        for (tile, hashes) in of_level.zip(hashes.chunks(width)) {
            let name = format!("{LOG}{}", tile.path().display());
            if files.get(&name).is_none_or(|bytes| *bytes != hashes.concat()) {
                findings.push(Finding::new(name, "does not hold the hashes of the entries: altered"));
            }
        }
        hashes = hashes.chunks_exact(width).map(tile::tile_root).collect();
    }
}
