//! Bytes sealed to a host's X25519 key (HPKE base mode, RFC 9180: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! ChaCha20-Poly1305): encapsulated key (32 bytes), then ciphertext with its tag.

use super::pseudonym::{PseudonymKeyError, SealingPublic, SealingSecret};
use chacha20poly1305::aead::OsRng;
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256, kem::X25519HkdfSha256,
};
use zeroize::Zeroizing;

const ENCAPSULATED_BYTES: usize = 32;

impl SealingPublic {
    /// Seals `plain` to this key; `info` says what it is for, and opens nothing else.
    ///
    /// # Errors
    /// A key that is not a usable X25519 point.
    pub fn seal(&self, info: &[u8], plain: &[u8]) -> Result<Vec<u8>, PseudonymKeyError> {
        let sealed = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256, _>(
            &OpModeS::Base,
            &self.0,
            info,
            plain,
            b"",
            &mut OsRng,
        );
        let (encapsulated, ciphertext) = sealed.map_err(|_weak| PseudonymKeyError::Field {
            field: "sealing key",
            reason: format!("{} is not a usable X25519 key", self.hex()),
        })?;
        let mut out = encapsulated.to_bytes().to_vec();
        out.extend_from_slice(&ciphertext);
        Ok(out)
    }
}

impl SealingSecret {
    /// Opens what [`SealingPublic::seal`] made for the same `info`; `None` if it is for another key or was altered.
    #[must_use]
    pub fn open(&self, info: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (encapsulated, ciphertext) = sealed.split_at_checked(ENCAPSULATED_BYTES)?;
        let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated).ok()?;
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.0,
            &encapsulated,
            info,
            ciphertext,
            b"",
        )
        .ok()
        .map(Zeroizing::new)
    }
}
