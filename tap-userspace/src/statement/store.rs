//! Where statements lie: a directory a chain, a file a statement, `00000001.note` and on.
//!
//! In: statements without number and link. Out: signed files, each written whole; read again, a chain without a gap or the
//! name of the file at which it breaks. Bound: a file is [`STATEMENT_BYTES_MAX`] long at most.

use super::Statement;
use crate::keys::{KeyError, PublicKey, SecretKey, note};
use crate::limits::STATEMENT_BYTES_MAX;
use crate::run::state::replace_file;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Why a statement cannot be written or trusted.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// File or directory.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The signature.
    #[error("{}: {source}", path.display())]
    Signature {
        /// Which.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// Not a statement, or not the one that belongs here.
    #[error("{}: {reason}", path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// One chain, open for writing.
pub struct Store {
    directory: PathBuf,
    last: Option<(Statement, String)>,
}

impl Store {
    /// Opens the chain of `of` below `directory`, and reads its last statement.
    ///
    /// # Errors
    /// The directory cannot be made or read; a file is damaged or signed by another key.
    pub fn open(directory: &Path, of: &str, key: &PublicKey) -> Result<Self, StoreError> {
        let directory = directory.join(of);
        std::fs::create_dir_all(&directory).map_err(|source| StoreError::Io { path: directory.clone(), source })?;
        let last = files(&directory)?.pop().map(|path| read(&path, key)).transpose()?;
        Ok(Self { directory, last })
    }

    /// The last statement.
    #[must_use]
    pub fn last(&self) -> Option<&Statement> {
        self.last.as_ref().map(|(statement, _)| statement)
    }

    /// Numbers, links, signs and writes a statement; on disk when it returns. Gives the file's digest.
    ///
    /// # Errors
    /// It cannot be signed or written; the chain is as it was then.
    pub fn append(&mut self, mut statement: Statement, key: &SecretKey) -> Result<String, StoreError> {
        statement.number = self.last.as_ref().map_or(0, |(last, _)| last.number) + 1;
        statement.previous_sha256 = self.last.as_ref().map(|(_, digest)| digest.clone()).unwrap_or_default();
        let path = self.directory.join(format!("{:08}.note", statement.number));
        let text = serde_json::to_string_pretty(&statement)
            .map_err(|error| StoreError::Broken { path: path.clone(), reason: error.to_string() })?;
        let note =
            note::sign(&(text + "\n"), key).map_err(|source| StoreError::Signature { path: path.clone(), source })?;
        replace_file(&path, note.as_bytes()).map_err(|source| StoreError::Io { path, source })?;
        let digest = hex::encode(Sha256::digest(note.as_bytes()));
        self.last = Some((statement, digest.clone()));
        Ok(digest)
    }
}

/// Every statement of the chain in `directory`, verified: signatures, numbers, links.
///
/// # Errors
/// The first file that does not hold, by name.
pub fn read_all(directory: &Path, key: &PublicKey) -> Result<Vec<Statement>, StoreError> {
    let mut statements = Vec::new();
    let mut before = String::new();
    for (number, path) in (1..).zip(files(directory)?) {
        let (statement, digest) = read(&path, key)?;
        let broken = |reason: &str| StoreError::Broken { path: path.clone(), reason: reason.to_owned() };
        if statement.number != number {
            return Err(broken(&format!("its number is {}, {number} is missing", statement.number)));
        }
        if directory.file_name().is_none_or(|name| name != statement.of.as_str()) {
            return Err(broken("it is a statement of another chain"));
        }
        if statement.previous_sha256 != before {
            return Err(broken("the statement before it is not the one it names"));
        }
        before = digest;
        statements.push(statement);
    }
    Ok(statements)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let io = |source| StoreError::Io { path: directory.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "note") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path, key: &PublicKey) -> Result<(Statement, String), StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let mut text = String::new();
    File::open(path).map_err(io)?.take(STATEMENT_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
    let signed =
        note::verify_one(&text, key).map_err(|source| StoreError::Signature { path: path.to_owned(), source })?;
    let statement = serde_json::from_str(&signed)
        .map_err(|error| StoreError::Broken { path: path.to_owned(), reason: error.to_string() })?;
    Ok((statement, hex::encode(Sha256::digest(text.as_bytes()))))
}
