//! Pseudonym key epochs: the keys that addresses are pseudonymised with, per measure and stretch of time.
//!
//! They are made at the receiving facility and sealed (HPKE base mode, RFC 9180: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! ChaCha20-Poly1305) to the host's sealing key, and to the facility's own where it is to re-identify later. What stands
//! around a sealed key is bound to it as associated data. A host that lost a past epoch's file cannot undo that epoch's
//! pseudonyms; the current one's it can.
//!
//! ```toml
//! version = 1
//! measure = "m-1"
//! epoch = 3
//! not_before = "2027-12-01T00:00:00Z"
//! not_after = "2027-12-31T00:00:00Z"
//!
//! [[sealed]]
//! to = "64 hex digits: an X25519 public key"
//! encapsulated = "64 hex digits"
//! ciphertext = "128 hex digits"
//! ```

use chacha20poly1305::aead::OsRng;
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256, kem::X25519HkdfSha256,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Version of the file format, and part of what every sealed key is bound to.
const VERSION: u32 = 1;
/// HPKE's `info`.
const INFO: &[u8] = b"gwtap pseudonym key epoch 1";
/// Bytes of the key of `ipcrypt-deterministic`.
const DETERMINISTIC_BYTES: usize = 16;
/// Bytes of the key of `ipcrypt-pfx`.
const PREFIX_BYTES: usize = 32;
const SECRET_BYTES: usize = DETERMINISTIC_BYTES + PREFIX_BYTES;

/// What can be wrong with a pseudonym key epoch.
#[derive(Debug, thiserror::Error)]
pub enum PseudonymKeyError {
    /// A file could not be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// A file is not an X25519 key.
    #[error("{}: not a sealing key: expected 64 hex digits, as `gwtap keygen host` writes them", path.display())]
    SealingKey {
        /// The file.
        path: PathBuf,
    },
    /// The text is not TOML with the format's keys.
    #[error("pseudonym key: {0}")]
    Format(String),
    /// A field's value is refused.
    #[error("pseudonym key: {field}: {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it must be.
        reason: String,
    },
    /// Nothing in the file is for this host.
    #[error("pseudonym key: not sealed to this host's sealing key {own}; have it made with --seal-to that key")]
    Recipient {
        /// The host's public sealing key, hex.
        own: String,
    },
    /// It is for this host, but does not open.
    #[error("pseudonym key: sealed: does not open; the file was altered")]
    Altered,
    /// It is not for this time.
    #[error("pseudonym key: epoch {epoch} is valid from {not_before} until {not_after}, not at {now}")]
    Time {
        /// The epoch.
        epoch: u32,
        /// Its begin.
        not_before: Timestamp,
        /// Its end.
        not_after: Timestamp,
        /// When it was asked for.
        now: Timestamp,
    },
    /// The system gave no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(getrandom::Error),
}

fn field(field: &'static str, reason: impl Into<String>) -> PseudonymKeyError {
    PseudonymKeyError::Field { field, reason: reason.into() }
}

/// Public half of a sealing pair: whom a key is sealed to.
#[derive(Clone)]
pub struct SealingPublic(pub(super) <X25519HkdfSha256 as Kem>::PublicKey);

impl SealingPublic {
    /// Reads a `NAME.seal.pub` file.
    ///
    /// # Errors
    /// When the file cannot be read or is not 64 hex digits.
    pub fn read(path: &Path) -> Result<Self, PseudonymKeyError> {
        let bytes = read_hex(path)?;
        Self::new(&bytes).ok_or_else(|| PseudonymKeyError::SealingKey { path: path.into() })
    }

    /// A key from its 32 bytes; `None` when no public key has them.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Option<Self> {
        <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(bytes).ok().map(Self)
    }

    /// As 64 hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0.to_bytes())
    }
}

/// Secret half of a sealing pair. `hpke` erases it when it is dropped.
#[derive(Clone)]
pub struct SealingSecret(pub(super) <X25519HkdfSha256 as Kem>::PrivateKey);

impl SealingSecret {
    /// Reads a `NAME.seal.key` file.
    ///
    /// # Errors
    /// When the file cannot be read or is not 64 hex digits.
    pub fn read(path: &Path) -> Result<Self, PseudonymKeyError> {
        let bytes = read_hex(path)?;
        Self::new(&bytes).ok_or_else(|| PseudonymKeyError::SealingKey { path: path.into() })
    }

    /// A key from its 32 bytes; `None` when no secret key has them.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Option<Self> {
        <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(bytes).ok().map(Self)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> SealingPublic {
        SealingPublic(X25519HkdfSha256::sk_to_pk(&self.0))
    }
}

/// A key is never shown.
impl std::fmt::Debug for SealingSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingSecret(redacted)")
    }
}

fn read_hex(path: &Path) -> Result<Zeroizing<[u8; 32]>, PseudonymKeyError> {
    let read = std::fs::read(path).map_err(|reason| PseudonymKeyError::File { path: path.into(), reason })?;
    let text = Zeroizing::new(read);
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_ascii(), bytes.as_mut_slice())
        .map_err(|_not_hex| PseudonymKeyError::SealingKey { path: path.into() })?;
    Ok(bytes)
}

/// The two keys of an epoch, independent of each other: one key is never used in two modes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct PseudonymSecrets {
    /// Key of `ipcrypt-deterministic`.
    pub(crate) deterministic: [u8; DETERMINISTIC_BYTES],
    /// Key of `ipcrypt-pfx`; its halves differ.
    pub(crate) prefix: [u8; PREFIX_BYTES],
}

impl PseudonymSecrets {
    /// `None` when the halves of the prefix key are equal, which `ipcrypt-pfx` forbids.
    fn new(bytes: &[u8; SECRET_BYTES]) -> Option<Self> {
        let (deterministic, prefix) = bytes.split_first_chunk()?;
        let prefix: [u8; PREFIX_BYTES] = prefix.try_into().ok()?;
        let (first, second) = prefix.split_at_checked(PREFIX_BYTES / 2)?;
        (first != second).then_some(Self { deterministic: *deterministic, prefix })
    }
}

/// The opened key of one epoch of one measure.
#[derive(Clone)]
pub struct PseudonymKey {
    /// Id of the measure.
    pub measure: String,
    /// Number of the epoch; records carry it.
    pub epoch: u32,
    /// Begin of the epoch.
    pub not_before: Timestamp,
    /// End of the epoch: the key is not used at or after it.
    pub not_after: Timestamp,
    pub(crate) secrets: PseudonymSecrets,
}

/// A key is never shown.
impl std::fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PseudonymKey")
            .field("measure", &self.measure)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SealedFile {
    version: u32,
    measure: String,
    epoch: u32,
    not_before: Timestamp,
    not_after: Timestamp,
    sealed: Vec<Sealed>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    to: String,
    encapsulated: String,
    ciphertext: String,
}

impl PseudonymKey {
    /// Makes a key with fresh random bytes.
    ///
    /// # Errors
    /// An empty measure, an end that is not after the begin, no random bytes.
    pub fn generate(
        measure: &str,
        epoch: u32,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Self, PseudonymKeyError> {
        check_frame(measure, not_before, not_after)?;
        loop {
            let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
            getrandom::fill(bytes.as_mut_slice()).map_err(PseudonymKeyError::Random)?;
            if let Some(secrets) = PseudonymSecrets::new(&bytes) {
                return Ok(Self { measure: measure.to_owned(), epoch, not_before, not_after, secrets });
            }
        }
    }

    /// The epoch's file, its key sealed to each of `recipients`.
    ///
    /// # Errors
    /// No recipient, or one that is not a usable public key.
    pub fn seal(&self, recipients: &[SealingPublic]) -> Result<String, PseudonymKeyError> {
        if recipients.is_empty() {
            return Err(field("sealed", "a key is sealed to one sealing key at least"));
        }
        let secrets = &self.secrets;
        let mut plain = Zeroizing::new([0; SECRET_BYTES]);
        for (to, from) in plain.iter_mut().zip(secrets.deterministic.iter().chain(&secrets.prefix)) {
            *to = *from;
        }
        let seal = |recipient: &SealingPublic| {
            let associated = self.associated(recipient);
            let (encapsulated, ciphertext) =
                hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256, _>(
                    &OpModeS::Base,
                    &recipient.0,
                    INFO,
                    plain.as_slice(),
                    &associated,
                    &mut OsRng,
                )
                .map_err(|_weak| field("sealed.to", format!("{} is not a usable X25519 key", recipient.hex())))?;
            let (encapsulated, ciphertext) = (hex::encode(encapsulated.to_bytes()), hex::encode(ciphertext));
            Ok(Sealed { to: recipient.hex(), encapsulated, ciphertext })
        };
        let file = SealedFile {
            version: VERSION,
            measure: self.measure.clone(),
            epoch: self.epoch,
            not_before: self.not_before,
            not_after: self.not_after,
            sealed: recipients.iter().map(seal).collect::<Result<_, _>>()?,
        };
        toml::to_string(&file).map_err(|error| PseudonymKeyError::Format(error.to_string()))
    }

    /// Opens an epoch's file with the host's sealing key.
    ///
    /// # Errors
    /// A file of another format or version, one that is not for this key, one that was altered anywhere.
    pub fn open(text: &str, own: &SealingSecret) -> Result<Self, PseudonymKeyError> {
        let file: SealedFile = toml::from_str(text).map_err(|error| PseudonymKeyError::Format(error.to_string()))?;
        if file.version != VERSION {
            return Err(field("version", format!("is {}, this gwtap reads {VERSION}", file.version)));
        }
        check_frame(&file.measure, file.not_before, file.not_after)?;
        let public = own.public();
        let to = public.hex();
        let sealed = file.sealed.iter().find(|sealed| sealed.to == to);
        let sealed = sealed.ok_or_else(|| PseudonymKeyError::Recipient { own: to.clone() })?;
        let bytes = |name, text: &str| hex::decode(text).map_err(|_not_hex| field(name, "is not hex"));
        let encapsulated = bytes("sealed.encapsulated", &sealed.encapsulated)?;
        let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&encapsulated)
            .map_err(|_length| field("sealed.encapsulated", "is not 64 hex digits"))?;
        let ciphertext = bytes("sealed.ciphertext", &sealed.ciphertext)?;
        let mut key = Self {
            measure: file.measure,
            epoch: file.epoch,
            not_before: file.not_before,
            not_after: file.not_after,
            secrets: PseudonymSecrets { deterministic: [0; DETERMINISTIC_BYTES], prefix: [0; PREFIX_BYTES] },
        };
        let plain = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &own.0,
            &encapsulated,
            INFO,
            &ciphertext,
            &key.associated(&public),
        );
        let plain = Zeroizing::new(plain.map_err(|_altered| PseudonymKeyError::Altered)?);
        let plain = plain.first_chunk::<SECRET_BYTES>().filter(|_| plain.len() == SECRET_BYTES);
        key.secrets = plain.and_then(PseudonymSecrets::new).ok_or(PseudonymKeyError::Altered)?;
        Ok(key)
    }

    /// Checks that this key may be used for `measure` at `now`, and that its epoch is no longer than the order allows.
    ///
    /// # Errors
    /// Names what does not fit.
    pub fn check(&self, measure: &str, now: Timestamp, days_max: u32) -> Result<(), PseudonymKeyError> {
        let Self { epoch, not_before, not_after, .. } = *self;
        if self.measure != measure {
            return Err(field("measure", format!("is {}, the order's is {measure}", self.measure)));
        }
        let seconds_max = i64::from(days_max) * 86_400;
        if not_after.as_second().saturating_sub(not_before.as_second()) > seconds_max {
            return Err(field(
                "not_after",
                format!("the epoch is longer than the {days_max} days of the order's addresses.key_epoch_days"),
            ));
        }
        if now < not_before || now >= not_after {
            return Err(PseudonymKeyError::Time { epoch, not_before, not_after, now });
        }
        Ok(())
    }

    /// What a sealed key is bound to.
    fn associated(&self, recipient: &SealingPublic) -> Vec<u8> {
        let mut bytes = VERSION.to_be_bytes().to_vec();
        bytes.extend_from_slice(&(self.measure.len() as u64).to_be_bytes());
        bytes.extend_from_slice(self.measure.as_bytes());
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        for time in [self.not_before, self.not_after] {
            bytes.extend_from_slice(&time.as_nanosecond().to_be_bytes());
        }
        bytes.extend_from_slice(&recipient.0.to_bytes());
        bytes
    }
}

fn check_frame(measure: &str, not_before: Timestamp, not_after: Timestamp) -> Result<(), PseudonymKeyError> {
    if measure.is_empty() {
        return Err(field("measure", "is empty"));
    }
    if not_after <= not_before {
        return Err(field("not_after", format!("{not_after} is not after not_before {not_before}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
