//! The log as its one writer has it.
//!
//! In: leaves. Out: files of the log's directory. An append writes the entry bundle, then the tiles, then the checkpoint, each
//! durable before the next; it is acknowledged when the checkpoint is. [`Log::open`] takes up what a crash left: a whole
//! entry beyond the checkpoint is kept (its head may have been signed and seen), anything else beyond it is removed. What
//! the checkpoint covers is never changed: where it is damaged, nothing is opened.

use super::checkpoint::Checkpoint;
use super::files::{self, CHECKPOINT, Tiles};
use super::leaf::{Entry, Leaf, Times};
use super::merkle::{self, Hash, Range, empty_root, leaf_hash};
use super::tile::{self, Kind, TILE_LEVELS_MAX, TILE_WIDTH, Tile};
use super::{LogError, tile::TILE_LEVELS};
use crate::clock;
use crate::keys::SecretKey;
use crate::limits::{LOG_BUNDLE_BYTES_MAX, LOG_NOTE_BYTES_MAX};
use jiff::Timestamp;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is shown of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Entries.
    pub entries: u64,
    /// Root over them.
    pub root: Hash,
    /// The latest time that an entry shows.
    pub latest: Option<Timestamp>,
    /// Appends that failed since the log was opened.
    pub failed_total: u64,
}

/// An open log. One process at a time; any number of threads.
pub struct Log {
    directory: PathBuf,
    key: SecretKey,
    tail: Mutex<Tail>,
    /// Held as long as the log is open.
    _lock: File,
}

/// The right edge of the tree.
#[derive(Clone, Default)]
struct Tail {
    size: u64,
    /// Bytes of the last, partial entry bundle.
    bundle: Vec<u8>,
    /// Hashes of the last, partial tile of each level.
    edge: Vec<Vec<Hash>>,
    latest: Option<Timestamp>,
    failed_total: u64,
    /// A checkpoint may or may not have reached the disk: what is there counts.
    unsure: bool,
}

impl Log {
    /// Opens the log in `directory`, which is made if it is not there, and repairs what a crash left.
    ///
    /// # Errors
    /// The directory cannot be written, another process has the log, the key is another one, or what the checkpoint covers
    /// is damaged.
    pub fn open(directory: &Path, key: SecretKey) -> Result<Self, LogError> {
        files::make_directory(directory)?;
        let lock = files::lock(directory)?;
        let log = Self { directory: directory.to_owned(), key, tail: Mutex::default(), _lock: lock };
        *log.lock() = log.recover()?;
        Ok(log)
    }

    /// Appends a leaf at the system's time; its number. It is on disk when this returns.
    ///
    /// # Errors
    /// It could not be written; the act must not happen, if it is one that must be logged.
    pub fn append(&self, leaf: &Leaf) -> Result<u64, LogError> {
        let reading = clock::read().map_err(|error| LogError::Clock(error.to_string()))?;
        self.append_timed(reading.unix_ns, reading.synchronised, leaf)
    }

    /// As [`Log::append`], at a given time that is trusted: nanoseconds since 1970.
    ///
    /// # Errors
    /// As there.
    pub fn append_at(&self, unix_ns: u64, leaf: &Leaf) -> Result<u64, LogError> {
        self.append_timed(unix_ns, true, leaf)
    }

    /// A time that nobody vouches for is written down, but is no reason to doubt a clock that shows an earlier one later.
    pub(super) fn append_timed(&self, unix_ns: u64, trusted: bool, leaf: &Leaf) -> Result<u64, LogError> {
        let time =
            Timestamp::from_nanosecond(i128::from(unix_ns)).map_err(|error| LogError::Clock(error.to_string()))?;
        let mut tail = self.lock();
        if tail.unsure {
            *tail = Tail { failed_total: tail.failed_total, ..self.recover()? };
        }
        let latest = match tail.latest {
            Some(latest) => (!trusted || latest > time).then_some(latest),
            None => (!trusted).then_some(Timestamp::UNIX_EPOCH),
        };
        let entry = Entry { time, latest, act: leaf.clone() };
        let bytes = serde_json::to_vec(&entry).map_err(|error| LogError::Clock(error.to_string()))?;
        let index = tail.size;
        match self.write(&tail, &bytes, latest.unwrap_or(time)) {
            Ok(next) => {
                *tail = Tail { failed_total: tail.failed_total, ..next };
                Ok(index)
            }
            Err(Failed { error, unsure }) => {
                tail.failed_total += 1;
                tail.unsure = unsure;
                Err(error)
            }
        }
    }

    /// The latest wall time that any entry shows, nanoseconds since 1970: an earlier one is a clock that was set back.
    #[must_use]
    pub fn last_time(&self) -> Option<u64> {
        self.lock().latest.and_then(|time| u64::try_from(time.as_nanosecond()).ok())
    }

    /// Entries, root, latest time.
    #[must_use]
    pub fn head(&self) -> Head {
        let tail = self.lock();
        Head { entries: tail.size, root: tail.root(), latest: tail.latest, failed_total: tail.failed_total }
    }

    /// Name of the log: that of its key.
    #[must_use]
    pub fn name(&self) -> String {
        self.key.public().name
    }

    /// Whether this log continues the tree of `entries` with this root, which somebody saw and kept elsewhere.
    ///
    /// # Errors
    /// It is shorter, or has other entries; or it cannot be read.
    pub fn continues(&self, entries: u64, root: &Hash) -> Result<(), LogError> {
        let size = self.lock().size;
        let refused = |reason: String| Err(LogError::SetBack { path: self.directory.clone(), reason });
        if size < entries {
            return refused(format!("the log has {size} entries, and this host has seen {entries}"));
        }
        if merkle::tree_root(&Tiles { root: &self.directory, size }, entries)? != *root {
            return refused(format!("its first {entries} entries are not those that this host has seen"));
        }
        Ok(())
    }

    /// Where the log lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one entry after `tail`: entries, tiles, checkpoint.
    fn write(&self, tail: &Tail, entry: &[u8], latest: Timestamp) -> Result<Tail, Failed> {
        let mut next = tail.clone();
        let files = next.push(entry).map_err(Failed::before)?;
        next.latest = Some(latest);
        let note = self.checkpoint(&next).map_err(Failed::before)?;
        let written = files.iter().try_for_each(|(tile, bytes)| files::write(&self.directory, &tile.path(), bytes));
        let written = written.and_then(|()| self.publish(&note));
        if let Err(error) = written {
            if self.published(&note) {
                return Err(Failed { error, unsure: true });
            }
            // Not acknowledged, and not to be taken up by the next start: the act does not happen.
            if let Err(error) = self.remove_beyond(tail) {
                tracing::warn!(%error, "a log entry that was not acknowledged is left on the disk");
            }
            return Err(Failed::before(error));
        }
        // Readers find the full ones from here on; what is left over by a crash is harmless.
        for (tile, _) in files.iter().filter(|(tile, _)| tile.width == TILE_WIDTH) {
            if let Err(error) = files::remove(&self.directory.join(tile.partials())) {
                tracing::debug!(%error, "partial tiles that a full one replaces");
            }
        }
        Ok(next)
    }

    fn checkpoint(&self, tail: &Tail) -> Result<String, LogError> {
        Checkpoint { origin: self.key.public().name, size: tail.size, root: tail.root() }.sign(&self.key)
    }

    fn publish(&self, note: &str) -> Result<(), LogError> {
        files::write(&self.directory, Path::new(CHECKPOINT), note.as_bytes())
    }

    /// Whether readers see this checkpoint, or nobody can say.
    fn published(&self, note: &str) -> bool {
        files::read_text(&self.directory.join(CHECKPOINT), LOG_NOTE_BYTES_MAX).map_or(true, |seen| seen == note)
    }

    /// The tail as the disk has it.
    fn recover(&self) -> Result<Tail, LogError> {
        let path = self.directory.join(CHECKPOINT);
        if files::read(&path, LOG_NOTE_BYTES_MAX)?.is_none() {
            if self.directory.join("tile").exists() {
                return Err(files::damaged(&path, "is missing although there are tiles"));
            }
            let tail = Tail::default();
            self.publish(&self.checkpoint(&tail)?)?;
            return Ok(tail);
        }
        let note = files::read_text(&path, LOG_NOTE_BYTES_MAX)?;
        let checkpoint = Checkpoint::verify(&note, &self.key.public(), &path.display().to_string())?;
        let mut tail = Tail::read(&self.directory, &checkpoint)?;
        while let Some((entry, latest)) = self.beyond(&tail)? {
            tail = self.write(&tail, &entry, latest).map_err(|failed| failed.error)?;
            tracing::warn!(entry = tail.size - 1, "a log entry that a crash had left unacknowledged was kept");
        }
        self.remove_beyond(&tail)?;
        Ok(tail)
    }

    /// The entry right behind `tail`, if a whole one was written.
    fn beyond(&self, tail: &Tail) -> Result<Option<(Vec<u8>, Timestamp)>, LogError> {
        let path = self.directory.join(tail.next_bundle().path());
        let Some(bytes) = files::read(&path, LOG_BUNDLE_BYTES_MAX)? else { return Ok(None) };
        let Some(rest) = bytes.strip_prefix(tail.bundle.as_slice()) else { return Ok(None) };
        let Ok(entries) = tile::entries(rest) else { return Ok(None) };
        Ok(match entries.as_slice() {
            [entry] => Times::of(entry).map(|times| (entry.to_vec(), times.latest())),
            _ => None,
        })
    }

    /// Removes what lies beyond `tail`: files of the append that did not come to its end.
    fn remove_beyond(&self, tail: &Tail) -> Result<(), LogError> {
        let mut next = tail.clone();
        // Which files an append writes does not depend on the entry.
        for (tile, _) in next.push(b"")? {
            files::remove(&self.directory.join(tile.path()))?;
        }
        Ok(())
    }
}

/// An append that failed, and whether its checkpoint may be on disk nevertheless.
struct Failed {
    error: LogError,
    unsure: bool,
}

impl Failed {
    fn before(error: LogError) -> Self {
        Self { error, unsure: false }
    }
}

impl Tail {
    /// Reads the right edge of the tree that `checkpoint` is the head of, and holds it against the root.
    fn read(directory: &Path, checkpoint: &Checkpoint) -> Result<Self, LogError> {
        let size = checkpoint.size;
        let mut edge = Vec::new();
        for level in 0..TILE_LEVELS_MAX {
            let partial = Tile::partial(Kind::Hashes(level), size);
            edge.push(partial.map(|tile| files::tile_hashes(directory, tile)).transpose()?.unwrap_or_default());
        }
        let mut tail = Self { size, edge, ..Self::default() };
        if tail.root() != checkpoint.root {
            let path = directory.join("tile");
            return Err(files::damaged(&path, format!("the tiles are not those of the checkpoint of size {size}")));
        }
        if let Some(last) = files::bundles(size).last() {
            let entries = files::bundle_entries(directory, last)?;
            let path = directory.join(last.path());
            let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
            let hashes = files::tile_hashes(directory, Tile { kind: Kind::Hashes(0), ..last })?;
            if leaves != hashes {
                return Err(files::damaged(&path, "an entry is not the one that its hash stands for"));
            }
            tail.latest = entries.last().and_then(|entry| Times::of(entry)).map(|times| times.latest());
            if last.width < TILE_WIDTH {
                tail.bundle = files::tile_bytes(directory, last)?;
            }
        }
        Ok(tail)
    }

    /// Root over all leaves, from the edge.
    fn root(&self) -> Hash {
        if self.size == 0 {
            return empty_root();
        }
        let mut range = Range::default();
        for hashes in self.edge.iter().rev() {
            range.descend(TILE_LEVELS);
            hashes.iter().for_each(|hash| range.push(*hash));
        }
        range.root()
    }

    /// The bundle that the next entry will be the last of.
    fn next_bundle(&self) -> Tile {
        let width = u16::try_from(self.size % u64::from(TILE_WIDTH)).unwrap_or_default() + 1;
        Tile { kind: Kind::Entries, index: self.size / u64::from(TILE_WIDTH), width }
    }

    /// Adds an entry; the files that change, in the order in which they are written.
    fn push(&mut self, entry: &[u8]) -> Result<Vec<(Tile, Vec<u8>)>, LogError> {
        let bundle = self.next_bundle();
        if !tile::push_entry(&mut self.bundle, entry) {
            return Err(LogError::TooLong(entry.len()));
        }
        let mut files = vec![(bundle, self.bundle.clone())];
        if bundle.width == TILE_WIDTH {
            self.bundle.clear();
        }
        self.size += 1;
        let mut hash = Some(leaf_hash(entry));
        self.edge.resize(usize::from(TILE_LEVELS_MAX), Vec::new());
        for (level, hashes) in (0_u8..).zip(&mut self.edge) {
            let Some(added) = hash.take() else { break };
            hashes.push(added);
            let kind = Kind::Hashes(level);
            let width = u16::try_from(hashes.len()).unwrap_or(TILE_WIDTH);
            let index = (self.size >> (TILE_LEVELS * u32::from(level))).saturating_sub(1) / u64::from(TILE_WIDTH);
            files.push((Tile { kind, index, width }, hashes.concat()));
            if width == TILE_WIDTH {
                hash = Some(tile::tile_root(hashes));
                hashes.clear();
            }
        }
        Ok(files)
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("directory", &self.directory).field("key", &self.key).finish_non_exhaustive()
    }
}
