//! A selector set sealed to one mirror host: whoever carries the file, or runs the host, does not read what is looked for.
//!
//! In: a set's text and the host's public sealing key. Out: a text that begins with [`BEGIN`]; behind it, in base64, what only that
//! host's secret opens (HPKE, RFC 9180). Sealing keeps it secret; that it counts is the signatures' to say, over the clear text.

use crate::keys::pseudonym::{PseudonymKeyError, SealingPublic, SealingSecret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The first line of a sealed set.
pub const BEGIN: &str = "gwtap sealed selector set 1\n";
const INFO: &[u8] = b"gwtap sealed selector set 1";

/// Why a sealed set does not open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// It is sealed to somebody else, or altered.
    #[error("is not sealed to this host, or was altered; seal it anew: gwtap selectors seal --to HOST.seal.pub")]
    Other,
    /// What is behind the first line is no base64, or what was sealed is no text.
    #[error("is not the text of a sealed set")]
    Form,
}

/// Seals a set's text.
///
/// # Errors
/// The system gives no random numbers.
pub fn seal(text: &str, to: &SealingPublic) -> Result<String, PseudonymKeyError> {
    let sealed = to.seal(INFO, text.as_bytes())?;
    Ok(format!("{BEGIN}{}\n", STANDARD.encode(sealed)))
}

/// Whether it is sealed, by its first line.
#[must_use]
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(BEGIN)
}

/// The clear text of a set, sealed or not.
///
/// # Errors
/// It is sealed, and does not open.
pub fn open(text: String, own: &SealingSecret) -> Result<String, SealedError> {
    let Some(sealed) = text.strip_prefix(BEGIN) else { return Ok(text) };
    let sealed = STANDARD.decode(sealed.trim_end()).map_err(|_no_base64| SealedError::Form)?;
    let plain: Zeroizing<Vec<u8>> = own.open(INFO, &sealed).ok_or(SealedError::Other)?;
    std::str::from_utf8(&plain).map(str::to_owned).map_err(|_no_text| SealedError::Form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_host_opens_a_sealed_set_and_a_clear_one_stays_as_it_is() {
        let [own, other] = [7, 8].map(|byte| SealingSecret::new(&[byte; 32]).unwrap());
        let text = "{\"rules\": [\"203.0.113.9\"]}";
        assert_eq!(open(text.into(), &own).unwrap(), text);
        let sealed = seal(text, &own.public()).unwrap();
        assert!(is_sealed(&sealed) && !sealed.contains("203.0.113.9"));
        assert_eq!(open(sealed.clone(), &own).unwrap(), text);
        assert_eq!(open(sealed.clone(), &other).unwrap_err(), SealedError::Other);
        for index in BEGIN.len()..sealed.len() - 1 {
            let mut bytes = sealed.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            if bytes != sealed.as_bytes() {
                assert!(open(String::from_utf8(bytes).unwrap(), &own).is_err(), "byte {index}");
            }
        }
    }
}
