//! Checkpoints: the tree's head as text (C2SP tlog-checkpoint), signed as a note by the log's key.
//!
//! In: a head, or a note. Out: a note, or a head whose signature was verified. Bound: three lines; extension lines are
//! refused, as nobody could audit them.

use super::LogError;
use super::merkle::Hash;
use crate::keys::{PublicKey, SecretKey, note};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The head of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's identity: the name of its key.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// Reads the text of a checkpoint, strictly: what is read is what [`Checkpoint::text`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let root = STANDARD.decode(root).ok()?.try_into().ok()?;
        let checkpoint = Self { origin: origin.to_owned(), size: size.parse().ok()?, root };
        (!origin.is_empty() && checkpoint.text() == text).then_some(checkpoint)
    }

    /// The checkpoint as the log's note.
    ///
    /// # Errors
    /// The origin cannot stand in a note.
    pub fn sign(&self, key: &SecretKey) -> Result<String, LogError> {
        note::sign(&self.text(), key).map_err(LogError::Key)
    }

    /// The checkpoint of a note that the log's key signed; other signatures are not looked at. `what` names it in errors.
    ///
    /// # Errors
    /// No note, not signed by this key, another log's, or no checkpoint.
    pub fn verify(note: &str, key: &PublicKey, what: &str) -> Result<Self, LogError> {
        let wrong = |reason: String| LogError::Checkpoint { what: what.to_owned(), reason };
        let text = note::verify_one(note, key).map_err(|error| wrong(error.to_string()))?;
        let checkpoint = Self::parse(&text)
            .ok_or_else(|| wrong("is not a checkpoint: three lines with origin, size and root in base64".to_owned()))?;
        if checkpoint.origin != key.name {
            return Err(wrong(format!("is of the log {}, not of {}", checkpoint.origin, key.name)));
        }
        Ok(checkpoint)
    }
}
