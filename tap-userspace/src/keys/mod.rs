//! Keys: who may sign what ([`roles`]), notes and their signatures ([`note`]), and making keys ([`generate`]).
//!
//! Signatures are Ed25519 over C2SP signed notes. A key is compared as a whole (all 32 bytes of the public key), never
//! by the four-byte id that a signature line carries.

pub mod generate;
pub mod note;
pub mod pseudonym;
pub mod roles;
mod sealed;

pub use note::{PublicKey, SecretKey};
pub use roles::{Role, TrustRoots};

use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What can be wrong with a key, a trust root or a signed note.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A key file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A public key is not `name+id+keydata` with Ed25519 key data.
    #[error("{what}: not a public key of the form name+id+keydata ({reason})")]
    Public {
        /// Where it stood.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// A secret key is not `PRIVATE+KEY+name+id+keydata`. The key itself is never shown.
    #[error("{what}: not a secret key of the form PRIVATE+KEY+name+id+keydata ({reason})")]
    Secret {
        /// Where it stood.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// A name that a signature line cannot carry.
    #[error("key name {0:?}: must not be empty and must hold neither white space nor '+'")]
    Name(String),
    /// Text that a note cannot hold.
    #[error(
        "not a note: the text must be UTF-8 without control characters but newlines, end in a newline, and be at most \
         1,000,000 bytes; signature lines follow after an empty line"
    )]
    Note,
    /// The text has no signature lines.
    #[error("unsigned: no signature lines after the text")]
    Unsigned,
    /// The key that must have signed did not.
    #[error("not signed by {name}; is this the right key?")]
    NotSignedBy {
        /// Name of the key.
        name: String,
    },
    /// A signature line names a trusted key, but the signature is not this key's over this text.
    #[error("signature of {name}: does not fit the text; the note was altered, or the key is another one")]
    Signature {
        /// Name of the key.
        name: String,
    },
    /// The trust roots are not what they must be.
    #[error("trust roots: {0}")]
    Roots(String),
    /// A host key id is not 64 hex digits.
    #[error("host key id: {0:?} is not 64 hex digits")]
    HostKeyId(String),
    /// A file that is never overwritten exists.
    #[error("{}: exists; a key is never overwritten, remove it or choose another --name or --out", .0.display())]
    Exists(PathBuf),
    /// The system gave no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(getrandom::Error),
}

/// Identity of a mirror host: SHA-256 over its 32-byte Ed25519 public key, shown as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostKeyId(pub [u8; 32]);

impl HostKeyId {
    /// The id of the host with this public key.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        Self(sha256(&key.bytes))
    }
}

impl fmt::Display for HostKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for HostKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKeyId({self})")
    }
}

impl FromStr for HostKeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse_sha256(text).map(Self).ok_or_else(|| KeyError::HostKeyId(text.to_owned()))
    }
}

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Reads a SHA-256 given as 64 hex digits.
#[must_use]
pub fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).ok()?;
    Some(digest)
}

fn read(path: &Path) -> Result<String, KeyError> {
    std::fs::read_to_string(path).map_err(|source| KeyError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
