//! Spool: what waits for the receiving facility's acknowledgement, durable and encrypted.
//!
//! In: messages (IPFIX sets of pseudonymised records). Out: the same messages by number, from 0, until they are
//! acknowledged. It must never see a clear address that the order does not clear. Bounded by
//! [`SpoolLimits::bytes_max`]: a full spool refuses the newest message and counts it.
//!
//! What it promises:
//! - A message that [`Spool::append`] returned for survives a killed process at once, a power cut after the next
//!   [`Spool::sync`].
//! - A number is never used for two messages that could have left the host: [`Spool::read`] makes a message durable
//!   before it hands it out, and no number below the acknowledged position is given again.
//! - What [`Spool::trim`] was told survives a restart.
//! - A full disk refuses the newest message, as a full spool does; acknowledgements give room back, and then it takes again.
//!
//! The calls block on the file system; `read` and `sync` may wait for the disk.

mod error;
mod file;
mod key;
mod place;
mod recover;
mod segment;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_model;
#[cfg(test)]
mod tests_power;

pub use error::SpoolError;
pub use key::SpoolKey;

use crate::limits::{SPOOL_ENTRY_BYTES_MAX, SPOOL_SEGMENT_BYTES_MAX, SPOOL_SEGMENT_BYTES_MIN};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use place::Position;
use recover::Segment;
use segment::{ENTRY_OVERHEAD_BYTES, HEADER_BYTES, Header, Place};
use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, FileExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// How much a spool may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Bytes of all segments together; at least two segments.
    pub bytes_max: u64,
    /// Bytes of one segment; space is given back a segment at a time.
    pub segment_bytes: u64,
}

/// What the spool holds, for metrics and `gwtap status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolStatus {
    /// Bytes that the segments take.
    pub bytes: u64,
    /// Messages that are not acknowledged.
    pub messages: u64,
    /// Messages appended since it was opened.
    pub appended_total: u64,
    /// Messages refused since it was opened: no room, or a write failed.
    pub refused_total: u64,
    /// Messages acknowledged since it was opened.
    pub trimmed_total: u64,
    /// Reads since it was opened that met a damaged message.
    pub damaged_total: u64,
}

/// An open spool. Clones share it; every method may be called from any thread.
#[derive(Clone, Debug)]
pub struct Spool(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    uuid: [u8; 16],
    cipher: XChaCha20Poly1305,
    limits: SpoolLimits,
    state: Mutex<State>,
    next: watch::Sender<u64>,
    /// Holds the lock on the directory for as long as any clone lives.
    _lock: File,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("dir", &self.dir).finish_non_exhaustive()
    }
}

struct State {
    /// Oldest first; the last is the active one.
    segments: VecDeque<Segment>,
    active: Active,
    position: Position,
    first: u64,
    next: u64,
    /// `next` when it was opened: an earlier process may have handed out every number below.
    recovered: u64,
    /// Every number below is on stable storage.
    durable: u64,
    sync_failed: bool,
    status: SpoolStatus,
    buffer: Vec<u8>,
}

/// The segment that is written to.
struct Active {
    file: Arc<File>,
    header: Header,
    /// A write failed half way: its nonce is spent, so nothing more is written here.
    spoiled: bool,
}

impl Spool {
    /// Opens the spool in `dir`, or makes it there, and repairs what a crash left.
    ///
    /// # Errors
    /// Another key, another process, limits that make no sense, a damaged newest header, the file system.
    pub fn open(dir: &Path, key: &SpoolKey, limits: SpoolLimits) -> Result<Self, SpoolError> {
        check_limits(limits)?;
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(SpoolError::io("make", dir))?;
        let lock = file::lock(dir)?;
        let cipher = XChaCha20Poly1305::new(key.bytes().into());
        let uuid = place::identity(dir, &cipher, !recover::list(dir)?.is_empty())?;
        let (position, acknowledged) = Position::open(dir, &cipher, &uuid)?;
        let segments = recover::recover(dir, &cipher, &uuid)?;

        let recovered = segments.back().map_or(0, Segment::next_sequence);
        let oldest = segments.front().map_or(0, |segment| segment.first_sequence);
        let next = recovered.max(acknowledged);
        let (file, segment) = file::create_segment(dir, &cipher, &uuid, next)?;
        let header = segment.header.ok_or_else(|| SpoolError::Header { file: segment.path.clone() })?;
        let mut state = State {
            segments,
            active: Active { file: Arc::new(file), header, spoiled: false },
            position,
            first: acknowledged.max(oldest),
            next,
            recovered: next,
            durable: next,
            sync_failed: false,
            status: SpoolStatus::default(),
            buffer: Vec::new(),
        };
        push_active(&mut state.segments, segment);
        drop_acknowledged(&mut state)?;
        let inner = Inner {
            dir: dir.into(),
            uuid,
            cipher,
            limits,
            state: Mutex::new(state),
            next: watch::Sender::new(next),
            _lock: lock,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Made with the directory; `(host, uuid, sequence)` names a message for ever.
    pub fn uuid(&self) -> [u8; 16] {
        self.0.uuid
    }

    /// Writes a message behind the last one and returns its number.
    ///
    /// # Errors
    /// [`SpoolError::Full`] (the message is refused and counted), [`SpoolError::TooLarge`], the file system. After an
    /// error the message is not in the spool.
    pub fn append(&self, message: &[u8]) -> Result<u64, SpoolError> {
        let mut state = self.state();
        let appended = self.append_locked(&mut state, message);
        match &appended {
            Ok(_) => state.status.appended_total += 1,
            Err(_) => state.status.refused_total += 1,
        }
        let next = state.next;
        drop(state);
        if appended.is_ok() {
            // Two appending threads may arrive here in either order.
            self.0.next.send_modify(|known| *known = next.max(*known));
        }
        appended
    }

    fn append_locked(&self, state: &mut State, message: &[u8]) -> Result<u64, SpoolError> {
        let limits = self.0.limits;
        let entry_bytes = self.check_length(message)?;
        if state.sync_failed {
            return Err(SpoolError::SyncFailed { dir: self.0.dir.clone() });
        }
        let begun = state.segments.back().is_some_and(|active| !active.places.is_empty());
        let active_bytes = state.segments.back().map_or(0, |active| active.bytes);
        let mut rotation = state.active.spoiled || (begun && active_bytes + entry_bytes > limits.segment_bytes);
        let bytes = total_bytes(state);
        // One header stays free: opening a full spool begins a segment.
        let headers = if rotation { 2 } else { 1 };
        let wanted = entry_bytes + headers * HEADER_BYTES as u64;
        if bytes.saturating_add(wanted) > limits.bytes_max {
            // Only the active segment is kept when everything is acknowledged: a new one gives its space back.
            rotation = begun && state.first == state.next;
            if !rotation {
                return Err(SpoolError::Full { bytes, bytes_max: limits.bytes_max });
            }
        }
        if rotation {
            match self.rotate(state) {
                // No room for another segment, while this one holds nothing that anybody still needs.
                Err(error) if error.is_disk_full() && state.first == state.next => {
                    self.empty_active(state)?;
                    self.rotate(state)?;
                }
                rotated => rotated?,
            }
        }
        self.write_entry(state, message)
    }

    fn check_length(&self, message: &[u8]) -> Result<u64, SpoolError> {
        let overhead = HEADER_BYTES + ENTRY_OVERHEAD_BYTES;
        let segment_bytes = usize::try_from(self.0.limits.segment_bytes).unwrap_or(usize::MAX);
        let bytes_max = SPOOL_ENTRY_BYTES_MAX.min(segment_bytes.saturating_sub(overhead));
        if message.len() > bytes_max {
            return Err(SpoolError::TooLarge { bytes: message.len(), bytes_max });
        }
        Ok((message.len() + ENTRY_OVERHEAD_BYTES) as u64)
    }

    fn write_entry(&self, state: &mut State, message: &[u8]) -> Result<u64, SpoolError> {
        let State { segments, active, buffer, .. } = state;
        let refused = || SpoolError::Cipher { bytes: message.len() };
        let segment = segments.back_mut().ok_or_else(refused)?;
        let index = u32::try_from(segment.places.len()).map_err(|_too_many| refused())?;
        let offset = u32::try_from(segment.bytes).map_err(|_too_long| refused())?;
        let length = u32::try_from(message.len()).map_err(|_too_long| refused())?;
        active.header.seal(&self.0.cipher, index, message, buffer).ok_or_else(refused)?;
        if let Err(reason) = active.file.write_all_at(buffer, segment.bytes) {
            active.spoiled = true;
            // Best effort: recovery cuts or ignores what stays.
            drop(active.file.set_len(segment.bytes));
            return Err(SpoolError::Io { action: "write", path: segment.path.clone(), reason });
        }
        segment.bytes += buffer.len() as u64;
        segment.places.push(Some(Place { offset, length }));
        let sequence = state.next;
        state.next += 1;
        Ok(sequence)
    }

    /// Makes everything appended so far survive a power cut.
    ///
    /// # Errors
    /// The file system; after that the spool takes and hands out nothing that is not durable until it is opened anew.
    pub fn sync(&self) -> Result<(), SpoolError> {
        let state = self.state();
        let (file, next, durable, failed) =
            (Arc::clone(&state.active.file), state.next, state.durable, state.sync_failed);
        drop(state);
        if failed {
            return Err(SpoolError::SyncFailed { dir: self.0.dir.clone() });
        }
        if durable >= next {
            return Ok(());
        }
        // Without the lock: appending goes on meanwhile. A segment that is closed meanwhile was synced by `rotate`.
        let synced = file.sync_data();
        let mut state = self.state();
        if let Err(reason) = synced {
            state.sync_failed = true;
            return Err(SpoolError::Io { action: "sync the spool in", path: self.0.dir.clone(), reason });
        }
        state.durable = state.durable.max(next);
        Ok(())
    }

    /// The message `sequence`; `None` when it is acknowledged or not there yet. Makes it durable first if it is not.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`] when its bytes are not what was appended, and the file system's.
    pub fn read(&self, sequence: u64) -> Result<Option<Vec<u8>>, SpoolError> {
        let state = self.state();
        if sequence < state.first || sequence >= state.next {
            return Ok(None);
        }
        if sequence >= state.durable {
            drop(state);
            self.sync()?;
            return self.read_durable(sequence);
        }
        drop(state);
        self.read_durable(sequence)
    }

    fn read_durable(&self, sequence: u64) -> Result<Option<Vec<u8>>, SpoolError> {
        let state = self.state();
        if sequence < state.first {
            return Ok(None);
        }
        let place = state.segments.partition_point(|segment| segment.first_sequence <= sequence);
        let segment = place.checked_sub(1).and_then(|place| state.segments.get(place));
        let entry = segment.and_then(|segment| segment.entry(sequence));
        let path = segment.map_or_else(|| self.0.dir.clone(), |segment| segment.path.clone());
        drop(state);

        let message = match entry {
            Some(entry) => file::read_entry(&path, &self.0.cipher, entry),
            None => Ok(None),
        };
        match message {
            Ok(Some(message)) => Ok(Some(message)),
            // Acknowledged by another thread while this one was reading.
            _ if sequence < self.state().first => Ok(None),
            Ok(None) => {
                self.state().status.damaged_total += 1;
                Err(SpoolError::Damaged { sequence, file: path })
            }
            Err(reason) => Err(SpoolError::Io { action: "read", path, reason }),
        }
    }

    /// The oldest message that is not acknowledged; equals [`Spool::next_sequence`] when there is none.
    pub fn first_sequence(&self) -> u64 {
        self.state().first
    }

    /// The number that the next message will get.
    pub fn next_sequence(&self) -> u64 {
        self.state().next
    }

    /// Every message below is on stable storage.
    pub fn durable_sequence(&self) -> u64 {
        self.state().durable
    }

    /// The number that the first message since it was opened got: an earlier process may have handed out those below.
    pub fn recovered_sequence(&self) -> u64 {
        self.state().recovered
    }

    /// Forgets every message up to and including `acknowledged_through`. An older acknowledgement changes nothing.
    ///
    /// # Errors
    /// [`SpoolError::NotAppended`] for a number that no message had; the file system.
    pub fn trim(&self, acknowledged_through: u64) -> Result<(), SpoolError> {
        let mut state = self.state();
        if acknowledged_through >= state.next {
            return Err(SpoolError::NotAppended { acknowledged: acknowledged_through, next: state.next });
        }
        let first = acknowledged_through + 1;
        if first > state.first {
            state.position.write(&self.0.dir, &self.0.cipher, &self.0.uuid, first)?;
            state.status.trimmed_total += first - state.first;
            state.first = first;
            drop_acknowledged(&mut state)?;
        }
        Ok(())
    }

    /// What it holds now.
    pub fn status(&self) -> SpoolStatus {
        let state = self.state();
        SpoolStatus { bytes: total_bytes(&state), messages: state.next - state.first, ..state.status }
    }

    /// Follows [`Spool::next_sequence`].
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.next.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the active segment, durably, and begins another.
    fn rotate(&self, state: &mut State) -> Result<(), SpoolError> {
        if state.durable < state.next {
            if let Err(reason) = state.active.file.sync_data() {
                state.sync_failed = true;
                return Err(SpoolError::Io { action: "sync the spool in", path: self.0.dir.clone(), reason });
            }
            state.durable = state.next;
        }
        let (file, segment) = file::create_segment(&self.0.dir, &self.0.cipher, &self.0.uuid, state.next)?;
        let header = segment.header.ok_or_else(|| SpoolError::Header { file: segment.path.clone() })?;
        push_active(&mut state.segments, segment);
        state.active = Active { file: Arc::new(file), header, spoiled: false };
        drop_acknowledged(state)
    }

    /// Gives the room of the active segment back, all of whose messages are acknowledged. Nothing is written there any more:
    /// its nonces are spent. What keeps the numbers going is the position, which is therefore made durable first.
    fn empty_active(&self, state: &mut State) -> Result<(), SpoolError> {
        let Inner { dir, cipher, uuid, .. } = &*self.0;
        state.active.spoiled = true;
        state.position.write_durably(dir, cipher, uuid, state.first)?;
        let Some(segment) = state.segments.back_mut() else { return Ok(()) };
        state.active.file.set_len(HEADER_BYTES as u64).map_err(SpoolError::io("empty", &segment.path))?;
        segment.places.clear();
        segment.bytes = HEADER_BYTES as u64;
        Ok(())
    }
}

fn check_limits(limits: SpoolLimits) -> Result<(), SpoolError> {
    let SpoolLimits { bytes_max, segment_bytes } = limits;
    if !(SPOOL_SEGMENT_BYTES_MIN..=SPOOL_SEGMENT_BYTES_MAX).contains(&segment_bytes) {
        let reason = format!("must be {SPOOL_SEGMENT_BYTES_MIN} to {SPOOL_SEGMENT_BYTES_MAX} bytes");
        return Err(SpoolError::Limits { key: "segment_bytes", value: segment_bytes, reason });
    }
    if bytes_max < segment_bytes.saturating_mul(2) {
        let reason = format!("must be at least two segments of {segment_bytes} bytes");
        return Err(SpoolError::Limits { key: "bytes_max", value: bytes_max, reason });
    }
    Ok(())
}

/// Puts the new active segment behind the others. One without entries had the same name and is replaced by it.
fn push_active(segments: &mut VecDeque<Segment>, segment: Segment) {
    if segments.back().is_some_and(|last| last.first_sequence == segment.first_sequence) {
        segments.pop_back();
    }
    segments.push_back(segment);
}

/// Removes the oldest segments that hold nothing but acknowledged messages; never the active one, whose name keeps the
/// numbers going.
fn drop_acknowledged(state: &mut State) -> Result<(), SpoolError> {
    while let (Some(oldest), Some(following)) = (state.segments.front(), state.segments.get(1)) {
        if following.first_sequence > state.first {
            break;
        }
        match fs::remove_file(&oldest.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SpoolError::Io { action: "remove", path: oldest.path.clone(), reason: error });
            }
            _ => state.segments.pop_front(),
        };
    }
    Ok(())
}

fn total_bytes(state: &State) -> u64 {
    state.segments.iter().map(|segment| segment.bytes).sum()
}
