//! The spool's files as the system knows them: the directory's lock, a new segment, one entry.

use super::{
    error::SpoolError,
    place::write_whole,
    recover::{Segment, segment_name},
    segment::{HEADER_BYTES, Header, Place},
};
use chacha20poly1305::XChaCha20Poly1305;
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// Takes the directory for this process; the lock goes with the file, also when the process is killed.
pub(super) fn lock(dir: &Path) -> Result<File, SpoolError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(SpoolError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(SpoolError::Busy { dir: dir.into() }),
        Err(fs::TryLockError::Error(reason)) => Err(SpoolError::Io { action: "lock", path, reason }),
    }
}

/// Makes an empty segment with a fresh salt, durably, under its name.
pub(super) fn create_segment(
    dir: &Path,
    cipher: &XChaCha20Poly1305,
    uuid: &[u8; 16],
    first_sequence: u64,
) -> Result<(File, Segment), SpoolError> {
    let header = Header::new(first_sequence).map_err(SpoolError::Randomness)?;
    let bytes = header.encode(cipher, uuid).ok_or(SpoolError::Cipher { bytes: 0 })?;
    let name = segment_name(first_sequence);
    let file = write_whole(dir, &name, &bytes)?;
    let path = dir.join(name);
    Ok((file, Segment { header: Some(header), first_sequence, places: Vec::new(), bytes: HEADER_BYTES as u64, path }))
}

/// Reads and opens one entry; `None` when it is not what was written.
pub(super) fn read_entry(
    path: &Path,
    cipher: &XChaCha20Poly1305,
    (header, index, place): (Header, u32, Place),
) -> io::Result<Option<Vec<u8>>> {
    let mut entry = vec![0; place.entry_bytes()];
    match File::open(path)?.read_exact_at(&mut entry, u64::from(place.offset)) {
        Ok(()) => Ok(header.open(cipher, index, &entry)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
