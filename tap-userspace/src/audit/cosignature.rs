//! Cosignatures: an independent witness's word that a log has only grown (C2SP tlog-cosignature, Ed25519).
//!
//! In: a checkpoint's note and a key. Out: a signature line, or when the witness signed. What is signed begins with a header
//! of its own, so no signature of an order can be taken for one, nor the other way round.

use super::LogError;
use crate::keys::{PublicKey, SecretKey, note};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// Algorithm byte of an Ed25519 cosignature in a key's id.
const ALGORITHM: u8 = 4;
/// Key id, time, signature.
const LINE_BYTES: usize = 4 + 8 + 64;

/// The line that a witness adds to the note of a checkpoint, with its newline.
///
/// # Errors
/// The note is none.
pub fn cosign(checkpoint: &str, key: &SecretKey, unix_s: u64) -> Result<String, LogError> {
    let public = key.public();
    let signature = key.sign_bytes(message(checkpoint, unix_s)?.as_bytes());
    let data = [key_id(&public).as_slice(), &unix_s.to_be_bytes(), &signature].concat();
    Ok(format!("\u{2014} {} {}\n", public.name, STANDARD.encode(data)))
}

/// When this witness cosigned the note's checkpoint, seconds since 1970.
///
/// # Errors
/// It did not, or its signature does not fit.
pub fn verify(checkpoint: &str, key: &PublicKey, what: &str) -> Result<u64, LogError> {
    let wrong = |reason: &str| LogError::Checkpoint { what: what.to_owned(), reason: format!("{} {reason}", key.name) };
    let lines = checkpoint.rsplit_once("\n\n").map_or("", |(_, lines)| lines);
    let prefix = format!("\u{2014} {} ", key.name);
    let data = lines
        .lines()
        .filter_map(|line| STANDARD.decode(line.strip_prefix(&prefix)?).ok())
        .find(|data| data.len() == LINE_BYTES && data.starts_with(&key_id(key)))
        .ok_or_else(|| wrong("did not cosign this checkpoint"))?;
    let fields = data.split_at_checked(4).and_then(|(_, rest)| rest.split_first_chunk::<8>());
    let (time, signature) = fields.ok_or_else(|| wrong("did not cosign this checkpoint"))?;
    let unix_s = u64::from_be_bytes(*time);
    if key.verify_bytes(message(checkpoint, unix_s)?.as_bytes(), signature) {
        Ok(unix_s)
    } else {
        Err(wrong("did not cosign this checkpoint: the signature does not fit"))
    }
}

fn message(checkpoint: &str, unix_s: u64) -> Result<String, LogError> {
    Ok(format!("cosignature/v1\ntime {unix_s}\n{}", note::text(checkpoint).map_err(LogError::Key)?))
}

fn key_id(key: &PublicKey) -> [u8; 4] {
    let digest =
        Sha256::new().chain_update(&key.name).chain_update([b'\n', ALGORITHM]).chain_update(key.bytes).finalize();
    let [a, b, c, d, ..]: [u8; 32] = digest.into();
    [a, b, c, d]
}
