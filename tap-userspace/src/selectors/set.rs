//! A selector set as people write it: JSON, unsigned by itself; the digest of its bytes is what an activation names.

use super::field::{Field, Item};
use super::values::Written;
use crate::keys::sha256;
use crate::limits::SELECTOR_SET_BYTES_MAX;
use serde::{Deserialize, Serialize};

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
#[derive(Clone, Deserialize, Serialize)]
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
    /// Where an imported set comes from; under the set's digest, so that the approver signs over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// Where the rules of an imported set come from.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// What was read.
    pub sources: Vec<Source>,
    /// Entries that stand on a warning list and are in the set all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
}

/// One file that was imported.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name, without folders.
    pub name: String,
    /// Its format.
    pub format: String,
    /// Its digest.
    pub sha256: String,
    /// Entries it has.
    pub read: u64,
    /// Entries in the set that were in it first.
    pub loaded: u64,
    /// Entries that another one says already.
    pub merged: u64,
    /// Entries that are not in the set, because they cannot be.
    pub refused: u64,
    /// Entries that are not in the set, because a warning list has them.
    pub held: u64,
}

/// One person's word that an entry is wanted although a warning list has it.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// The address or prefix.
    pub entry: String,
    /// The list's name.
    pub list: String,
    /// Why it is wanted all the same.
    pub reason: String,
    /// Who says so.
    pub by: String,
}

/// A rule: the conjunction of its conditions.
#[derive(Clone, Deserialize, Serialize)]
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
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// What it is under Art. 22(2).
    pub item: Item,
    /// What it is about.
    pub field: Field,
    /// Alternatives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<String>>,
    /// Mask of TCP flags or payload bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Value of TCP flags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// IP lengths, both ends included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<[u32; 2]>,
    /// Offset of payload bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u16>,
    /// Payload bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

impl Condition {
    /// A condition with alternatives.
    #[must_use]
    pub fn any(item: Item, field: Field, any: Vec<String>) -> Self {
        Self { any: Some(any), ..Self::empty(item, field) }
    }

    /// A condition that says nothing yet.
    #[must_use]
    pub fn empty(item: Item, field: Field) -> Self {
        Self { item, field, any: None, mask: None, value: None, range: None, offset: None, bytes: None }
    }

    /// What it says, as the values' parser takes it.
    #[must_use]
    pub fn written(&self) -> Written<'_> {
        Written {
            any: self.any.as_deref(),
            mask: self.mask.as_deref(),
            value: self.value.as_deref(),
            range: self.range,
            offset: self.offset,
            bytes: self.bytes.as_deref(),
        }
    }
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
