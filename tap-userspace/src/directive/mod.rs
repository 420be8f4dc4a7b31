//! Directives of the Commission: in comes a signed note, out goes a [`Directive`] that narrows a running measure.
//!
//! The text is TOML: `measure`, `order_sha256`, `number`, `kind` (`stop`, `lower-share` with `share_ppm`, `shorten` with
//! `not_after`), `reason`, `issued`. Numbers of a measure only rise. What a directive narrows nothing widens again: it
//! binds the measure, so that an order which extends it, signed before or after, is bound too. Bounds: bytes of a note and
//! of a reason. It reads no clock.

pub mod restriction;

use crate::keys::{self, KeyError, Role, TrustRoots, parse_sha256};
use crate::limits::{DIRECTIVE_BYTES_MAX, REASON_BYTES_MAX};
use crate::order::window::in_jst;
use jiff::Timestamp;
use serde::Deserialize;
use std::fmt;
use tap_common::limits::PPM;

/// Why a directive is refused. Every message names the field.
#[derive(Debug, thiserror::Error)]
pub enum DirectiveError {
    /// The note or one of its signatures is wrong.
    #[error("signatures: {0}")]
    Note(#[from] KeyError),
    /// No key of the Commission's has signed.
    #[error("signatures: none by a commission key; only the Commission gives directives")]
    Signer,
    /// The text is not of the directive's form.
    #[error("{0}")]
    Syntax(String),
    /// A field does not fit.
    #[error("{field}: {reason}")]
    Field {
        /// Which.
        field: &'static str,
        /// Why, and what to do.
        reason: String,
    },
}

/// A refusal of one field.
fn wrong<T>(field: &'static str, reason: impl Into<String>) -> Result<T, DirectiveError> {
    Err(DirectiveError::Field { field, reason: reason.into() })
}

/// What the Commission directs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The measure ends now.
    Stop,
    /// The facility's share, in parts per million of its capacity, is lower from now on; each tap's in proportion.
    LowerShare(u32),
    /// The measure ends earlier: the first moment after its last.
    Shorten(Timestamp),
}

impl Kind {
    /// The kind's name in directives and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::LowerShare(_) => "lower-share",
            Self::Shorten(_) => "shorten",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop => f.write_str("stop"),
            Self::LowerShare(share_ppm) => write!(f, "lower the share to {share_ppm} ppm"),
            Self::Shorten(not_after) => write!(f, "end by {}", in_jst(*not_after)),
        }
    }
}

/// One directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Id of the measure.
    pub measure: String,
    /// SHA-256 of the order's text.
    pub order_sha256: [u8; 32],
    /// Higher than every earlier one of the measure.
    pub number: u64,
    /// What is directed.
    pub kind: Kind,
    /// Why, in words.
    pub reason: String,
    /// When it was issued.
    pub issued: Timestamp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    measure: String,
    order_sha256: String,
    number: u64,
    kind: String,
    share_ppm: Option<u32>,
    not_after: Option<String>,
    reason: String,
    issued: String,
}

impl Directive {
    /// The text that the Commission signs.
    #[must_use]
    pub fn text(&self) -> String {
        let value = match self.kind {
            Kind::Stop => String::new(),
            Kind::LowerShare(share_ppm) => format!("share_ppm = {share_ppm}\n"),
            Kind::Shorten(not_after) => format!("not_after = \"{}\"\n", in_jst(not_after)),
        };
        format!(
            "measure = {}\norder_sha256 = \"{}\"\nnumber = {}\nkind = \"{}\"\n{value}reason = {}\nissued = \"{}\"\n",
            toml::Value::from(self.measure.as_str()),
            hex::encode(self.order_sha256),
            self.number,
            self.kind.name(),
            toml::Value::from(self.reason.as_str()),
            in_jst(self.issued),
        )
    }

    /// Reads the text of a directive, or a note's, without asking who signed.
    ///
    /// # Errors
    /// When it is not of the form, by field.
    pub fn parse_unsigned(text_or_note: &str) -> Result<Self, DirectiveError> {
        if text_or_note.len() > DIRECTIVE_BYTES_MAX {
            return wrong("note", format!("is over {DIRECTIVE_BYTES_MAX} bytes"));
        }
        let text = keys::note::text(text_or_note)?;
        let file: File = toml::from_str(&text)
            .map_err(|error| DirectiveError::Syntax(error.message().trim().replace('\n', "; ")))?;
        let Some(order_sha256) = parse_sha256(&file.order_sha256) else {
            return wrong("order_sha256", "is not 64 hex digits");
        };
        if file.number == 0 {
            return wrong("number", "is 0; the first directive of a measure is 1");
        }
        check_reason(&file.reason).map_err(|reason| DirectiveError::Field { field: "reason", reason })?;
        Ok(Self {
            kind: kind(&file)?,
            order_sha256,
            number: file.number,
            issued: moment("issued", &file.issued)?,
            measure: file.measure,
            reason: file.reason,
        })
    }
}

fn kind(file: &File) -> Result<Kind, DirectiveError> {
    match (file.kind.as_str(), file.share_ppm, &file.not_after) {
        ("stop", None, None) => Ok(Kind::Stop),
        ("lower-share", Some(share_ppm), None) if share_ppm == 0 || u64::from(share_ppm) > PPM => {
            wrong("share_ppm", format!("{share_ppm} is not from 1 to {PPM}; to end the measure write kind = \"stop\""))
        }
        ("lower-share", Some(share_ppm), None) => Ok(Kind::LowerShare(share_ppm)),
        ("shorten", None, Some(not_after)) => Ok(Kind::Shorten(moment("not_after", not_after)?)),
        ("stop" | "lower-share" | "shorten", ..) => {
            wrong("kind", "stop takes no value, lower-share takes share_ppm alone, shorten takes not_after alone")
        }
        (other, ..) => wrong("kind", format!("unknown kind {other:?}; known are stop, lower-share, shorten")),
    }
}

fn moment(field: &'static str, text: &str) -> Result<Timestamp, DirectiveError> {
    text.parse().or_else(|_no_moment| wrong(field, "is not a moment with its offset (\"2026-12-01T00:00:00+09:00\")"))
}

/// A reason is one line of words: it stands in logs, on the status page and in the state file.
///
/// # Errors
/// It is empty, too long or has control characters.
pub fn check_reason(reason: &str) -> Result<(), String> {
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
        return Err(format!("must be one line of 1 to {REASON_BYTES_MAX} bytes that says why"));
    }
    Ok(())
}

/// Reads a signed directive: a key of the Commission's must have signed it.
///
/// # Errors
/// What is wrong: the note, the signature, or the form.
pub fn verify(note: &str, roots: &TrustRoots) -> Result<Directive, DirectiveError> {
    if note.len() > DIRECTIVE_BYTES_MAX {
        return wrong("note", format!("is over {DIRECTIVE_BYTES_MAX} bytes"));
    }
    let verified = keys::note::verify(note, roots)?;
    if !verified.signers.iter().any(|key| key.role == Role::Commission) {
        return Err(DirectiveError::Signer);
    }
    Directive::parse_unsigned(&verified.text)
}

#[cfg(test)]
mod tests;
