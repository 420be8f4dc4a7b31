//! A selector set as people write it: JSON, unsigned by itself; the digest of its bytes is what an activation names.

use super::field::{Field, Item};
use crate::keys::sha256;
use crate::limits::SELECTOR_SET_BYTES_MAX;
use serde::Deserialize;

/// Why a file is no selector set. Values never stand in a message: selector contents leave no trace.
#[derive(Debug, thiserror::Error)]
pub enum SelectorError {
    /// Larger than a set can be.
    #[error("{0} bytes are more than the {SELECTOR_SET_BYTES_MAX} a selector set may have")]
    Size(usize),
    /// Not JSON of the set's form.
    #[error("line {line}, column {column}: {reason}")]
    Syntax {
        /// Line from 1.
        line: usize,
        /// Column from 1.
        column: usize,
        /// What is wrong: names of keys, never values.
        reason: String,
    },
}

/// A selector set, as it was read: nothing in it is checked yet but its form.
#[derive(Clone)]
pub struct SelectorSet {
    /// The content.
    pub content: Content,
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
}

/// Selector contents leave no trace.
impl std::fmt::Debug for SelectorSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SelectorSet")
            .field("measure", &self.content.measure)
            .field("version", &self.content.version)
            .field("sha256", &hex::encode(self.sha256))
            .field("rules", &self.content.rules.len())
            .finish_non_exhaustive()
    }
}

/// The set's top level.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Id of the measure.
    pub measure: String,
    /// Version; people's own count.
    pub version: u64,
    /// The selection standard of the order.
    pub standard: String,
    /// Rules.
    pub rules: Vec<Rule>,
}

/// A rule: the conjunction of its conditions.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Id, unique in the set.
    pub id: String,
    /// Target act of the measure.
    pub act: String,
    /// Why the rule is needed.
    pub reason: String,
    /// First moment the rule is no longer wanted.
    pub valid_until: String,
    /// Conditions, all of which must hold.
    pub conditions: Vec<Condition>,
}

/// A condition: alternatives of one field.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// What it is under Art. 22(2).
    pub item: Item,
    /// What it is about.
    pub field: Field,
    /// Alternatives.
    pub any: Option<Vec<String>>,
    /// Mask of TCP flags or payload bytes.
    pub mask: Option<String>,
    /// Value of TCP flags.
    pub value: Option<String>,
    /// IP lengths, both ends included.
    pub range: Option<[u32; 2]>,
    /// Offset of payload bytes.
    pub offset: Option<u16>,
    /// Payload bytes.
    pub bytes: Option<String>,
}

impl SelectorSet {
    /// Reads a set.
    ///
    /// # Errors
    /// When it is too large or not JSON of the set's form; unknown keys refuse it.
    pub fn from_json(bytes: &[u8]) -> Result<Self, SelectorError> {
        if bytes.len() > SELECTOR_SET_BYTES_MAX {
            return Err(SelectorError::Size(bytes.len()));
        }
        let content = serde_json::from_slice(bytes).map_err(|error| SelectorError::Syntax {
            line: error.line(),
            column: error.column(),
            reason: reason(&error),
        })?;
        Ok(Self { content, sha256: sha256(bytes) })
    }
}

/// The parser's message without the place (it stands beside it), and without values: only messages about keys are
/// passed on; a wrongly typed or unknown value is named by its place alone.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let is_about_keys =
        ["unknown field", "missing field", "duplicate field"].iter().any(|start| text.starts_with(start));
    match error.classify() {
        _ if is_about_keys => text.to_owned(),
        serde_json::error::Category::Data => match text.rsplit_once("expected ") {
            Some((_, expected)) => format!("the value is not what belongs here: expected {expected}"),
            None => "the value is not what belongs here".to_owned(),
        },
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof | serde_json::error::Category::Io => {
            text.to_owned()
        }
    }
}
