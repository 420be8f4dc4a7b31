//! Verification of a whole log: every entry, every tile, the checkpoint.
//!
//! In: a log's directory and its public key. Out: what was verified, or the first entry or tile that is not the log's. A log
//! that goes on growing is verified as far as the checkpoint that was read. Bound: entries are streamed, tiles are read one at
//! a time; memory does not grow with the log.

use super::LogError;
use super::checkpoint::Checkpoint;
use super::files::{self, CHECKPOINT, Tiles, damaged};
use super::leaf::Times;
use super::merkle::{self, Range, leaf_hash};
use super::tile::{self, Kind, TILE_LEVELS_MAX, TILE_WIDTH, Tile};
use crate::keys::PublicKey;
use crate::limits::LOG_NOTE_BYTES_MAX;
use jiff::Timestamp;
use std::path::Path;

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Its note, for cosignatures.
    pub note: String,
    /// The latest time that an entry shows.
    pub latest: Option<Timestamp>,
}

/// Verifies everything that the checkpoint covers.
///
/// # Errors
/// The first entry, tile or file that is not the log's, by name.
pub fn verify(directory: &Path, key: &PublicKey) -> Result<Verified, LogError> {
    let path = directory.join(CHECKPOINT);
    let note = files::read_text(&path, LOG_NOTE_BYTES_MAX)?;
    let checkpoint = Checkpoint::verify(&note, key, &path.display().to_string())?;
    let latest = entries(directory, &checkpoint)?;
    upper_tiles(directory, checkpoint.size)?;
    if merkle::tree_root(&Tiles { root: directory, size: checkpoint.size }, checkpoint.size)? != checkpoint.root {
        return Err(damaged(&path, "the tiles are not those of the checkpoint"));
    }
    every_file(directory, checkpoint.size)?;
    Ok(Verified { checkpoint, note, latest })
}

/// Verifies that the log continues an earlier checkpoint of it.
///
/// # Errors
/// It does not.
pub fn continues(directory: &Path, verified: &Verified, old: &Checkpoint) -> Result<(), LogError> {
    let (size, root) = (verified.checkpoint.size, verified.checkpoint.root);
    let wrong = |reason: String| LogError::Proof { what: directory.display().to_string(), reason };
    if old.size > size {
        return Err(wrong(format!("has {size} entries, but had {} before: entries are gone", old.size)));
    }
    let tiles = Tiles { root: directory, size };
    let proof = merkle::prove_consistency(&tiles, old.size, size)?;
    if merkle::consistency_holds(&proof, (old.size, &old.root), (size, &root)) {
        return Ok(());
    }
    Err(wrong(format!("is not the continuation of the earlier log of {} entries: entries were altered", old.size)))
}

/// Entries against the tiles of their hashes, and both against the root; the latest time.
fn entries(directory: &Path, checkpoint: &Checkpoint) -> Result<Option<Timestamp>, LogError> {
    let mut by_entries = Range::default();
    let mut by_tiles = Range::default();
    let mut first_unlike = None;
    let mut latest: Option<Timestamp> = None;
    let mut ill_timed = None;
    for bundle in files::bundles(checkpoint.size) {
        let tile = Tile { kind: Kind::Hashes(0), ..bundle };
        let (entries, hashes) = (files::bundle_entries(directory, bundle)?, files::tile_hashes(directory, tile)?);
        for (entry, hash) in entries.iter().zip(hashes) {
            let (number, leaf) = (by_entries.size(), leaf_hash(entry));
            if leaf != hash {
                first_unlike.get_or_insert((number, bundle, tile));
            }
            by_entries.push(leaf);
            by_tiles.push(hash);
            let shown =
                Times::of(entry).map(|times| times.latest()).filter(|shown| latest.is_none_or(|it| it <= *shown));
            if shown.is_none() {
                ill_timed.get_or_insert((number, bundle));
            }
            latest = shown.or(latest);
        }
    }
    let (by_entries, by_tiles) = (by_entries.root(), by_tiles.root());
    if let Some((number, bundle, tile)) = first_unlike {
        if by_entries == checkpoint.root {
            return Err(damaged(&directory.join(tile.path()), format!("the hash of entry {number} was altered")));
        }
        let certain = if by_tiles == checkpoint.root { "" } else { ", or its hash" };
        return Err(damaged(&directory.join(bundle.path()), format!("entry {number} was altered{certain}")));
    }
    if by_entries != checkpoint.root {
        let reason = "entries and their hashes were altered together: they are not the checkpoint's";
        return Err(damaged(&directory.join("tile"), reason));
    }
    if let Some((number, bundle)) = ill_timed {
        let reason = format!("entry {number} is none, or shows a latest time before that of the entry before it");
        return Err(damaged(&directory.join(bundle.path()), reason));
    }
    Ok(latest)
}

/// Each hash above the lowest level is the root of the tile that it stands for.
fn upper_tiles(directory: &Path, size: u64) -> Result<(), LogError> {
    for level in 1..TILE_LEVELS_MAX {
        let kind = Kind::Hashes(level);
        let full = (0..Tile::full(kind, size)).map(|index| Tile { kind, index, width: TILE_WIDTH });
        for tile in full.chain(Tile::partial(kind, size)) {
            let first = tile.index * u64::from(TILE_WIDTH);
            for (index, hash) in (first..).zip(files::tile_hashes(directory, tile)?) {
                let below = Tile { kind: Kind::Hashes(level - 1), index, width: TILE_WIDTH };
                if tile::tile_root(&files::tile_hashes(directory, below)?) != hash {
                    let reason = format!("the hash of {} was altered", below.path().display());
                    return Err(damaged(&directory.join(tile.path()), reason));
                }
            }
        }
    }
    Ok(())
}

/// Every file below `tile/` is a part of the tree: also the partial tiles of earlier sizes.
fn every_file(directory: &Path, size: u64) -> Result<(), LogError> {
    let mut folders = vec![directory.join("tile")];
    while let Some(folder) = folders.pop() {
        let listed = match std::fs::read_dir(&folder) {
            Ok(listed) => listed,
            // Removed since it was listed, by a full tile; or a log without entries.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(files::io(&folder, source)),
        };
        for entry in listed {
            let path = entry.map_err(|source| files::io(&folder, source))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|extension| extension != "new") {
                part(directory, &path, size)?;
            }
        }
    }
    Ok(())
}

/// One file, as the beginning of the tile that is there now.
fn part(directory: &Path, path: &Path, size: u64) -> Result<(), LogError> {
    let tile = path.strip_prefix(directory).ok().and_then(Tile::parse);
    let tile = tile.ok_or_else(|| damaged(path, "is no file of a log"))?;
    let now = if tile.index < Tile::full(tile.kind, size) {
        tile.filled()
    } else {
        match Tile::partial(tile.kind, size).filter(|now| now.index == tile.index && now.width >= tile.width) {
            Some(now) => now,
            // Beyond the checkpoint: an append that is under way, or that a crash cut off.
            None => return Ok(()),
        }
    };
    if now == tile {
        return Ok(());
    }
    let whole = files::tile_bytes(directory, now)?;
    let Some(bytes) = files::read(path, crate::limits::LOG_BUNDLE_BYTES_MAX)? else { return Ok(()) };
    let wide = match tile.kind {
        Kind::Hashes(_) => tile::hashes(&bytes, tile.width).is_some(),
        Kind::Entries => tile::entries(&bytes).is_ok_and(|entries| entries.len() == usize::from(tile.width)),
    };
    if wide && whole.starts_with(&bytes) {
        return Ok(());
    }
    Err(damaged(path, format!("is not the beginning of {}", now.path().display())))
}
