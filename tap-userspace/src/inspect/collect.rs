//! Making a bundle of a mirror host's directories.
//!
//! In: where things lie, the host's secret key (for the manifest), what else is to go in. Out: the archive's bytes; the same
//! input gives the same bytes. It reads only: documents, statements, the log as far as one checkpoint, public keys. A log that
//! grows meanwhile is read again. Bounds: bytes of a file and of the bundle.

use super::container::{self, Files, MANIFEST};
use super::ledger::{COSIGNED, LOG, tiles};
use super::manifest::{FORM, Manifest, SUMS, sums};
use super::{InspectError, documents, notices, statements};
use crate::audit::checkpoint::Checkpoint;
use crate::config::Config;
use crate::keys::{HostKeyId, PublicKey, SecretKey, note, sha256};
use crate::limits::{BUNDLE_ATTEMPTS_MAX, BUNDLE_ENTRY_BYTES_MAX};
use crate::run::documents as kept;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Where a host's evidence lies.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The host's name.
    pub host: String,
    /// Its secret key, which signs the manifest.
    pub host_key: PathBuf,
    /// The log's public key.
    pub log_key: PublicKey,
    /// The log's directory.
    pub log: PathBuf,
    /// The state directory: documents and statements.
    pub state: PathBuf,
    /// Trust roots.
    pub roots: PathBuf,
    /// Notices, `*.note`, as the receiving facility sent them.
    pub notices: Option<PathBuf>,
    /// Earlier checkpoints with the cosignatures of witnesses.
    pub cosigned: Vec<PathBuf>,
    /// Selector sets, where the inspector may see what they contain.
    pub sets: Vec<PathBuf>,
}

impl Sources {
    /// As an agent's configuration has them.
    ///
    /// # Errors
    /// The log's key cannot be read.
    pub fn of(config: &Config) -> Result<Self, InspectError> {
        Ok(Self {
            host: config.host.name.clone(),
            host_key: config.host.key_file.clone(),
            log_key: SecretKey::from_file(&config.log.key_file)?.public(),
            log: config.log.directory.clone(),
            state: config.state.directory.clone(),
            roots: config.trust.roots_file.clone(),
            notices: None,
            cosigned: Vec::new(),
            sets: Vec::new(),
        })
    }
}

/// The bundle.
///
/// # Errors
/// Something cannot be read, is not what it must be, or changes all the time.
pub fn collect(sources: &Sources) -> Result<Vec<u8>, InspectError> {
    let key = SecretKey::from_file(&sources.host_key)?;
    for _ in 0..BUNDLE_ATTEMPTS_MAX {
        let checkpoint = read(&sources.log.join("checkpoint"))?;
        let mut files = Files::new();
        folder(&sources.state.join(kept::DIRECTORY), documents::DOCUMENTS, &mut files)?;
        chains(&sources.state.join("statements"), &mut files)?;
        log(&sources.log, &checkpoint, &mut files)?;
        // What was read before the log stood still belongs together.
        if read(&sources.log.join("checkpoint"))? == checkpoint {
            others(sources, &key.public(), &mut files)?;
            return sealed(sources, &key, files);
        }
    }
    Err(part(&sources.log, "grows faster than it is read; try again"))
}

/// The archive of these entries, with the host's word for them.
pub(super) fn sealed(sources: &Sources, key: &SecretKey, mut files: Files) -> Result<Vec<u8>, InspectError> {
    let sums = sums(&files);
    let manifest = Manifest {
        form: FORM.to_owned(),
        host: sources.host.clone(),
        host_key: HostKeyId::of(&key.public()).to_string(),
        log_key: sources.log_key.to_string(),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        object_sha256: crate::load::object_sha256(),
        sums_sha256: hex::encode(sha256(sums.as_bytes())),
    };
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| part(Path::new(MANIFEST), error))?;
    files.insert(SUMS.to_owned(), sums.into_bytes());
    files.insert(MANIFEST.to_owned(), note::sign(&(text + "\n"), key)?.into_bytes());
    container::write(&files)
}

/// Every file of the log that its checkpoint speaks of.
fn log(directory: &Path, checkpoint: &[u8], files: &mut Files) -> Result<(), InspectError> {
    let text = String::from_utf8_lossy(checkpoint);
    let head = note::text(&text).ok().and_then(|text| Checkpoint::parse(&text));
    let head = head.ok_or_else(|| part(&directory.join("checkpoint"), "is not a checkpoint"))?;
    files.insert(format!("{LOG}checkpoint"), checkpoint.to_vec());
    for tile in tiles(head.size) {
        let bytes = crate::audit::tile_bytes(directory, tile)?;
        files.insert(format!("{LOG}{}", tile.path().display()), bytes);
    }
    Ok(())
}

fn others(sources: &Sources, host: &PublicKey, files: &mut Files) -> Result<(), InspectError> {
    files.insert("keys/host.pub".to_owned(), format!("{host}\n").into_bytes());
    files.insert("keys/log.pub".to_owned(), format!("{}\n", sources.log_key).into_bytes());
    files.insert("keys/roots.toml".to_owned(), read(&sources.roots)?);
    if let Some(directory) = &sources.notices {
        folder(directory, notices::NOTICES, files)?;
        notes(directory, "ack", notices::NOTICES, files)?;
    }
    for path in &sources.cosigned {
        let bytes = read(path)?;
        files.insert(format!("{LOG}{COSIGNED}{}.note", hex::encode(sha256(&bytes))), bytes);
    }
    for path in &sources.sets {
        let bytes = read(path)?;
        files.insert(format!("{}{}.json", documents::SETS, hex::encode(sha256(&bytes))), bytes);
    }
    Ok(())
}

/// Statements: a folder a chain.
fn chains(directory: &Path, files: &mut Files) -> Result<(), InspectError> {
    for path in listed(directory)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        folder(&path, &format!("{}{name}/", statements::STATEMENTS), files)?;
    }
    Ok(())
}

/// The notes of a directory; one that is not there has none.
fn folder(directory: &Path, prefix: &str, files: &mut Files) -> Result<(), InspectError> {
    notes(directory, "note", prefix, files)
}

fn notes(directory: &Path, ending: &str, prefix: &str, files: &mut Files) -> Result<(), InspectError> {
    for path in listed(directory)? {
        if path.extension().is_some_and(|extension| extension == ending) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            files.insert(format!("{prefix}{name}"), read(&path)?);
        }
    }
    Ok(())
}

fn listed(directory: &Path) -> Result<Vec<PathBuf>, InspectError> {
    let io = |source| InspectError::Io { path: directory.to_owned(), source };
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(io)).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io(error)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, InspectError> {
    let io = |source| InspectError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(BUNDLE_ENTRY_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > BUNDLE_ENTRY_BYTES_MAX {
        return Err(part(path, format!("is longer than {BUNDLE_ENTRY_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn part(path: &Path, reason: impl std::fmt::Display) -> InspectError {
    InspectError::Part { what: path.display().to_string(), reason: reason.to_string() }
}

/// Writes the bundle whole: under its name there is nothing, or all of it. A file that is there is never replaced.
///
/// # Errors
/// It is there, or cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), InspectError> {
    let io = |source| InspectError::Io { path: path.to_owned(), source };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = directory.join(name);
    let written = File::create_new(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        // Unlike a rename, a link does not replace what is there.
        std::fs::hard_link(&beside, path)
    });
    let removed = std::fs::remove_file(&beside);
    written.and(removed).and_then(|()| File::open(directory)?.sync_all()).map_err(io)
}
