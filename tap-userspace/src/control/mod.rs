//! The operator's socket: what is asked, what is answered.
//!
//! In: one JSON request a line on a Unix socket, mode 0600. Out: one JSON response a line. What crosses it are numbers,
//! digests and names of measures; never an address, a rule or a record. Bounds: request bytes, reading time, connections.

pub mod api;
pub mod client;
pub mod server;
pub mod status;

use serde::{Deserialize, Serialize};
use status::Status;

/// What an operator asks.
#[derive(Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How the agent is.
    Status,
    /// Change to a newly activated selector set while traffic flows.
    SelectorsLoad {
        /// Which measure's; the only one need not be named.
        #[serde(default)]
        measure: Option<String>,
        /// The set's text, byte for byte: its SHA-256 is what was activated.
        set: String,
        /// The activation note.
        activation: String,
    },
    /// Look for nothing any more, by one person's signed note; it names its measure.
    SelectorsWithdraw {
        /// The note.
        note: String,
    },
    /// A directive of the Commission, as a signed note; it names its measure.
    Directive {
        /// The note.
        note: String,
    },
    /// An order that extends the one in force, as a signed note; it names its measure.
    OrderExtend {
        /// The note.
        note: String,
    },
    /// The carrier's kill switch.
    Stop {
        /// Which measure; all if none is named.
        #[serde(default)]
        measure: Option<String>,
        /// Why.
        reason: String,
    },
    /// The carrier takes its kill switch back.
    Resume {
        /// Which measure; all if none is named.
        #[serde(default)]
        measure: Option<String>,
        /// Why.
        reason: String,
    },
}

/// Selector contents leave no trace: the debug form shows the verb only.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Status => "Status",
            Self::SelectorsLoad { .. } => "SelectorsLoad",
            Self::SelectorsWithdraw { .. } => "SelectorsWithdraw",
            Self::Directive { .. } => "Directive",
            Self::OrderExtend { .. } => "OrderExtend",
            Self::Stop { .. } => "Stop",
            Self::Resume { .. } => "Resume",
        })
    }
}

/// What the agent answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::SelectorsLoad`]: the set decides from now on.
    Loaded(Loaded),
    /// To a withdrawal, a directive, an extension, the kill switch: what is in force now, a line for each measure.
    Done {
        /// In words.
        done: Vec<String>,
    },
    /// The rules refuse what was asked; nothing was changed.
    Refused {
        /// Why.
        reason: String,
    },
    /// It could not be done; nothing was changed unless the reason says so.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A selector set that took over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// The measure; those beside it keep their sets.
    pub measure: String,
    /// Generation: the activation's number.
    pub generation: u64,
    /// Version as the set names it.
    pub set_version: u64,
    /// SHA-256 of the set.
    pub set_sha256: String,
    /// Number of its rules.
    pub rules: usize,
}
