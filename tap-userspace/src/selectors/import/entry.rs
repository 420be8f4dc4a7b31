//! An entry of a source: one line, row, indicator or attribute, and the rules it asks for.

use crate::selectors::set::Condition;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt;

/// Bytes of an object's id in a message: ids of both formats have fewer, and what has more is nothing to print.
const ID_SHOWN_MAX: usize = 80;

/// Where an entry stands in its file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Line, from 1.
    Line(u64),
    /// Id of an object.
    Object(String),
}

impl Place {
    /// An object by its id, or by its number among the objects if it has none.
    pub(super) fn object(id: Option<&str>, number: usize) -> Self {
        let shown = |id: &str| id.len() <= ID_SHOWN_MAX && id.bytes().all(|byte| byte.is_ascii_graphic());
        match id.filter(|id| shown(id)) {
            Some(id) => Self::Object(id.to_owned()),
            None => Self::Object(format!("number {number}")),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Object(id) => write!(f, "object {id}"),
        }
    }
}

/// What a source asks for in one place.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) place: Place,
    /// Alternatives; each is a conjunction.
    pub(super) rules: Vec<Vec<Condition>>,
    /// When it ends, if the source says so.
    pub(super) until: Option<Timestamp>,
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// In the set.
    Loaded,
    /// Others say the same.
    Merged,
    /// A warning list has it: the list's name.
    Held(String),
    /// It cannot be in the set.
    Refused(String),
}

/// What was read from a file.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) entries: Vec<Entry>,
    pub(super) refused: Vec<(Place, String)>,
    /// What is no entry, by kind: comments, objects of other types.
    pub(super) skipped: BTreeMap<&'static str, u64>,
    /// What a reader of the report must know of the reading.
    pub(super) notes: Vec<String>,
}

impl Reading {
    pub(super) fn skip(&mut self, what: &'static str) {
        *self.skipped.entry(what).or_default() += 1;
    }
}
