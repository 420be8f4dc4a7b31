//! What crosses the control API, as JSON. Selector contents stand in [`Proposing`] and [`Contents`] alone.

use serde::{Deserialize, Serialize};

/// A body that proposes a set.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposing {
    /// The set's text, byte for byte: its SHA-256 is what is activated.
    pub set: String,
    /// The activation, signed by its author.
    pub activation: String,
}

/// A body with a signed note: an activation, a withdrawal, a directive.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noted {
    /// The note.
    pub note: String,
}

/// A body of the kill switch.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reasoned {
    /// Which measure; all if none is named.
    #[serde(default)]
    pub measure: Option<String>,
    /// Why.
    pub reason: String,
}

/// Which sets a measure has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The measure.
    pub measure: String,
    /// Number of the activation or withdrawal that decides.
    pub number: u64,
    /// Digest of the set that decides; none after a withdrawal.
    pub set_sha256: Option<String>,
    /// What is proposed to come after it.
    pub proposal: Option<Proposal>,
    /// Sets that can be gone back to, the newest first; the one that decides is among them.
    pub kept: Vec<Kept>,
}

/// A set that an author wants to decide next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The activation's number.
    pub number: u64,
    /// Digest of the set.
    pub set_sha256: String,
    /// Version as the set names it.
    pub set_version: u64,
    /// Number of its rules.
    pub rules: usize,
    /// Both persons have signed.
    pub approved: bool,
    /// The activation with the signatures that it has.
    pub note: String,
}

/// A set that decided, or decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Number of its last activation.
    pub number: u64,
    /// Digest of the set.
    pub set_sha256: String,
    /// Version as the set names it.
    pub set_version: u64,
    /// Number of its rules.
    pub rules: usize,
}

/// A set.
#[derive(Serialize, Deserialize)]
pub struct Contents {
    /// Its digest.
    pub set_sha256: String,
    /// Its text, byte for byte.
    pub set: String,
}

/// How many indicators two sets do not share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differing {
    /// Digest of the first.
    pub set_sha256: String,
    /// Digest of the second.
    pub other_sha256: String,
    /// Indicators that only the second has.
    pub added: u64,
    /// Indicators that only the first has.
    pub removed: u64,
    /// Indicators that both have.
    pub kept: u64,
}

/// What is in force now, a line for each measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// In words.
    pub done: Vec<String>,
}

/// Why a call was not done, in the form of RFC 9457.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Which kind, as a URN; its last part is what the log says.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this call, and what to do.
    pub detail: String,
}

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is not of its form.
    Malformed,
    /// The certificate is no client's of this tap.
    Stranger,
    /// The client's role may not.
    Role,
    /// Nothing is there.
    NotFound,
    /// The path has no such method.
    Method,
    /// The body did not come in time.
    Slow,
    /// What the client has seen is not what is there.
    Stale,
    /// The body is too large.
    Large,
    /// The body is no JSON by its own word.
    MediaType,
    /// The rules refuse it.
    Refused,
    /// The client must say which state it has seen.
    Unconditional,
    /// Too many calls.
    Rate,
    /// The machine did not do it.
    Failed,
    /// The audit log cannot be written: what nobody can show afterwards is not answered.
    Unlogged,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Malformed,
        Self::Stranger,
        Self::Role,
        Self::NotFound,
        Self::Method,
        Self::Slow,
        Self::Stale,
        Self::Large,
        Self::MediaType,
        Self::Refused,
        Self::Unconditional,
        Self::Rate,
        Self::Failed,
        Self::Unlogged,
    ];

    /// Name as the log has it, title, HTTP status.
    #[must_use]
    pub fn parts(self) -> (&'static str, &'static str, u16) {
        match self {
            Self::Malformed => ("malformed", "the request is not of its form", 400),
            Self::Stranger => ("stranger", "the certificate is no client's of this tap", 403),
            Self::Role => ("role", "the client's role may not do this", 403),
            Self::NotFound => ("not-found", "nothing is there", 404),
            Self::Method => ("method", "the path has no such method", 405),
            Self::Slow => ("slow", "the request did not come in time", 408),
            Self::Stale => ("stale", "what the client has seen is not what is there", 412),
            Self::Large => ("large", "the body is too large", 413),
            Self::MediaType => ("media-type", "the body must be application/json", 415),
            Self::Refused => ("refused", "the rules refuse it", 422),
            Self::Unconditional => ("unconditional", "If-Match is needed", 428),
            Self::Rate => ("rate", "too many calls", 429),
            Self::Failed => ("failed", "the machine did not do it", 500),
            Self::Unlogged => ("unlogged", "the audit log cannot be written", 503),
        }
    }

    /// The problem with its detail.
    #[must_use]
    pub fn because(self, detail: impl Into<String>) -> Problem {
        let (name, title, status) = self.parts();
        Problem { kind: format!("urn:gwtap:problem:{name}"), title: title.to_owned(), status, detail: detail.into() }
    }
}

impl Problem {
    /// The kind's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.kind.rsplit(':').next().unwrap_or_default()
    }
}
