//! Reading and writing the log's files: whole files, bounded, durable when written.

use super::LogError;
use super::merkle::{Hash, Subtrees};
use super::tile::{self, Kind, TILE_LEVELS, TILE_WIDTH, Tile};
use crate::limits::LOG_BUNDLE_BYTES_MAX;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Name of the checkpoint in the log's directory.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// File that the writer holds a lock on.
const LOCK: &str = "lock";

/// A file's bytes; none if there is no such file.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, LogError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io(path, source)),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|source| io(path, source))?;
    if bytes.len() as u64 > bytes_max {
        return Err(damaged(path, format!("is longer than {bytes_max} bytes")));
    }
    Ok(Some(bytes))
}

/// As [`read`], for a file that must be there and be text.
pub(super) fn read_text(path: &Path, bytes_max: u64) -> Result<String, LogError> {
    let bytes = read(path, bytes_max)?.ok_or_else(|| damaged(path, "is missing"))?;
    String::from_utf8(bytes).map_err(|_not_utf8| damaged(path, "is not text"))
}

/// Writes a file whole, durable when it returns; directories on the way are made durable too.
pub(super) fn write(root: &Path, name: &Path, bytes: &[u8]) -> Result<(), LogError> {
    let path = root.join(name);
    if let Some(directory) = path.parent() {
        make_directory(directory)?;
    }
    crate::run::state::replace_file(&path, bytes).map_err(|source| io(&path, source))
}

/// Makes a directory and those above it, each durable in its own.
pub(super) fn make_directory(directory: &Path) -> Result<(), LogError> {
    if directory.is_dir() {
        return Ok(());
    }
    // The parent of a relative path of one element is the empty one: here.
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_directory(parent)?;
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(io(directory, error)),
        _ => {}
    }
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(|source| io(parent, source))
}

/// A tile's or bundle's bytes. A partial one that is gone is taken from the full one, as readers of a growing log must.
pub(crate) fn tile_bytes(root: &Path, tile: Tile) -> Result<Vec<u8>, LogError> {
    let path = root.join(tile.path());
    if let Some(bytes) = read(&path, LOG_BUNDLE_BYTES_MAX)? {
        return Ok(bytes);
    }
    let full = root.join(tile.filled().path());
    let bytes = read(&full, LOG_BUNDLE_BYTES_MAX)?.ok_or_else(|| damaged(&path, "is missing"))?;
    let length = match tile.kind {
        Kind::Hashes(_) => usize::from(tile.width) * size_of::<Hash>(),
        Kind::Entries => {
            let entries = tile::entries(&bytes).map_err(|offset| not_a_bundle(&full, offset))?;
            entries.iter().take(usize::from(tile.width)).map(|entry| 2 + entry.len()).sum()
        }
    };
    bytes.get(..length).map(<[u8]>::to_vec).ok_or_else(|| damaged(&full, "is cut off"))
}

/// A tile's hashes.
pub(super) fn tile_hashes(root: &Path, tile: Tile) -> Result<Vec<Hash>, LogError> {
    tile::hashes(&tile_bytes(root, tile)?, tile.width)
        .ok_or_else(|| damaged(&root.join(tile.path()), format!("does not hold {} hashes", tile.width)))
}

/// A bundle's entries.
pub(super) fn bundle_entries(root: &Path, tile: Tile) -> Result<Vec<Vec<u8>>, LogError> {
    let path = root.join(tile.path());
    let bytes = tile_bytes(root, tile)?;
    let entries = tile::entries(&bytes).map_err(|offset| not_a_bundle(&path, offset))?;
    if entries.len() != usize::from(tile.width) {
        return Err(damaged(&path, format!("holds {} entries, not {}", entries.len(), tile.width)));
    }
    Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
}

/// The bundles of a tree of `size` leaves, in order.
pub(super) fn bundles(size: u64) -> impl Iterator<Item = Tile> {
    let full = (0..Tile::full(Kind::Entries, size)).map(|index| Tile { kind: Kind::Entries, index, width: TILE_WIDTH });
    full.chain(Tile::partial(Kind::Entries, size))
}

/// The subtrees of a tree of `size` leaves, from its tiles.
pub(super) struct Tiles<'a> {
    pub(super) root: &'a Path,
    pub(super) size: u64,
}

impl Subtrees for Tiles<'_> {
    type Error = LogError;

    fn subtree(&self, level: u32, index: u64) -> Result<Hash, LogError> {
        // A whole subtree is made of 2^inside hashes of one tile.
        let inside = level % TILE_LEVELS;
        let kind = Kind::Hashes(u8::try_from(level / TILE_LEVELS).unwrap_or(u8::MAX));
        let first = index << inside;
        let number = first / u64::from(TILE_WIDTH);
        let full = Tile { kind, index: number, width: TILE_WIDTH };
        let tile = if number < Tile::full(kind, self.size) {
            full
        } else {
            Tile::partial(kind, self.size).filter(|tile| tile.index == number).unwrap_or(full)
        };
        let hashes = tile_hashes(self.root, tile)?;
        let first = usize::try_from(first % u64::from(TILE_WIDTH)).unwrap_or(usize::MAX);
        let hashes = hashes.get(first..first.saturating_add(1 << inside));
        hashes.map(tile::tile_root).ok_or_else(|| damaged(&self.root.join(tile.path()), "is too short"))
    }
}

/// The lock of a directory's one writer, held as long as the file is open.
pub(super) fn lock(directory: &Path) -> Result<File, LogError> {
    let path = directory.join(LOCK);
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(|source| io(&path, source))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(LogError::Busy(directory.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(io(&path, source)),
    }
}

pub(super) fn io(path: &Path, source: std::io::Error) -> LogError {
    LogError::Io { path: path.to_path_buf(), source }
}

pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> LogError {
    LogError::Damaged { path: path.to_path_buf(), reason: reason.into() }
}

pub(super) fn not_a_bundle(path: &Path, offset: usize) -> LogError {
    damaged(path, format!("is no entry bundle from byte {offset} on"))
}

/// Removes a file or directory that a crash left; that it is not there is as good.
pub(super) fn remove(path: &PathBuf) -> Result<(), LogError> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path, error)),
        _ => Ok(()),
    }
}
