//! The control API: what people elsewhere ask of a running tap, over HTTP/2 with mutual TLS.
//!
//! In: calls of clients that the configuration names, each with one role. Out: JSON, and an entry in the audit log for every call,
//! also for those that are denied; what is turned away before anybody reads it (handshakes, calls above a client's rate) is summed.
//! It carries wishes: that a set may decide is shown by two signatures, which the loader verifies by itself; whoever broke this
//! server could activate nothing. Bounds: connections, handshakes, calls of a client, bytes and time of each.
//!
//! [`rights`] says who may do what, [`server`] knows who calls, [`answer`] takes one call from its rights to its response, [`wire`] is
//! what crosses.

mod answer;
pub mod client;
mod limit;
pub mod rights;
pub mod server;
pub mod wire;

use crate::audit::Leaf;
use wire::{Noted, Problem, Proposing, Reasoned};

/// The document that describes it (OpenAPI 3.1).
pub const DOCUMENT: &str = include_str!("openapi.json");

/// A call that may be made, as the agent gets it. `etag` is what `If-Match` said.
pub enum Asked {
    /// How the agent is.
    Status,
    /// Which sets a measure has.
    List {
        /// Measure.
        measure: String,
    },
    /// A set's text.
    Contents {
        /// Measure.
        measure: String,
        /// Digest of the set.
        set: String,
    },
    /// How many indicators two sets do not share.
    Diff {
        /// Measure.
        measure: String,
        /// Digest of the first.
        set: String,
        /// Digest of the second.
        other: String,
    },
    /// A set and its author's signature.
    Propose {
        /// Measure.
        measure: String,
        /// What the caller has seen.
        etag: String,
        /// Set and note.
        proposing: Proposing,
    },
    /// The proposal is taken back.
    Discard {
        /// Measure.
        measure: String,
        /// What the caller has seen.
        etag: String,
    },
    /// The proposal with the second person's signature.
    Approve {
        /// Measure.
        measure: String,
        /// What the caller has seen.
        etag: String,
        /// The note with both.
        noted: Noted,
    },
    /// The approved proposal is to decide.
    Activate {
        /// Measure.
        measure: String,
        /// What the caller has seen.
        etag: String,
    },
    /// A kept set is proposed again.
    RollBack {
        /// Measure.
        measure: String,
        /// What the caller has seen.
        etag: String,
        /// The author's note.
        noted: Noted,
    },
    /// Nothing is looked for any more.
    Withdraw {
        /// Measure.
        measure: String,
        /// One person's note.
        noted: Noted,
    },
    /// A directive of the Commission.
    Directive(Noted),
    /// The carrier's kill switch.
    Stop(Reasoned),
    /// It is taken back.
    Resume(Reasoned),
}

/// What the agent answers.
pub struct Answer {
    /// Names the state that the answer shows.
    pub etag: Option<String>,
    /// JSON.
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer without a state of its own.
    ///
    /// # Errors
    /// The value is not of JSON.
    pub fn of(value: &impl serde::Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(value).map_err(|error| wire::Kind::Failed.because(error.to_string()))?;
        Ok(Self { etag: None, body })
    }
}

/// The agent, as the server sees it. Its functions are called on threads where waiting is allowed.
pub trait Agent: Send + Sync + 'static {
    /// Does what is asked.
    ///
    /// # Errors
    /// Why not.
    fn answer(&self, asked: Asked) -> Result<Answer, Problem>;

    /// Writes an entry into the audit log.
    ///
    /// # Errors
    /// It is not on disk.
    fn tell(&self, leaf: &Leaf) -> Result<(), String>;
}
