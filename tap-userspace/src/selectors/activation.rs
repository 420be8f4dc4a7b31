//! Activations: two persons' consent to one set under one order. In comes a signed note, out goes an [`Activation`].

use crate::keys::{self, KeyError, Role, TrustRoots, parse_sha256, sha256};
use crate::order::window::in_jst;
use jiff::Timestamp;
use serde::Deserialize;

/// Why an activation is refused. Every message names the field.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// The note or one of its signatures is wrong.
    #[error("signatures: {0}")]
    Note(#[from] KeyError),
    /// One of the two persons has not signed.
    #[error(
        "signatures: none by a {missing} key; an activation needs a selector author and another person, the approver"
    )]
    Signer {
        /// The role.
        missing: Role,
    },
    /// Author and approver are one person.
    #[error("signatures: author and approver are the same person ({0}); somebody else must approve")]
    OnePerson(String),
    /// The text is not of the activation's form.
    #[error("{0}")]
    Syntax(String),
    /// A field does not fit.
    #[error("{field}: {reason}")]
    Field {
        /// Which.
        field: &'static str,
        /// Why.
        reason: String,
    },
}

/// Consent to one set under one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Id of the measure.
    pub measure: String,
    /// SHA-256 of the order's text.
    pub order_sha256: [u8; 32],
    /// SHA-256 of the set's bytes.
    pub set_sha256: [u8; 32],
    /// One more than the last activation's; a lower or equal one is refused by the agent.
    pub number: u64,
    /// First moment at which the consent is over.
    pub valid_until: Timestamp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    measure: String,
    order_sha256: String,
    set_sha256: String,
    number: u64,
    valid_until: String,
}

impl Activation {
    /// The text that both persons sign.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "measure = {:?}\norder_sha256 = \"{}\"\nset_sha256 = \"{}\"\nnumber = {}\nvalid_until = \"{}\"\n",
            self.measure,
            hex::encode(self.order_sha256),
            hex::encode(self.set_sha256),
            self.number,
            self.valid_until,
        )
    }

    /// Reads the text of an activation, or a note's, without asking who signed.
    ///
    /// # Errors
    /// When it is not of the form.
    pub fn parse_unsigned(text_or_note: &str) -> Result<Self, ActivationError> {
        let text = keys::note::text(text_or_note)?;
        let file: File = toml::from_str(&text)
            .map_err(|error| ActivationError::Syntax(error.message().trim().replace('\n', "; ")))?;
        let digest = |field, text: &str| {
            parse_sha256(text).ok_or(ActivationError::Field { field, reason: "is not 64 hex digits".to_owned() })
        };
        Ok(Self {
            order_sha256: digest("order_sha256", &file.order_sha256)?,
            set_sha256: digest("set_sha256", &file.set_sha256)?,
            number: file.number,
            valid_until: file.valid_until.parse().map_err(|_no_moment| ActivationError::Field {
                field: "valid_until",
                reason: "is not a moment with its offset".to_owned(),
            })?,
            measure: file.measure,
        })
    }

    /// Whether this activation is for this measure, order and set, and still in force at `now`.
    ///
    /// # Errors
    /// The field that does not fit.
    pub fn admit(
        &self,
        measure: &str,
        order_sha256: &[u8; 32],
        set_sha256: &[u8; 32],
        now: Timestamp,
    ) -> Result<(), ActivationError> {
        self.fits(measure, order_sha256, set_sha256)?;
        if now >= self.valid_until {
            let reason = format!("expired: ended {}", in_jst(self.valid_until));
            return Err(ActivationError::Field { field: "valid_until", reason });
        }
        Ok(())
    }

    /// Whether this activation is for this measure, order and set.
    ///
    /// # Errors
    /// The field that does not fit.
    pub fn fits(&self, measure: &str, order_sha256: &[u8; 32], set_sha256: &[u8; 32]) -> Result<(), ActivationError> {
        let wrong = |field, reason: String| Err(ActivationError::Field { field, reason });
        if self.measure != measure {
            return wrong("measure", format!("{:?}, the order's is {measure:?}", self.measure));
        }
        if self.order_sha256 != *order_sha256 {
            return wrong("order_sha256", "names another order".to_owned());
        }
        if self.set_sha256 != *set_sha256 {
            return wrong("set_sha256", "names another selector set".to_owned());
        }
        Ok(())
    }

    /// SHA-256 of the text, for logs.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        sha256(self.text().as_bytes())
    }
}

/// Reads an activation that an author has signed; whether the other person has is another question.
///
/// # Errors
/// What is wrong: the note, a signature, the missing author, or the form.
pub fn begun(note: &str, roots: &TrustRoots) -> Result<Activation, ActivationError> {
    let verified = keys::note::verify(note, roots)?;
    if !verified.signers.iter().any(|key| key.role == Role::SelectorAuthor) {
        return Err(ActivationError::Signer { missing: Role::SelectorAuthor });
    }
    Activation::parse_unsigned(&verified.text)
}

/// Reads a signed activation: an author and an approver must both have signed. Trust roots hold each key once and in one
/// role, so one key cannot stand for both; two keys under one name are one person's.
///
/// # Errors
/// What is wrong: the note, a signature, a missing role, or the form.
pub fn verify(note: &str, roots: &TrustRoots) -> Result<Activation, ActivationError> {
    let verified = keys::note::verify(note, roots)?;
    let of_role = |role| verified.signers.iter().filter(move |key| key.role == role);
    for missing in [Role::SelectorAuthor, Role::SelectorApprover] {
        if of_role(missing).next().is_none() {
            return Err(ActivationError::Signer { missing });
        }
    }
    // A person who holds one key of each role is still one person.
    let two_persons = of_role(Role::SelectorAuthor)
        .any(|author| of_role(Role::SelectorApprover).any(|approver| approver.name != author.name));
    if !two_persons {
        let name = of_role(Role::SelectorAuthor).map(|author| author.name.clone()).next().unwrap_or_default();
        return Err(ActivationError::OnePerson(name));
    }
    Activation::parse_unsigned(&verified.text)
}

#[cfg(test)]
mod tests;
