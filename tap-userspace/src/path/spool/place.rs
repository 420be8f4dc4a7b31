//! What stands beside the segments in the spool's directory: the identity, made once, and the acknowledged position.
//!
//! Both are authenticated with the spool key. The identity is renamed into place after a sync, so it is whole or not
//! there. The position has two slots that are written in turn: a torn write spoils one, and the other is at most one
//! acknowledgement older, which means that a message is sent again.

use super::{error::SpoolError, segment::TAG_BYTES};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce, aead::AeadInPlace};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

const IDENTITY_MAGIC: [u8; 8] = *b"gwtapid1";
const POSITION_MAGIC: [u8; 8] = *b"gwtappo1";
const NONCE_BYTES: usize = 24;
/// A slot is 56 bytes; two slots never share a sector.
const SLOT_STRIDE_BYTES: u64 = 4096;

/// `magic | value | nonce 24 | tag 16`, with a fresh random nonce: these are written seldom.
fn authenticate(
    cipher: &XChaCha20Poly1305,
    magic: [u8; 8],
    value: &[u8],
    associated: &[u8],
) -> Result<Vec<u8>, SpoolError> {
    let mut nonce = XNonce::default();
    getrandom::fill(&mut nonce).map_err(SpoolError::Randomness)?;
    let mut bytes = magic.to_vec();
    bytes.extend_from_slice(value);
    let full = [&bytes, associated].concat();
    let tag = cipher
        .encrypt_in_place_detached(&nonce, &full, &mut [])
        .map_err(|_refused| SpoolError::Cipher { bytes: value.len() })?;
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&tag);
    Ok(bytes)
}

/// The value in `bytes`, if it authenticates.
fn verified<const N: usize>(
    cipher: &XChaCha20Poly1305,
    magic: [u8; 8],
    bytes: &[u8],
    associated: &[u8],
) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_at_checked(magic.len() + N)?;
    let (nonce, tag) = rest.split_at_checked(NONCE_BYTES)?;
    let value = head.strip_prefix(&magic)?.try_into().ok()?;
    (tag.len() == TAG_BYTES).then_some(())?;
    let full = [head, associated].concat();
    cipher.decrypt_in_place_detached(XNonce::from_slice(nonce), &full, &mut [], Tag::from_slice(tag)).ok()?;
    Some(value)
}

/// Syncs a directory, so that names made or removed in it are durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), SpoolError> {
    File::open(dir).and_then(|handle| handle.sync_all()).map_err(SpoolError::io("sync the directory", dir))
}

/// Writes a file whole: temporary name, sync, rename, sync of the directory. Returns it open for reading and writing.
pub(super) fn write_whole(dir: &Path, name: &str, bytes: &[u8]) -> Result<File, SpoolError> {
    let temporary = dir.join(format!("{name}.tmp"));
    let path = dir.join(name);
    let write = || -> io::Result<File> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        Ok(file)
    };
    let file = write().map_err(|reason| {
        // Best effort: on a full disk what was begun takes room that others wait for.
        drop(fs::remove_file(&temporary));
        SpoolError::Io { action: "write", path: path.clone(), reason }
    })?;
    sync_dir(dir)?;
    Ok(file)
}

/// Name of the identity file.
const IDENTITY: &str = "identity";
/// Name of the position file.
const POSITION: &str = "acknowledged";

/// Reads the UUID of a spool that has segments, or makes one: without any segment nothing says which numbers an old
/// UUID has given away, so it is not used again.
pub(super) fn identity(dir: &Path, cipher: &XChaCha20Poly1305, has_segments: bool) -> Result<[u8; 16], SpoolError> {
    let file = dir.join(IDENTITY);
    if has_segments {
        return match fs::read(&file) {
            Ok(bytes) => verified(cipher, IDENTITY_MAGIC, &bytes, &[]).ok_or(SpoolError::Key { file }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SpoolError::Identity { file }),
            Err(reason) => Err(SpoolError::Io { action: "read", path: file, reason }),
        };
    }
    let mut uuid = [0; 16];
    getrandom::fill(&mut uuid).map_err(SpoolError::Randomness)?;
    // RFC 9562, version 4.
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut uuid;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    write_whole(dir, IDENTITY, &authenticate(cipher, IDENTITY_MAGIC, &uuid, &[])?)?;
    Ok(uuid)
}

/// The file that remembers what was acknowledged.
#[derive(Debug)]
pub(super) struct Position {
    file: File,
    /// Slot of the next write, 0 or 1.
    slot: u64,
}

impl Position {
    /// Opens the position file of the spool `uuid` and returns it with the first sequence that is not acknowledged
    /// (0 when nothing is known).
    pub(super) fn open(dir: &Path, cipher: &XChaCha20Poly1305, uuid: &[u8; 16]) -> Result<(Self, u64), SpoolError> {
        let path = dir.join(POSITION);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(SpoolError::io("open", &path))?;
        let mut found = [None; 2];
        for (slot, value) in (0..).zip(&mut found) {
            let mut bytes = [0; POSITION_MAGIC.len() + 8 + NONCE_BYTES + TAG_BYTES];
            match file.read_exact_at(&mut bytes, slot * SLOT_STRIDE_BYTES) {
                Ok(()) => *value = verified(cipher, POSITION_MAGIC, &bytes, uuid).map(u64::from_le_bytes),
                // Room for it from the start, zeros that read as no value: on a full disk it is an acknowledgement that gives
                // room back.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    let zeros = vec![0; bytes.len()];
                    file.write_all_at(&zeros, slot * SLOT_STRIDE_BYTES).map_err(SpoolError::io("write", &path))?;
                }
                Err(reason) => return Err(SpoolError::Io { action: "read", path, reason }),
            }
        }
        let [even, odd] = found;
        let slot = u64::from(even > odd);
        Ok((Self { file, slot }, even.max(odd).unwrap_or(0)))
    }

    /// Remembers `first_unacknowledged`; at once for other processes, on stable storage when the kernel likes.
    pub(super) fn write(
        &mut self,
        dir: &Path,
        cipher: &XChaCha20Poly1305,
        uuid: &[u8; 16],
        first_unacknowledged: u64,
    ) -> Result<(), SpoolError> {
        let bytes = authenticate(cipher, POSITION_MAGIC, &first_unacknowledged.to_le_bytes(), uuid)?;
        self.file
            .write_all_at(&bytes, self.slot * SLOT_STRIDE_BYTES)
            .map_err(SpoolError::io("write", dir.join(POSITION)))?;
        self.slot = 1 - self.slot;
        Ok(())
    }

    /// The same in both slots and on stable storage: neither a power cut nor a damaged slot can take it back.
    pub(super) fn write_durably(
        &mut self,
        dir: &Path,
        cipher: &XChaCha20Poly1305,
        uuid: &[u8; 16],
        first_unacknowledged: u64,
    ) -> Result<(), SpoolError> {
        for _slot in 0..2 {
            self.write(dir, cipher, uuid, first_unacknowledged)?;
        }
        self.file.sync_data().map_err(SpoolError::io("sync", dir.join(POSITION)))
    }
}
