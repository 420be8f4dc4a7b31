//! Reading entries, without verifying them. In: a log's directory. Out: entries by number, one bundle in memory at a time.

use super::LogError;
use super::checkpoint::Checkpoint;
use super::files::{self, CHECKPOINT};
use super::tile::TILE_WIDTH;
use crate::keys::note;
use crate::limits::LOG_NOTE_BYTES_MAX;
use std::path::Path;

/// Hands over every entry that the checkpoint covers, from number `from` on.
///
/// # Errors
/// A file is missing or is not what the log wrote.
pub fn entries(directory: &Path, from: u64, mut each: impl FnMut(u64, &[u8])) -> Result<(), LogError> {
    let path = directory.join(CHECKPOINT);
    let text = note::text(&files::read_text(&path, LOG_NOTE_BYTES_MAX)?)?;
    let checkpoint = Checkpoint::parse(&text).ok_or_else(|| files::damaged(&path, "is not a checkpoint"))?;
    for bundle in files::bundles(checkpoint.size).filter(|bundle| bundle.index >= from / u64::from(TILE_WIDTH)) {
        let first = bundle.index * u64::from(TILE_WIDTH);
        for (number, entry) in (first..).zip(files::bundle_entries(directory, bundle)?) {
            if number >= from {
                each(number, &entry);
            }
        }
    }
    Ok(())
}
