//! Signed notes: in comes a text or a note, out goes a note or the trusted keys that signed it.
//!
//! Format and key strings are those of the C2SP signed-note specification, as the crate `signed_note` has them.

use super::{KeyError, TrustRoots, read, roles::TrustedKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use signed_note::{Note, NoteError, StandardSigner, StandardVerifier, VerifierList};
use std::fmt;
use std::path::Path;
use zeroize::Zeroizing;

/// Algorithm byte of Ed25519 in the key data of a signed note's key.
const ALGORITHM_ED25519: u8 = 1;
/// What stands between text and signature lines.
const SEPARATOR: &str = "\n\n\u{2014} ";

/// An Ed25519 public key with its name.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Name that signature lines carry.
    pub name: String,
    /// The key itself.
    pub bytes: [u8; 32],
    verifier_key: String,
}

impl PublicKey {
    /// Reads `name+id+keydata`; `what` says in errors where it stood.
    ///
    /// # Errors
    /// When it is malformed, the id does not belong to the key, or the key is a weak point that fits any signature.
    pub fn parse(text: &str, what: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let wrong = |reason: &str| KeyError::Public { what: what.to_owned(), reason: reason.to_owned() };
        StandardVerifier::new(text).map_err(|error| wrong(&error.to_string()))?;
        // The verifier has accepted the form; a name holds no '+', so key data is what follows the second one.
        let mut parts = text.splitn(3, '+');
        let name = parts.next().unwrap_or_default().to_owned();
        let data = parts.nth(1).unwrap_or_default();
        let data = STANDARD.decode(data).map_err(|error| wrong(&error.to_string()))?;
        let (_, key) = data.split_first().ok_or_else(|| wrong("no key data"))?;
        let bytes: [u8; 32] = key.try_into().map_err(|_not_32| wrong("key data must be 32 bytes"))?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|error| wrong(&error.to_string()))?;
        if key.is_weak() {
            return Err(wrong("a weak key: signatures of it can be made by anybody"));
        }
        Ok(Self { name, bytes, verifier_key: text.to_owned() })
    }

    /// Reads a `.pub` file.
    ///
    /// # Errors
    /// As [`PublicKey::parse`], or when the file cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        Self::parse(&read(path)?, &path.display().to_string())
    }

    /// Whether the signature is this key's over these bytes.
    pub(crate) fn verify_bytes(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(&self.bytes) else { return false };
        let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else { return false };
        key.verify_strict(message, &signature).is_ok()
    }

    /// What a signature line shows of the key: name and short id. Good for telling lines apart, not for trust.
    pub(super) fn line_id(&self) -> &str {
        self.verifier_key.rsplit_once('+').map_or("", |(line_id, _)| line_id)
    }

    fn of(name: &str, key: &ed25519_dalek::VerifyingKey) -> Self {
        Self {
            name: name.to_owned(),
            bytes: key.to_bytes(),
            verifier_key: signed_note::new_ed25519_verifier_key(name, key),
        }
    }
}

/// `name+id+keydata`
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.verifier_key)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.verifier_key)
    }
}

/// An Ed25519 secret key with its name. Wiped from memory when dropped; never shown.
pub struct SecretKey {
    name: String,
    key: ed25519_dalek::SigningKey,
}

impl SecretKey {
    /// Makes a new key from the system's random numbers.
    ///
    /// # Errors
    /// When the name cannot stand in a signature line, or the system gives no random bytes.
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        if !signed_note::is_key_name_valid(name) {
            return Err(KeyError::Name(name.to_owned()));
        }
        let mut seed = Zeroizing::new([0_u8; 32]);
        getrandom::fill(seed.as_mut()).map_err(KeyError::Random)?;
        Ok(Self { name: name.to_owned(), key: ed25519_dalek::SigningKey::from_bytes(&seed) })
    }

    /// Reads `PRIVATE+KEY+name+id+keydata`; `what` says in errors where it stood.
    ///
    /// # Errors
    /// When it is malformed, or the id does not belong to the key.
    pub fn parse(text: &str, what: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let wrong = |reason: &str| KeyError::Secret { what: what.to_owned(), reason: reason.to_owned() };
        StandardSigner::new(text).map_err(|error| wrong(&error.to_string()))?;
        let mut parts = text.splitn(5, '+').skip(2);
        let name = parts.next().unwrap_or_default().to_owned();
        let data = parts.nth(1).unwrap_or_default();
        let data = Zeroizing::new(STANDARD.decode(data).map_err(|error| wrong(&error.to_string()))?);
        let (_, seed) = data.split_first().ok_or_else(|| wrong("no key data"))?;
        let key = ed25519_dalek::SigningKey::try_from(seed).map_err(|error| wrong(&error.to_string()))?;
        Ok(Self { name, key })
    }

    /// Reads a `.key` file.
    ///
    /// # Errors
    /// As [`SecretKey::parse`], or when the file cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        Self::parse(&Zeroizing::new(read(path)?), &path.display().to_string())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::of(&self.name, &self.key.verifying_key())
    }

    /// Signs bytes. They must begin with what tells them from a note's text.
    pub(crate) fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// The key as its file holds it: `PRIVATE+KEY+name+id+keydata`.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        let mut public = vec![ALGORITHM_ED25519];
        public.extend(self.key.verifying_key().to_bytes());
        let mut secret = Zeroizing::new(vec![ALGORITHM_ED25519]);
        secret.extend(self.key.as_bytes());
        let id = signed_note::key_id(&self.name, &public);
        let data = Zeroizing::new(STANDARD.encode(secret.as_slice()));
        Zeroizing::new(format!("PRIVATE+KEY+{}+{id:08x}+{}", self.name, data.as_str()))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether `text` has signature lines (whatever they are worth).
#[must_use]
pub fn is_signed(text: &str) -> bool {
    text.contains(SEPARATOR)
}

/// Adds a key's signature to a plain text or to a note; a signature that this key already made is replaced.
///
/// # Errors
/// When the text cannot be a note.
pub fn sign(text_or_note: &str, key: &SecretKey) -> Result<String, KeyError> {
    let mut note = if is_signed(text_or_note) {
        Note::from_bytes(text_or_note.as_bytes())
    } else {
        Note::new(text_or_note.as_bytes(), &[])
    }
    .map_err(|_malformed| KeyError::Note)?;
    let signer = StandardSigner::new(&key.encode()).map_err(|_own_key| KeyError::Name(key.name.clone()))?;
    note.add_sigs(&[&signer]).map_err(|_malformed| KeyError::Note)?;
    String::from_utf8(note.to_bytes()).map_err(|_not_utf8| KeyError::Note)
}

/// The text of a note, without the empty line and the signatures; a text without signature lines is its own text.
///
/// # Errors
/// When it has signature lines but is not a note.
pub fn text(text_or_note: &str) -> Result<String, KeyError> {
    if !is_signed(text_or_note) {
        return Ok(text_or_note.to_owned());
    }
    let note = Note::from_bytes(text_or_note.as_bytes()).map_err(|_malformed| KeyError::Note)?;
    String::from_utf8(note.text().to_vec()).map_err(|_not_utf8| KeyError::Note)
}

/// Names in a note's signature lines, in order, each once; nothing is verified. Empty for a plain text.
#[must_use]
pub fn signature_names(text_or_note: &str) -> Vec<String> {
    let lines = text_or_note.rsplit_once("\n\n").map_or("", |(_, lines)| lines);
    let mut names: Vec<String> = Vec::new();
    for line in lines.lines() {
        if let Ok(signature) = signed_note::Signature::from_bytes(line.as_bytes())
            && !names.iter().any(|name| name == signature.name())
        {
            names.push(signature.name().to_owned());
        }
    }
    names
}

/// A note's text and the trusted keys whose signatures over it are right.
#[derive(Debug)]
pub struct Verified<'a> {
    /// The text that was signed, with its final newline.
    pub text: String,
    /// Keys that signed; each once.
    pub signers: Vec<&'a TrustedKey>,
}

/// Verifies a note against the trust roots. Signatures of keys that are not among them, or are revoked, are ignored, as the
/// specification asks; who must have signed is for the caller to say.
///
/// # Errors
/// When it is no note, has no signature lines, or a trusted key's signature does not fit the text.
pub fn verify<'a>(note: &str, roots: &'a TrustRoots) -> Result<Verified<'a>, KeyError> {
    if !is_signed(note) {
        return Err(KeyError::Unsigned);
    }
    let parsed = Note::from_bytes(note.as_bytes()).map_err(|_malformed| KeyError::Note)?;
    let mut signers = Vec::new();
    for trusted in roots.keys().iter().filter(|key| roots.counts(&key.public)) {
        // One verifier at a time: the answer is then about this whole key, whatever short ids the lines carry.
        let what = &trusted.public.name;
        let verifier = StandardVerifier::new(&trusted.public.verifier_key)
            .map_err(|error| KeyError::Public { what: what.clone(), reason: error.to_string() })?;
        match parsed.verify(&VerifierList::new(vec![Box::new(verifier)])) {
            Ok(_) => signers.push(trusted),
            Err(NoteError::UnverifiedNote) => {}
            Err(_) => return Err(KeyError::Signature { name: what.clone() }),
        }
    }
    let text = String::from_utf8(parsed.text().to_vec()).map_err(|_not_utf8| KeyError::Note)?;
    Ok(Verified { text, signers })
}

/// The text of a note that this key signed. Signatures of other keys are not looked at.
///
/// # Errors
/// When it is no note, or the key did not sign it, or its signature does not fit the text.
pub fn verify_one(note: &str, key: &PublicKey) -> Result<String, KeyError> {
    if !is_signed(note) {
        return Err(KeyError::Unsigned);
    }
    let parsed = Note::from_bytes(note.as_bytes()).map_err(|_malformed| KeyError::Note)?;
    let verifier = StandardVerifier::new(&key.verifier_key)
        .map_err(|error| KeyError::Public { what: key.name.clone(), reason: error.to_string() })?;
    match parsed.verify(&VerifierList::new(vec![Box::new(verifier)])) {
        Ok(_) => String::from_utf8(parsed.text().to_vec()).map_err(|_not_utf8| KeyError::Note),
        Err(NoteError::UnverifiedNote) => Err(KeyError::NotSignedBy { name: key.name.clone() }),
        Err(_) => Err(KeyError::Signature { name: key.name.clone() }),
    }
}
