//! Receipts that cannot count, set aside: `set-aside/DIGEST.json` in the store is one, with its host and the reason.
//!
//! In: a receipt and why it does not count. Out: a file, durable before the receipt's message is acknowledged, so that what comes
//! after it goes on. A start judges them again: what counts by then is noticed. Bounds: [`RECEIPTS_ASIDE_MAX`] files, the
//! message's size each; beyond them the log has the digest, and the store the message. The calls block on the disk.

use super::intake::Fault;
use crate::limits::{ASIDE_BYTES_MAX, RECEIPTS_ASIDE_MAX};
use crate::notice::outbox::OutboxError;
use crate::run::state::replace_file;
use serde::{Deserialize, Serialize};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Directory in the store.
pub const DIRECTORY: &str = "set-aside";
const EXTENSION: &str = "json";

/// A receipt that was set aside.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetAside {
    /// Key id of the host in whose stream it was, in hex digits.
    pub(crate) host: String,
    /// Why it did not count.
    pub(crate) reason: String,
    /// Its text.
    pub(crate) receipt: String,
}

/// The directory.
#[derive(Debug)]
pub(crate) struct Aside {
    directory: PathBuf,
}

impl Aside {
    /// The directory below `store`; it is made when the first receipt is set aside.
    pub(crate) fn new(store: &Path) -> Self {
        Self { directory: store.join(DIRECTORY) }
    }

    /// Keeps a receipt of `host`; durable when it returns. The log has its digest and the reason, never its text.
    ///
    /// # Errors
    /// The file system: then its message is not acknowledged.
    pub(crate) fn keep(&self, host: &[u8; 32], receipt: &str, reason: Fault) -> Result<(), OutboxError> {
        let digest = super::digest(receipt);
        let host = hex::encode(host);
        tracing::error!(host, receipt_sha256 = digest, %reason, "a receipt does not count and is set aside; the others go on");
        let path = self.path(&host, receipt);
        std::fs::create_dir_all(&self.directory).map_err(OutboxError::io("make", &self.directory))?;
        if self.count() >= RECEIPTS_ASIDE_MAX || path.try_exists().map_err(OutboxError::io("look for", &path))? {
            return Ok(());
        }
        let kept = SetAside { host, reason: reason.to_string(), receipt: receipt.to_owned() };
        let text = serde_json::to_string_pretty(&kept)
            .map_err(|error| OutboxError::Broken { path: path.clone(), reason: error.to_string() })?;
        replace_file(&path, text.as_bytes()).map_err(OutboxError::io("write", &path))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.paths().map_or(0, |paths| paths.len() as u64)
    }

    /// All of them. A file that is none of ours stays where it is, and counts.
    ///
    /// # Errors
    /// The file system.
    pub(crate) fn all(&self) -> Result<Vec<SetAside>, OutboxError> {
        let mut all = Vec::new();
        for path in self.paths().map_err(OutboxError::io("read", &self.directory))? {
            let mut text = Vec::new();
            std::fs::File::open(&path)
                .and_then(|file| file.take(ASIDE_BYTES_MAX).read_to_end(&mut text))
                .map_err(OutboxError::io("read", &path))?;
            match serde_json::from_slice(&text) {
                Ok(kept) => all.push(kept),
                Err(_) => tracing::error!(file = %path.display(), "this is no receipt that was set aside here"),
            }
        }
        Ok(all)
    }

    /// Forgets one that counts now.
    ///
    /// # Errors
    /// The file system.
    pub(crate) fn forget(&self, kept: &SetAside) -> Result<(), OutboxError> {
        let path = self.path(&kept.host, &kept.receipt);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(OutboxError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn path(&self, host: &str, receipt: &str) -> PathBuf {
        self.directory.join(super::digest(&format!("{host}\n{receipt}"))).with_extension(EXTENSION)
    }

    fn paths(&self) -> std::io::Result<Vec<PathBuf>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                paths.push(path);
            }
        }
        Ok(paths)
    }
}
