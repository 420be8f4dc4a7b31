//! A witness: cosigns a log's checkpoint when the log has only grown since the last one it cosigned.
//!
//! In: a proof of consistency from the last size, the log's public key. Out: a cosignature line, after the checkpoint was
//! kept. It never sees an entry. Bound: one checkpoint a log is kept; a log that shrank or branched is refused, and that
//! refusal is the finding.

use super::LogError;
use super::checkpoint::Checkpoint;
use super::cosignature;
use super::files;
use super::merkle::empty_root;
use super::proof::{Claim, Proof};
use crate::keys::{PublicKey, SecretKey, sha256};
use crate::limits::LOG_NOTE_BYTES_MAX;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What a witness has seen.
#[derive(Debug)]
pub struct Witness {
    directory: PathBuf,
    _lock: File,
}

impl Witness {
    /// Opens the directory in which the last cosigned checkpoint of each log is kept; it is made if it is not there.
    ///
    /// # Errors
    /// It cannot be written, or another process uses it.
    pub fn open(directory: &Path) -> Result<Self, LogError> {
        files::make_directory(directory)?;
        Ok(Self { directory: directory.to_owned(), _lock: files::lock(directory)? })
    }

    /// The last checkpoint of this log that was cosigned; the empty tree if there is none.
    ///
    /// # Errors
    /// What is kept is damaged.
    pub fn last(&self, log: &PublicKey) -> Result<Checkpoint, LogError> {
        let path = self.directory.join(Self::file(log));
        if files::read(&path, LOG_NOTE_BYTES_MAX)?.is_none() {
            return Ok(Checkpoint { origin: log.name.clone(), size: 0, root: empty_root() });
        }
        let note = files::read_text(&path, LOG_NOTE_BYTES_MAX)?;
        Checkpoint::verify(&note, log, &path.display().to_string())
    }

    /// Cosigns the checkpoint that `request` leads to, and keeps it; the line to add to its note.
    ///
    /// # Errors
    /// The proof does not begin at the last cosigned size, or does not hold.
    pub fn cosign(&self, request: &Proof, log: &PublicKey, key: &SecretKey, unix_s: u64) -> Result<String, LogError> {
        let wrong = |reason: String| LogError::Proof { what: format!("log {}", log.name), reason };
        let last = self.last(log)?;
        match &request.claim {
            Claim::Consistency { old } if *old == last.size => {}
            Claim::Consistency { .. } | Claim::Inclusion { .. } => {
                return Err(wrong(format!(
                    "the last checkpoint that was cosigned has size {0}: ask with `gwtap audit prove --old {0}`",
                    last.size
                )));
            }
        }
        request.verify(log, Some(&last), &format!("log {}, held against the last cosigned checkpoint", log.name))?;
        let line = cosignature::cosign(&request.checkpoint, key, unix_s)?;
        let note = format!("{}{line}", request.checkpoint);
        files::write(&self.directory, Path::new(&Self::file(log)), note.as_bytes())?;
        Ok(line)
    }

    /// A log's file: its whole key decides, not its name.
    fn file(log: &PublicKey) -> String {
        format!("{}.checkpoint", hex::encode(sha256(&log.bytes)))
    }
}
