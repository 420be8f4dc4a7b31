//! Withdrawals: one person's word that a measure looks for nothing any more. In comes a signed note, out goes a [`Withdrawal`].
//!
//! It takes a number of the activations' row, so that no activation from before it counts again. An author or an approver alone
//! may sign it: what narrows needs one person, what selects needs two.

use super::activation::{Activation, ActivationError};
use crate::keys::{self, Role, TrustRoots, parse_sha256, sha256};
use serde::Deserialize;

/// What stands for the digest of a set where there is none.
pub const NO_SET: [u8; 32] = [0; 32];

/// The end of everything that is looked for under one order, until a later activation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// Id of the measure.
    pub measure: String,
    /// SHA-256 of the order's text.
    pub order_sha256: [u8; 32],
    /// One more than the number of the last activation or withdrawal.
    pub number: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    measure: String,
    order_sha256: String,
    number: u64,
    withdrawn: bool,
}

impl Withdrawal {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "measure = {:?}\norder_sha256 = \"{}\"\nnumber = {}\nwithdrawn = true\n",
            self.measure,
            hex::encode(self.order_sha256),
            self.number,
        )
    }

    /// Reads the text of a withdrawal, or a note's, without asking who signed.
    ///
    /// # Errors
    /// When it is not of the form.
    pub fn parse_unsigned(text_or_note: &str) -> Result<Self, ActivationError> {
        let text = keys::note::text(text_or_note)?;
        let file: File = toml::from_str(&text)
            .map_err(|error| ActivationError::Syntax(error.message().trim().replace('\n', "; ")))?;
        let wrong = |field, reason: &str| ActivationError::Field { field, reason: reason.to_owned() };
        if !file.withdrawn {
            return Err(wrong("withdrawn", "is not true"));
        }
        let order_sha256 =
            parse_sha256(&file.order_sha256).ok_or_else(|| wrong("order_sha256", "is not 64 hex digits"))?;
        Ok(Self { measure: file.measure, order_sha256, number: file.number })
    }

    /// Whether it is for this measure and one of these orders.
    ///
    /// # Errors
    /// The field that does not fit.
    pub fn fits<'a>(
        &self,
        measure: &str,
        orders: impl IntoIterator<Item = &'a [u8; 32]>,
    ) -> Result<(), ActivationError> {
        // The same checks in the same words as an activation's.
        let order_sha256 = orders.into_iter().find(|order| **order == self.order_sha256).unwrap_or(&NO_SET);
        Activation {
            measure: self.measure.clone(),
            order_sha256: self.order_sha256,
            set_sha256: NO_SET,
            number: self.number,
            valid_until: jiff::Timestamp::MAX,
        }
        .fits(measure, order_sha256, &NO_SET)
    }

    /// SHA-256 of the text, for logs.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        sha256(self.text().as_bytes())
    }
}

/// Whether a note is a withdrawal by its form; whether it counts is another question.
#[must_use]
pub fn is_withdrawal(note: &str) -> bool {
    Withdrawal::parse_unsigned(note).is_ok()
}

/// Reads a signed withdrawal: an author or an approver must have signed.
///
/// # Errors
/// What is wrong: the note, a signature, the signer's role, or the form.
pub fn verify(note: &str, roots: &TrustRoots) -> Result<Withdrawal, ActivationError> {
    let verified = keys::note::verify(note, roots)?;
    let may = |role| matches!(role, Role::SelectorAuthor | Role::SelectorApprover);
    if !verified.signers.iter().any(|key| may(key.role)) {
        return Err(ActivationError::Field {
            field: "signatures",
            reason: "none by a selector-author or selector-approver key; a withdrawal needs one of them".to_owned(),
        });
    }
    Withdrawal::parse_unsigned(&verified.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SecretKey;

    fn withdrawal() -> Withdrawal {
        Withdrawal { measure: "m-1".into(), order_sha256: [7; 32], number: 4 }
    }

    fn roots(keys: &[(&SecretKey, &str)]) -> TrustRoots {
        let keys: String = keys
            .iter()
            .map(|(key, role)| {
                format!("[[key]]\nname = \"{}\"\npublic = \"{}\"\nrole = \"{role}\"\n", key.public().name, key.public())
            })
            .collect();
        TrustRoots::from_toml(&keys).unwrap()
    }

    #[test]
    fn one_author_or_approver_withdraws_and_nobody_else() {
        let [author, approver, ministry] =
            ["author", "approver", "ministry"].map(|name| SecretKey::generate(name).unwrap());
        let roots = roots(&[(&author, "selector-author"), (&approver, "selector-approver"), (&ministry, "government")]);
        let text = withdrawal().text();
        for key in [&author, &approver] {
            assert_eq!(verify(&keys::note::sign(&text, key).unwrap(), &roots).unwrap(), withdrawal());
        }
        let refused = verify(&keys::note::sign(&text, &ministry).unwrap(), &roots).unwrap_err().to_string();
        assert!(refused.contains("selector-author"), "{refused}");
        let note = keys::note::sign(&text, &author).unwrap();
        for index in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[index] ^= 1;
            let altered = String::from_utf8(bytes).unwrap_or_default();
            assert!(verify(&altered, &roots).is_err(), "byte {index}");
        }
    }

    #[test]
    fn it_is_for_its_measure_and_order_and_is_no_activation() {
        let it = withdrawal();
        it.fits("m-1", [&[6; 32], &[7; 32]]).unwrap();
        assert!(it.fits("m-2", [&[7; 32]]).unwrap_err().to_string().starts_with("measure"));
        assert!(it.fits("m-1", [&[6; 32]]).unwrap_err().to_string().starts_with("order_sha256"));
        assert!(is_withdrawal(&it.text()));
        assert!(!is_withdrawal(&it.text().replace("true", "false")));
        assert!(Activation::parse_unsigned(&it.text()).is_err());
        let activation = Activation {
            measure: "m-1".into(),
            order_sha256: [7; 32],
            set_sha256: [8; 32],
            number: 4,
            valid_until: jiff::Timestamp::UNIX_EPOCH,
        };
        assert!(!is_withdrawal(&activation.text()));
    }
}
