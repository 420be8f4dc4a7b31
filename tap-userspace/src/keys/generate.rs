//! Making keys: what comes in is a name and a folder, what goes out are files that nobody else can read.

use super::{KeyError, SecretKey};
use hpke::kem::X25519HkdfSha256;
use hpke::{Kem, Serializable};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Mode of a secret file: its owner alone.
pub(crate) const SECRET_MODE: u32 = 0o600;
/// Mode of a public file.
pub(crate) const PUBLIC_MODE: u32 = 0o644;

/// Makes an Ed25519 key pair: `NAME.key` (secret) and `NAME.pub` in `folder`, which is made if it is missing.
///
/// # Errors
/// When one of the files exists or cannot be written, or the name cannot be a key's.
pub fn note_pair(name: &str, folder: &Path) -> Result<(SecretKey, [PathBuf; 2]), KeyError> {
    let key = SecretKey::generate(name)?;
    let paths = [file(folder, name, "key")?, file(folder, name, "pub")?];
    let [secret_path, public_path] = &paths;
    write_new(secret_path, &Zeroizing::new(format!("{}\n", key.encode().as_str())), SECRET_MODE)?;
    write_new(public_path, &format!("{}\n", key.public()), PUBLIC_MODE)?;
    Ok((key, paths))
}

/// Makes an X25519 pair that pseudonym keys are sealed to (HPKE, RFC 9180, DHKEM(X25519, HKDF-SHA256)):
/// `NAME.seal.key` and `NAME.seal.pub`, both hex.
///
/// # Errors
/// When one of the files exists or cannot be written.
pub fn sealing_pair(name: &str, folder: &Path) -> Result<[PathBuf; 2], KeyError> {
    let paths = [file(folder, name, "seal.key")?, file(folder, name, "seal.pub")?];
    let mut seed = Zeroizing::new([0_u8; 32]);
    getrandom::fill(seed.as_mut()).map_err(KeyError::Random)?;
    let (secret, public) = X25519HkdfSha256::derive_keypair(seed.as_ref());
    let [secret_path, public_path] = &paths;
    write_new(secret_path, &Zeroizing::new(format!("{}\n", hex::encode(secret.to_bytes()))), SECRET_MODE)?;
    write_new(public_path, &format!("{}\n", hex::encode(public.to_bytes())), PUBLIC_MODE)?;
    Ok(paths)
}

/// Makes a spool key: 32 random bytes as hex in `NAME.key`.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn spool_key(name: &str, folder: &Path) -> Result<PathBuf, KeyError> {
    let path = file(folder, name, "key")?;
    let mut key = Zeroizing::new([0_u8; 32]);
    getrandom::fill(key.as_mut()).map_err(KeyError::Random)?;
    write_new(&path, &Zeroizing::new(format!("{}\n", hex::encode(key.as_ref()))), SECRET_MODE)?;
    Ok(path)
}

/// The path of a new file; a name with a slash would leave the folder.
fn file(folder: &Path, name: &str, ending: &str) -> Result<PathBuf, KeyError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(KeyError::Name(name.to_owned()));
    }
    let path = folder.join(format!("{name}.{ending}"));
    if path.exists() { Err(KeyError::Exists(path)) } else { Ok(path) }
}

/// Writes a file that must not exist yet, durably, with exactly these permissions.
pub(crate) fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), KeyError> {
    let wrong = |source| KeyError::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(wrong)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(wrong)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(wrong)
}
