//! Proofs that stand alone: text that a third party checks with the log's public key.
//!
//! In: a log's directory. Out: that an entry is in it (C2SP tlog-proof, the entry itself in the `extra` line), or that it is
//! the continuation of an earlier one (the request body of C2SP tlog-witness). Read strictly: what is read is what is written.

use super::LogError;
use super::checkpoint::Checkpoint;
use super::files::{self, CHECKPOINT, Tiles};
use super::merkle::{self, Hash};
use super::tile::{Kind, TILE_WIDTH, Tile};
use crate::keys::{PublicKey, note};
use crate::limits::{LOG_NOTE_BYTES_MAX, PROOF_HASHES_MAX};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;

const INCLUSION_HEADER: &str = "c2sp.org/tlog-proof@v1";

/// What a proof is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// This is an entry of the log.
    Inclusion {
        /// Its number.
        index: u64,
        /// Its bytes.
        entry: Vec<u8>,
    },
    /// The log began with a tree of this size.
    Consistency {
        /// Entries of the earlier tree.
        old: u64,
    },
}

/// A proof as its text has it; nothing is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What it is about.
    pub claim: Claim,
    /// Hashes, in the order of RFC 6962.
    pub hashes: Vec<Hash>,
    /// The note of the checkpoint that it leads to.
    pub checkpoint: String,
}

/// Makes the proof of an entry.
///
/// # Errors
/// There is no such entry, or the log is damaged where the proof needs it.
pub fn inclusion(directory: &Path, index: u64) -> Result<Proof, LogError> {
    let (note, checkpoint) = checkpoint(directory)?;
    let size = checkpoint.size;
    if index >= size {
        let reason = format!("there is no entry {index}: the log has {size}, numbered from 0");
        return Err(LogError::Proof { what: directory.display().to_string(), reason });
    }
    let full = Tile { kind: Kind::Entries, index: index / u64::from(TILE_WIDTH), width: TILE_WIDTH };
    let bundle = Tile::partial(Kind::Entries, size).filter(|partial| partial.index == full.index).unwrap_or(full);
    let position = usize::try_from(index % u64::from(TILE_WIDTH)).unwrap_or(usize::MAX);
    let entry = files::bundle_entries(directory, bundle)?.into_iter().nth(position).unwrap_or_default();
    let hashes = merkle::prove_inclusion(&Tiles { root: directory, size }, index, size)?;
    let leaf = merkle::leaf_hash(&entry);
    if !merkle::inclusion_holds(&hashes, &leaf, index, size, &checkpoint.root) {
        return Err(files::damaged(&directory.join(bundle.path()), format!("entry {index} is not the checkpoint's")));
    }
    Ok(Proof { claim: Claim::Inclusion { index, entry }, hashes, checkpoint: note })
}

/// Makes the proof that the log continues its tree of `old` entries.
///
/// # Errors
/// The log is shorter, or damaged where the proof needs it.
pub fn consistency(directory: &Path, old: u64) -> Result<Proof, LogError> {
    let (note, checkpoint) = checkpoint(directory)?;
    let size = checkpoint.size;
    if old > size {
        let reason = format!("the log has {size} entries, fewer than {old}");
        return Err(LogError::Proof { what: directory.display().to_string(), reason });
    }
    let tiles = Tiles { root: directory, size };
    let hashes = merkle::prove_consistency(&tiles, old, size)?;
    let old_root = merkle::tree_root(&tiles, old)?;
    if !merkle::consistency_holds(&hashes, (old, &old_root), (size, &checkpoint.root)) {
        return Err(files::damaged(&directory.join("tile"), "the tiles are not the checkpoint's"));
    }
    Ok(Proof { claim: Claim::Consistency { old }, hashes, checkpoint: note })
}

fn checkpoint(directory: &Path) -> Result<(String, Checkpoint), LogError> {
    let path = directory.join(CHECKPOINT);
    let note = files::read_text(&path, LOG_NOTE_BYTES_MAX)?;
    let text = note::text(&note).map_err(LogError::Key)?;
    let parsed = Checkpoint::parse(&text).ok_or_else(|| files::damaged(&path, "is not a checkpoint"))?;
    Ok((note, parsed))
}

impl Proof {
    /// The proof as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = match &self.claim {
            Claim::Inclusion { index, entry } => {
                format!("{INCLUSION_HEADER}\nextra {}\nindex {index}\n", STANDARD.encode(entry))
            }
            Claim::Consistency { old } => format!("old {old}\n"),
        };
        self.hashes.iter().for_each(|hash| text += &(STANDARD.encode(hash) + "\n"));
        text + "\n" + &self.checkpoint
    }

    /// Reads a proof's text.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str, what: &str) -> Result<Self, LogError> {
        let wrong = || LogError::Proof {
            what: what.to_owned(),
            reason: "is neither a proof of inclusion nor one of consistency; `gwtap audit prove` makes them".to_owned(),
        };
        let (head, checkpoint) = text.split_once("\n\n").ok_or_else(wrong)?;
        let mut lines = head.split('\n');
        let first = lines.next().ok_or_else(wrong)?;
        let claim = if first == INCLUSION_HEADER {
            let entry = lines.next().and_then(|line| line.strip_prefix("extra ")).ok_or_else(wrong)?;
            let entry = STANDARD.decode(entry).map_err(|_not_base64| wrong())?;
            Claim::Inclusion { index: number(lines.next(), "index ").ok_or_else(wrong)?, entry }
        } else {
            Claim::Consistency { old: number(Some(first), "old ").ok_or_else(wrong)? }
        };
        let hashes = lines.map(|line| STANDARD.decode(line).ok()?.try_into().ok()).collect::<Option<Vec<Hash>>>();
        let proof = Self { claim, hashes: hashes.ok_or_else(wrong)?, checkpoint: checkpoint.to_owned() };
        if proof.hashes.len() > PROOF_HASHES_MAX || proof.text() != text {
            return Err(wrong());
        }
        Ok(proof)
    }

    /// Verifies the proof against the log's key; the checkpoint that it leads to. One of consistency needs the earlier
    /// checkpoint.
    ///
    /// # Errors
    /// The checkpoint is not the log's, or the proof does not hold.
    pub fn verify(&self, key: &PublicKey, old: Option<&Checkpoint>, what: &str) -> Result<Checkpoint, LogError> {
        let wrong = |reason: String| LogError::Proof { what: what.to_owned(), reason };
        let checkpoint = Checkpoint::verify(&self.checkpoint, key, what)?;
        let holds = match (&self.claim, old) {
            (Claim::Inclusion { index, entry }, _) => {
                let leaf = merkle::leaf_hash(entry);
                merkle::inclusion_holds(&self.hashes, &leaf, *index, checkpoint.size, &checkpoint.root)
            }
            (Claim::Consistency { old: size }, Some(old)) => {
                if old.size != *size {
                    return Err(wrong(format!("is from size {size}, the earlier checkpoint has size {}", old.size)));
                }
                let new = (checkpoint.size, &checkpoint.root);
                merkle::consistency_holds(&self.hashes, (old.size, &old.root), new)
            }
            (Claim::Consistency { .. }, None) => {
                return Err(wrong("is held against an earlier checkpoint; name it (--old FILE)".to_owned()));
            }
        };
        if holds { Ok(checkpoint) } else { Err(wrong("the proof does not hold".to_owned())) }
    }
}

/// A number in decimal digits behind a word.
fn number(line: Option<&str>, word: &str) -> Option<u64> {
    line?.strip_prefix(word)?.parse().ok()
}
