//! The container: a POSIX tar archive (ustar) that is written in one way only.
//!
//! In: names and bytes, or an archive. Out: an archive, or names and bytes; what is read is what would be written, so a byte
//! that is not as it must be is noticed wherever it stands, in a header too. Every entry is a file of mode 0644, of nobody,
//! from 1970; `manifest.note` comes first, then the rest by name. Bounds: bytes and entries of an archive.

use super::{Finding, InspectError};
use crate::limits::{BUNDLE_BYTES_MAX, BUNDLE_ENTRIES_MAX, BUNDLE_NAME_BYTES_MAX};
use std::collections::BTreeMap;
use std::io::Read as _;

/// What comes first.
pub const MANIFEST: &str = "manifest.note";

/// Entries by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The archive.
///
/// # Errors
/// A name cannot stand in it, or it grows too large.
pub fn write(files: &Files) -> Result<Vec<u8>, InspectError> {
    let wrong = |what: &str, reason: String| InspectError::Part { what: what.to_owned(), reason };
    let bytes: usize = files.values().map(Vec::len).fold(0, usize::saturating_add);
    if bytes as u64 > BUNDLE_BYTES_MAX || files.len() > BUNDLE_ENTRIES_MAX {
        let reason = format!("over {BUNDLE_BYTES_MAX} bytes or {BUNDLE_ENTRIES_MAX} entries");
        return Err(wrong("the bundle", reason));
    }
    let mut archive = tar::Builder::new(Vec::new());
    let (first, rest): (Vec<_>, Vec<_>) = files.iter().partition(|(name, _)| *name == MANIFEST);
    for (name, bytes) in first.into_iter().chain(rest) {
        if !good_name(name) {
            return Err(wrong(
                name,
                format!("is no name for an entry: 1 to {BUNDLE_NAME_BYTES_MAX} letters, digits, - . _ /"),
            ));
        }
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(bytes.len() as u64);
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, name, bytes.as_slice()).map_err(|error| wrong(name, error.to_string()))?;
    }
    archive.into_inner().map_err(|error| wrong("the bundle", error.to_string()))
}

/// The entries of an archive.
///
/// # Errors
/// It is none, or not as [`write`] makes it; the finding says where.
pub fn read(bytes: &[u8]) -> Result<Files, Finding> {
    if bytes.len() as u64 > 2 * BUNDLE_BYTES_MAX {
        return Err(Finding::new("the bundle", format!("is longer than {} bytes", 2 * BUNDLE_BYTES_MAX)));
    }
    let damaged = |error: std::io::Error| Finding::new("the bundle", format!("is no bundle, or was damaged: {error}"));
    let mut archive = tar::Archive::new(bytes);
    let (mut files, mut before) = (Files::new(), None::<String>);
    for entry in archive.entries().map_err(damaged)?.take(BUNDLE_ENTRIES_MAX + 1) {
        let mut entry = entry.map_err(damaged)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !good_name(&name) {
            return Err(Finding::new("the bundle", "an entry's name is none that a bundle has"));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(damaged)?;
        match before.replace(name.clone()) {
            None if name != MANIFEST => {
                return Err(Finding::new(name, format!("stands where {MANIFEST} must stand: reordered")));
            }
            Some(before) if before != MANIFEST && before > name => {
                return Err(Finding::new(name, format!("stands behind {before}: reordered")));
            }
            _ => {}
        }
        if files.insert(name.clone(), content).is_some() {
            return Err(Finding::new(name, "is there twice: added"));
        }
    }
    let again = write(&files).map_err(|error| Finding::new("the bundle", error.to_string()))?;
    if again == bytes {
        return Ok(files);
    }
    let at = again.iter().zip(bytes).take_while(|(one, other)| one == other).count();
    Err(Finding::new(
        entry_at(&files, at),
        format!("byte {at} of the file is not as gwtap writes it: the container was altered, cut or added to"),
    ))
}

/// The entry that a byte of the archive belongs to.
fn entry_at(files: &Files, at: usize) -> String {
    let mut end = 0_usize;
    let (first, rest): (Vec<_>, Vec<_>) = files.iter().partition(|(name, _)| *name == MANIFEST);
    for (name, bytes) in first.into_iter().chain(rest) {
        end += 512 + bytes.len().next_multiple_of(512);
        if at < end {
            return name.clone();
        }
    }
    "the bundle".to_owned()
}

fn good_name(name: &str) -> bool {
    let good = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    name.len() <= BUNDLE_NAME_BYTES_MAX && name.split('/').all(good)
}
