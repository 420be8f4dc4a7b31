//! The spool's key: 32 bytes from a credential file, erased from memory when dropped.

use super::error::SpoolError;
use std::{fs, path::Path};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Key of a spool (XChaCha20-Poly1305).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SpoolKey([u8; 32]);

impl SpoolKey {
    /// A key from its bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads a key file: 64 hex digits and an optional line end.
    ///
    /// # Errors
    /// [`SpoolError::Io`] and [`SpoolError::KeyFile`], which name the file.
    pub fn read(path: &Path) -> Result<Self, SpoolError> {
        let text = Zeroizing::new(fs::read(path).map_err(SpoolError::io("read the spool key", path))?);
        let reason = "expected 64 hex digits";
        let refused = |_error| SpoolError::KeyFile { file: path.into(), reason };
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_ascii(), bytes.as_mut_slice()).map_err(refused)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(SpoolError::KeyFile { file: path.into(), reason: "it is all zeros" });
        }
        Ok(Self(*bytes))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A key is never shown.
impl std::fmt::Debug for SpoolKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SpoolKey(redacted)")
    }
}
