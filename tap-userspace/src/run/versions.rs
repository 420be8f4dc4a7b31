//! Versions of a measure's selector set on this host: what is proposed to decide next, and what can be gone back to.
//!
//! In: sets that an author proposes or that decided. Out: which there are, by digest and number, and their texts for those who may
//! read them. A set is a file sealed to the host's key; which of them mean what is one index file that is replaced whole, so that a
//! crash leaves the state before or after. Nothing here decides: what is activated is verified like any other set. Bounds: one
//! proposal, [`VERSIONS_KEPT_MAX`] kept sets, and no file beside these. Only with `[control.api]` is anything kept.

use super::error::RunError;
use super::measure::{Active, Measure};
use super::sealed::{self, Texts};
use super::state::replace_file;
use crate::control::api::wire::{Kept, Proposal, Versions};
use crate::keys::pseudonym::SealingSecret;
use crate::keys::sha256;
use crate::limits::{VERSIONS_BYTES_MAX, VERSIONS_KEPT_MAX};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const INDEX: &str = "index.json";
const SEALED: &str = "sealed";
const INFO: &[u8] = b"gwtap selector set 1";

/// What is kept of a measure. It holds digests, numbers and signatures, no selectors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    pub(super) proposal: Option<Proposal>,
    /// The newest first.
    kept: Vec<Kept>,
}

impl Index {
    /// Names the state that a client sees: what decides, and what is proposed with which signatures.
    pub(super) fn etag(&self, active: &Active) -> String {
        let proposal = self.proposal.as_ref().map_or_else(String::new, |proposal| {
            let digest = hex::encode(sha256(proposal.note.as_bytes()));
            format!("-{}", digest.get(..16).unwrap_or_default())
        });
        format!("{}{proposal}", active.status.generation)
    }

    /// As clients see it.
    pub(super) fn show(&self, measure: &str, active: &Active) -> Versions {
        Versions {
            measure: measure.to_owned(),
            number: active.status.generation,
            set_sha256: active.set.as_ref().map(|set| hex::encode(set.sha256)),
            proposal: self.proposal.clone(),
            kept: self.kept.clone(),
        }
    }

    fn names(&self, set_sha256: &str) -> bool {
        let proposed = self.proposal.as_ref().is_some_and(|proposal| proposal.set_sha256 == set_sha256);
        proposed || self.kept.iter().any(|kept| kept.set_sha256 == set_sha256)
    }
}

/// Where a measure's versions are.
pub(super) struct Store<'a> {
    directory: PathBuf,
    sealing: &'a SealingSecret,
}

impl<'a> Store<'a> {
    pub(super) fn of(measure: &Measure, sealing: &'a SealingSecret) -> Self {
        Self { directory: measure.directory.join("versions"), sealing }
    }

    /// What is kept, brought up to date with what decides: whoever killed the agent between a swap and this file, or loaded a set
    /// by the socket, leaves nothing wrong.
    pub(super) fn settle(&self, active: &Active) -> Result<Index, RunError> {
        let before = self.read()?;
        let mut index = before.clone();
        let Some(texts) = active.texts.as_ref().filter(|_| active.set.is_some()) else {
            // Withdrawn: no set stays.
            index = Index::default();
            return self.replace(&before, index);
        };
        let status = &active.status;
        // One that is not the next any more can never be activated.
        index.proposal = index.proposal.filter(|proposal| proposal.number > status.generation);
        if index.kept.first().is_none_or(|kept| kept.number != status.generation) {
            self.put(&texts.set)?;
            index.kept.retain(|kept| kept.set_sha256 != status.set_sha256);
            let kept = Kept {
                number: status.generation,
                set_sha256: status.set_sha256.clone(),
                set_version: status.set_version,
                rules: status.rules,
            };
            index.kept.insert(0, kept);
            index.kept.truncate(VERSIONS_KEPT_MAX);
        }
        self.replace(&before, index)
    }

    /// Keeps another proposal, or none.
    pub(super) fn propose(&self, index: &Index, proposal: Option<Proposal>) -> Result<Index, RunError> {
        self.replace(index, Index { proposal, ..index.clone() })
    }

    /// Seals a set's text into its file; without a place in the index it is gone again soon.
    pub(super) fn put(&self, set: &str) -> Result<(), RunError> {
        let path = self.file(&hex::encode(sha256(set.as_bytes())));
        if path.exists() { Ok(()) } else { sealed::write_file(&path, INFO, self.sealing, set.as_bytes()) }
    }

    /// The text of a set that the index names.
    pub(super) fn text(&self, index: &Index, set_sha256: &str) -> Result<Option<Zeroizing<String>>, RunError> {
        if !index.names(set_sha256) {
            return Ok(None);
        }
        let path = self.file(set_sha256);
        let damaged = "is not what was kept; remove it, and propose the set anew";
        let wrong = || RunError::failed(path.display(), damaged);
        let plain = sealed::read_file(&path, INFO, self.sealing, damaged)?.ok_or_else(wrong)?;
        let text = std::str::from_utf8(&plain).map_err(|_other| wrong())?;
        if hex::encode(sha256(text.as_bytes())) == set_sha256 {
            Ok(Some(Zeroizing::new(text.to_owned())))
        } else {
            Err(wrong())
        }
    }

    /// Set and note of a proposal.
    pub(super) fn texts(&self, index: &Index, proposal: &Proposal) -> Result<Texts, RunError> {
        let set = self.text(index, &proposal.set_sha256)?;
        let set = set.ok_or_else(|| RunError::Failed("the proposed set is gone; propose it anew".into()))?;
        Ok(Texts { set: set.as_str().to_owned(), activation: proposal.note.clone() })
    }

    fn file(&self, set_sha256: &str) -> PathBuf {
        self.directory.join(format!("{set_sha256}.{SEALED}"))
    }

    fn read(&self) -> Result<Index, RunError> {
        let path = self.directory.join(INDEX);
        let failed = |error: &dyn std::fmt::Display| {
            RunError::failed(path.display(), format!("{error}; remove the folder to begin without kept versions"))
        };
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Index::default()),
            Err(error) => return Err(failed(&error)),
            Ok(metadata) if metadata.len() > VERSIONS_BYTES_MAX => return Err(failed(&"is too large")),
            Ok(_) => {}
        }
        let text = std::fs::read(&path).map_err(|error| failed(&error))?;
        serde_json::from_slice(&text).map_err(|error| failed(&error))
    }

    /// Replaces the index where it changes, and removes what it does not name.
    fn replace(&self, before: &Index, index: Index) -> Result<Index, RunError> {
        if *before != index {
            let path = self.directory.join(INDEX);
            let failed = |error: &dyn std::fmt::Display| RunError::failed(path.display(), error);
            std::fs::create_dir_all(&self.directory).map_err(|error| failed(&error))?;
            let text = serde_json::to_vec(&index).map_err(|error| failed(&error))?;
            // What is written must be one that is read again.
            if text.len() as u64 > VERSIONS_BYTES_MAX {
                return Err(RunError::Refused(format!(
                    "activation: the note is too long: {VERSIONS_BYTES_MAX} bytes at most"
                )));
            }
            replace_file(&path, &text).map_err(|error| failed(&error))?;
        }
        self.sweep(&index)?;
        Ok(index)
    }

    fn sweep(&self, index: &Index) -> Result<(), RunError> {
        let failed = |path: &Path, error| RunError::failed(path.display(), error);
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(&self.directory, error)),
        };
        for entry in entries {
            let path = entry.map_err(|error| failed(&self.directory, error))?.path();
            let digest = path.file_stem().unwrap_or_default().to_string_lossy();
            let is_named = path.extension().is_some_and(|extension| extension == SEALED) && index.names(&digest);
            if !is_named && path.file_name().is_some_and(|name| name != INDEX) {
                std::fs::remove_file(&path).map_err(|error| failed(&path, error))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::SelectorStatus;
    use crate::selectors::CheckedSet;
    use std::sync::Arc;

    fn store<'a>(directory: &Path, sealing: &'a SealingSecret) -> Store<'a> {
        Store { directory: directory.join("versions"), sealing }
    }

    fn active(number: u64, text: &str) -> Active {
        let digest = sha256(text.as_bytes());
        let (measure, rules, ends) = ("m-1".to_owned(), Vec::new(), Vec::new());
        let set = CheckedSet { measure, version: 1, sha256: digest, rules, scope: None, ends };
        let set_sha256 = hex::encode(digest);
        let status = SelectorStatus { generation: number, set_sha256, ..SelectorStatus::default() };
        let texts = Some(Texts { set: text.into(), activation: "note".into() });
        Active { set: Some(Arc::new(set)), status, texts: texts.map(Arc::new), ..Active::default() }
    }

    fn proposal(number: u64, text: &str) -> Proposal {
        let set_sha256 = hex::encode(sha256(text.as_bytes()));
        Proposal { number, set_sha256, set_version: 1, rules: 1, approved: false, note: format!("note {number}") }
    }

    fn files(store: &Store<'_>) -> usize {
        std::fs::read_dir(&store.directory).map_or(0, Iterator::count)
    }

    #[test]
    fn what_decided_is_kept_sealed_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let sealing = SealingSecret::new(&[7; 32]).unwrap();
        let store = store(directory.path(), &sealing);
        let mut index = Index::default();
        for number in 1..=VERSIONS_KEPT_MAX as u64 + 3 {
            index = store.settle(&active(number, &format!("set {number}"))).unwrap();
            assert_eq!(index.kept[0].number, number);
        }
        assert_eq!(index.kept.len(), VERSIONS_KEPT_MAX);
        assert_eq!(files(&store), VERSIONS_KEPT_MAX + 1);
        let digest = index.kept[2].set_sha256.clone();
        let number = index.kept[2].number;
        assert_eq!(store.text(&index, &digest).unwrap().unwrap().as_str(), format!("set {number}"));
        let sealed = std::fs::read(store.file(&digest)).unwrap();
        assert!(!sealed.windows(4).any(|window| window == b"set "));
        // Gone back to, it is the newest and there once.
        let index = store.settle(&active(99, &format!("set {number}"))).unwrap();
        assert_eq!((index.kept[0].number, &index.kept[0].set_sha256), (99, &digest));
        assert_eq!(index.kept.iter().filter(|kept| kept.set_sha256 == digest).count(), 1);
        // One that was not kept, or is another, is not given.
        assert!(store.text(&index, &hex::encode([1; 32])).unwrap().is_none());
        std::fs::copy(store.file(&index.kept[1].set_sha256), store.file(&digest)).unwrap();
        store.text(&index, &digest).unwrap_err();
        // A withdrawal leaves none.
        let withdrawn =
            Active { status: SelectorStatus { generation: 100, ..SelectorStatus::default() }, ..Active::default() };
        assert_eq!(store.settle(&withdrawn).unwrap(), Index::default());
        assert_eq!(files(&store), 1);
    }

    #[test]
    fn a_crash_at_any_step_leaves_the_state_before_or_after() {
        let directory = tempfile::tempdir().unwrap();
        let sealing = SealingSecret::new(&[7; 32]).unwrap();
        let store = store(directory.path(), &sealing);
        let first = active(1, "set 1");
        let index = store.settle(&first).unwrap();
        let before = index.etag(&first);
        // The file is there, the index does not name it yet.
        store.put("set 2").unwrap();
        assert_eq!(store.settle(&first).unwrap(), index);
        assert_eq!(files(&store), 2);
        store.put("set 2").unwrap();
        let index = store.propose(&index, Some(proposal(2, "set 2"))).unwrap();
        assert_ne!(index.etag(&first), before);
        assert_eq!(store.settle(&first).unwrap(), index);
        assert_eq!(store.texts(&index, index.proposal.as_ref().unwrap()).unwrap().set, "set 2");
        // Swapped, and killed before the index knew.
        let second = active(2, "set 2");
        let index = store.settle(&second).unwrap();
        assert!(index.proposal.is_none());
        assert_eq!(index.kept.iter().map(|kept| kept.number).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(files(&store), 3);
        // A note that is too long changes nothing, and what was kept is read on.
        let long = Proposal { note: "x".repeat(usize::try_from(VERSIONS_BYTES_MAX).unwrap()), ..proposal(3, "set 3") };
        store.put("set 3").unwrap();
        assert!(store.propose(&index, Some(long)).unwrap_err().to_string().contains("too long"));
        assert_eq!(store.settle(&second).unwrap(), index);
        // What is no index stops the API, and says which file.
        std::fs::write(store.directory.join(INDEX), b"{").unwrap();
        assert!(store.settle(&second).unwrap_err().to_string().contains("index.json"));
    }
}
