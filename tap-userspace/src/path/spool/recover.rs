//! Recovery: from a directory that any crash may have left to the list of entries that are certainly there.
//!
//! Every segment but the newest was synced before its successor was made, so only the newest can have a torn tail. What
//! authenticates is kept, what lies behind the last such entry is cut, nothing is made up. A damaged entry between sound
//! ones keeps its number and is reported when it is read.

use super::{
    error::SpoolError,
    place::sync_dir,
    segment::{HEADER_BYTES, Header, Place},
};
use crate::limits::SPOOL_SEGMENT_BYTES_MAX;
use chacha20poly1305::XChaCha20Poly1305;
use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

const SUFFIX: &str = "segment";

/// Name of the segment that begins with `first_sequence`: sorts as the numbers do.
pub(super) fn segment_name(first_sequence: u64) -> String {
    format!("{first_sequence:016x}.{SUFFIX}")
}

/// A segment that is there, with the places of its entries by index.
#[derive(Debug)]
pub(super) struct Segment {
    /// What its header says; `None` when that is damaged, and with it every entry.
    pub(super) header: Option<Header>,
    /// Sequence of its first entry.
    pub(super) first_sequence: u64,
    /// Entries by index; `None` is one that is damaged.
    pub(super) places: Vec<Option<Place>>,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// The file.
    pub(super) path: PathBuf,
}

impl Segment {
    /// The sequence behind its last entry.
    pub(super) fn next_sequence(&self) -> u64 {
        self.first_sequence.saturating_add(self.places.len() as u64)
    }

    /// Header and place of an entry; `None` when it is damaged.
    pub(super) fn entry(&self, sequence: u64) -> Option<(Header, u32, Place)> {
        let index = sequence.checked_sub(self.first_sequence)?;
        let place = self.places.get(usize::try_from(index).ok()?).copied().flatten()?;
        Some((self.header?, u32::try_from(index).ok()?, place))
    }
}

/// The segments in `dir`, oldest first; removes what an interrupted creation left.
pub(super) fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, SpoolError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(SpoolError::io("list", dir))? {
        let path = entry.map_err(SpoolError::io("list", dir))?.path();
        let extension = path.extension().and_then(|e| e.to_str());
        if extension == Some("tmp") {
            fs::remove_file(&path).map_err(SpoolError::io("remove", &path))?;
        } else if extension == Some(SUFFIX) {
            let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
            if let Ok(first_sequence) = u64::from_str_radix(stem, 16) {
                found.push((first_sequence, path));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads all segments, repairs the newest one's tail and makes it durable.
pub(super) fn recover(
    dir: &Path,
    cipher: &XChaCha20Poly1305,
    uuid: &[u8; 16],
) -> Result<VecDeque<Segment>, SpoolError> {
    let listed = list(dir)?;
    let mut segments = VecDeque::with_capacity(listed.len() + 1);
    let count = listed.len();
    for (number, (first_sequence, path)) in listed.into_iter().enumerate() {
        let newest = number + 1 == count;
        let mut segment = read_segment(cipher, uuid, first_sequence, path, newest)?;
        if newest {
            repair_tail(&mut segment)?;
        }
        segments.push_back(segment);
    }
    // A number belongs to the segment that claims it first by name: an entry whose write was reported as failed may
    // have reached the disk all the same, and its number was given again.
    let firsts: Vec<u64> = segments.iter().map(|s| s.first_sequence).skip(1).collect();
    for (segment, following) in segments.iter_mut().zip(firsts) {
        let places = following.saturating_sub(segment.first_sequence);
        segment.places.truncate(usize::try_from(places).unwrap_or(usize::MAX));
    }
    sync_dir(dir)?;
    Ok(segments)
}

fn read_segment(
    cipher: &XChaCha20Poly1305,
    uuid: &[u8; 16],
    first_sequence: u64,
    path: PathBuf,
    newest: bool,
) -> Result<Segment, SpoolError> {
    let file = File::open(&path).map_err(SpoolError::io("open", &path))?;
    let bytes = file.metadata().map_err(SpoolError::io("inspect", &path))?.len();
    let mut head = [0; HEADER_BYTES];
    let mut header = None;
    if bytes >= HEADER_BYTES as u64 && bytes <= SPOOL_SEGMENT_BYTES_MAX {
        file.read_exact_at(&mut head, 0).map_err(SpoolError::io("read", &path))?;
        header = Header::decode(&head, cipher, uuid).filter(|h| h.first_sequence == first_sequence);
    }
    let Some(header) = header else {
        if newest {
            return Err(SpoolError::Header { file: path });
        }
        return Ok(Segment { header: None, first_sequence, places: Vec::new(), bytes, path });
    };
    let walked = if newest { None } else { header.walk(&file, bytes).map_err(SpoolError::io("read", &path))? };
    let (places, bytes) = match walked {
        Some(places) => (places, bytes),
        None => {
            let content = fs::read(&path).map_err(SpoolError::io("read", &path))?;
            let (places, end) = header.scan(cipher, &content);
            (places, if newest { end as u64 } else { bytes })
        }
    };
    Ok(Segment { header: Some(header), first_sequence, places, bytes, path })
}

/// Cuts what is behind the last sound entry, and makes the rest durable: after a killed process it may still be in the
/// page cache only.
fn repair_tail(segment: &mut Segment) -> Result<(), SpoolError> {
    let path = &segment.path;
    let file = OpenOptions::new().write(true).open(path).map_err(SpoolError::io("open", path))?;
    file.set_len(segment.bytes).map_err(SpoolError::io("cut the torn tail of", path))?;
    file.sync_all().map_err(SpoolError::io("sync", path))
}
