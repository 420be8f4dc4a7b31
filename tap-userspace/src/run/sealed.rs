//! A measure's active selector set on disk, sealed to the host's key, so that an agent that restarts continues with the set that
//! an operator loaded at run time.
//!
//! In: the texts of a set and its activation. Out: one file that only this host's sealing key opens (HPKE, RFC 9180).
//! What it holds is verified anew at every start; sealing keeps it secret, the signatures make it count.

use super::error::RunError;
use super::state::replace_file;
use crate::keys::pseudonym::SealingSecret;
use crate::keys::sha256;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const FILE_NAME: &str = "active.sealed";
const AHEAD: &str = "ahead";
const INFO: &[u8] = b"gwtap active selector set 1";

/// A selector set and its activation as they were signed; no set and the withdrawal where it was withdrawn. Its debug form shows nothing.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct Texts {
    pub(super) set: String,
    pub(super) activation: String,
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Texts(redacted)")
    }
}

/// Replaces the file; on disk when it returns.
pub(super) fn write(directory: &Path, sealing: &SealingSecret, texts: &Texts) -> Result<(), RunError> {
    let path = file(directory);
    if take_ahead(&ahead(directory, texts), &path).map_err(|error| RunError::failed(path.display(), error))? {
        return Ok(());
    }
    let plain = Zeroizing::new(serde_json::to_vec(texts).map_err(|error| RunError::failed("set", error))?);
    write_file(&path, INFO, sealing, &plain)
}

/// Seals texts beside the file, so that [`write`] need not; on disk when it returns. One waits at most.
pub(super) fn write_ahead(directory: &Path, sealing: &SealingSecret, texts: &Texts) -> Result<(), RunError> {
    remove_ahead(directory)?;
    let plain = Zeroizing::new(serde_json::to_vec(texts).map_err(|error| RunError::failed("set", error))?);
    write_file(&ahead(directory, texts), INFO, sealing, &plain)
}

/// Removes what was sealed ahead and is not wanted any more.
pub(super) fn remove_ahead(directory: &Path) -> Result<(), RunError> {
    let failed = |path: &Path, error| RunError::failed(path.display(), error);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(directory, error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| failed(directory, error))?.path();
        if path.extension().is_some_and(|extension| extension == AHEAD) {
            std::fs::remove_file(&path).map_err(|error| failed(&path, error))?;
        }
    }
    Ok(())
}

/// What was written last, or `None` without a file.
pub(super) fn read(directory: &Path, sealing: &SealingSecret) -> Result<Option<Texts>, RunError> {
    let path = file(directory);
    let damaged =
        "does not open with this host's sealing key; remove it, and the configuration's set and activation count";
    let Some(plain) = read_file(&path, INFO, sealing, damaged)? else { return Ok(None) };
    let texts = serde_json::from_slice(&plain).map_err(|_content| RunError::refused(path.display(), damaged))?;
    Ok(Some(texts))
}

/// Seals bytes into a file, which it replaces; on disk when it returns. `info` says what they are.
pub(super) fn write_file(path: &Path, info: &[u8], sealing: &SealingSecret, plain: &[u8]) -> Result<(), RunError> {
    let failed = |error: String| RunError::failed(path.display(), error);
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
    }
    let sealed = sealing.public().seal(info, plain).map_err(|error| failed(error.to_string()))?;
    replace_file(path, &sealed).map_err(|error| failed(error.to_string()))
}

/// Opens such a file; `None` without one. `damaged` says what to do with one that does not open.
pub(super) fn read_file(
    path: &Path,
    info: &[u8],
    sealing: &SealingSecret,
    damaged: &str,
) -> Result<Option<Zeroizing<Vec<u8>>>, RunError> {
    let sealed = match std::fs::read(path) {
        Ok(sealed) => sealed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RunError::failed(path.display(), error)),
    };
    sealing.open(info, &sealed).map(Some).ok_or_else(|| RunError::refused(path.display(), damaged))
}

/// Named by the activation's note, which names the set by its digest.
fn ahead(directory: &Path, texts: &Texts) -> PathBuf {
    directory.join(format!("{}.{AHEAD}", hex::encode(sha256(texts.activation.as_bytes()))))
}

fn take_ahead(ahead: &Path, path: &Path) -> std::io::Result<bool> {
    match std::fs::rename(ahead, path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        renamed => renamed?,
    }
    std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(true)
}

fn file(directory: &Path) -> PathBuf {
    directory.join(FILE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_opens_what_was_kept() {
        let directory = tempfile::tempdir().unwrap();
        let own = SealingSecret::new(&[7; 32]).unwrap();
        assert!(read(directory.path(), &own).unwrap().is_none());
        let texts = Texts { set: "{\"canary\":\"203.0.113.9\"}".into(), activation: "note".into() };
        write(directory.path(), &own, &texts).unwrap();
        write(directory.path(), &own, &texts).unwrap();

        let back = read(directory.path(), &own).unwrap().unwrap();
        assert_eq!((&back.set, &back.activation), (&texts.set, &texts.activation));
        let bytes = std::fs::read(file(directory.path())).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"));
        let other = SealingSecret::new(&[8; 32]).unwrap();
        let refused = read(directory.path(), &other).unwrap_err().to_string();
        assert!(refused.contains("active.sealed: does not open"), "{refused}");

        // What was sealed ahead takes its place; another's does not, and none is left over.
        let next = Texts { set: "next".into(), activation: "its note".into() };
        write_ahead(directory.path(), &own, &texts).unwrap();
        write_ahead(directory.path(), &own, &next).unwrap();
        assert_eq!(read(directory.path(), &own).unwrap().unwrap().set, texts.set);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        let sealed = std::fs::read(ahead(directory.path(), &next)).unwrap();
        write(directory.path(), &own, &next).unwrap();
        assert_eq!(std::fs::read(file(directory.path())).unwrap(), sealed);
        write_ahead(directory.path(), &own, &next).unwrap();
        write(directory.path(), &own, &texts).unwrap();
        remove_ahead(directory.path()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(read(directory.path(), &own).unwrap().unwrap().set, texts.set);

        let mut altered = bytes;
        let last = altered.len() - 1;
        altered[last] ^= 1;
        std::fs::write(file(directory.path()), &altered).unwrap();
        read(directory.path(), &own).unwrap_err();
        std::fs::write(file(directory.path()), [1, 2, 3]).unwrap();
        read(directory.path(), &own).unwrap_err();
    }
}
