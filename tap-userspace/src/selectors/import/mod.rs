//! Importing indicators: files of other people become a selector set as the tap reads it.
//!
//! In: bytes of STIX bundles, MISP events, CSV files and plain lists, and what the order allows. Out: a set, and a report
//! that accounts for every entry: loaded, merged into one that was there, held back by a warning list, or refused with the
//! reason. An entry is loaded whole or not at all. Bounds: the bytes of a file, and those of a set.
//!
//! Messages name an entry by its place (line, object), never by its values.

mod entry;
mod group;
mod misp;
pub mod pattern;
mod plain;
pub mod report;
mod stix;
mod table;
pub mod warning;

use super::check::{CheckContext, check};
use super::field::{Field, Item};
use super::set::{Condition, Content, Provenance, SelectorSet, Source};
use super::values::Values;
use crate::keys::sha256;
use crate::limits::{IMPORT_BYTES_MAX, SELECTOR_SET_BYTES_MAX};
use entry::{Entry, Fate, Reading};
use jiff::Timestamp;
use report::{Report, Tally};
use std::fmt;
use warning::Warnings;

pub use entry::Place;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// A STIX 2.1 (or 2.0) bundle.
    Stix,
    /// One or more MISP events, as the instance exports them.
    Misp,
    /// A table with a header row.
    Csv,
    /// An address or prefix on each line.
    List,
}

impl Format {
    /// All of them, for help texts.
    pub const ALL: [Self; 4] = [Self::Stix, Self::Misp, Self::Csv, Self::List];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stix => "stix",
            Self::Misp => "misp",
            Self::Csv => "csv",
            Self::List => "list",
        }
    }

    /// What a file of this name and beginning is: JSON is a STIX bundle if it says so early on, else MISP's.
    #[must_use]
    pub fn guess(name: &str, bytes: &[u8]) -> Self {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        if matches!(first, Some(b'{' | b'[')) {
            let text = String::from_utf8_lossy(bytes);
            let squeezed: String = text.chars().filter(|c| !c.is_whitespace()).take(1 << 20).collect();
            return if squeezed.contains("\"type\":\"bundle\"") { Self::Stix } else { Self::Misp };
        }
        if name.to_ascii_lowercase().ends_with(".csv") { Self::Csv } else { Self::List }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| "known formats are stix, misp, csv and list".to_owned())
    }
}

/// One file.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Its name, without folders.
    pub name: &'a str,
    /// What it is.
    pub format: Format,
    /// Its content.
    pub bytes: &'a [u8],
}

/// What the set says beside what was imported.
#[derive(Clone)]
pub struct Terms {
    /// Version of the set.
    pub version: u64,
    /// Target act.
    pub act: String,
    /// Why the rules are needed.
    pub reason: String,
    /// When they end if the source does not say an earlier moment.
    pub valid_until: Timestamp,
    /// What an address is about where the source does not say.
    pub address_field: Field,
    /// Conditions for each entry that says nothing about their field itself.
    pub and: Vec<Condition>,
    /// Indicators that end on the same day (in Japan) become one rule, which ends when that day begins.
    pub ends_by_day: bool,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read as what it is said to be.
    #[error("{name}: {reason}")]
    File {
        /// Name of the file.
        name: String,
        /// What is wrong, by line or key.
        reason: String,
    },
    /// What was read makes no set.
    #[error("{0}")]
    Set(String),
}

/// What an import made.
pub struct Imported {
    /// The set's bytes; nothing if no entry is left.
    pub set: Option<Vec<u8>>,
    /// What became of each entry.
    pub report: Report,
}

/// Imports files into one set. `progress` is told how many of the entries have been looked at, and how many there are.
///
/// # Errors
/// A file is not of its format, or what was read makes no set; single entries that cannot be loaded stand in the report.
pub fn import(
    inputs: &[Input<'_>],
    terms: &Terms,
    context: &CheckContext,
    warnings: &mut Warnings,
    now: Timestamp,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Imported, ImportError> {
    let order = context.order.as_ref().ok_or_else(|| ImportError::Set("an import needs an order".to_owned()))?;
    let mut entries = Vec::new();
    let mut tallies = Vec::with_capacity(inputs.len());
    for (source, input) in inputs.iter().enumerate() {
        let reading = read(input, terms, now)?;
        let mut tally = Tally::new(input, sha256(input.bytes));
        tally.skipped = reading.skipped;
        tally.notes = reading.notes;
        for (place, reason) in reading.refused {
            tally.refuse(&place, reason);
        }
        for entry in reading.entries {
            entries.push(Known { source, entry, fate: Fate::Loaded });
        }
        tallies.push(tally);
    }
    let total = entries.len();
    for (done, known) in entries.iter_mut().enumerate() {
        if done % 4096 == 0 {
            progress(done, total);
        }
        complete(&mut known.entry, terms);
        known.fate = fate(&known.entry, terms, warnings, now);
    }
    progress(total, total);
    let rules = group::rules(&mut entries, terms, context, now);
    if rules.len() > context.rules_max {
        return Err(ImportError::Set(format!(
            "{} rules are more than the {} a set may have; import fewer files, or put ends that differ by hours together \
             (--ends-by-day)",
            rules.len(),
            context.rules_max
        )));
    }
    for known in entries {
        if let Some(tally) = tallies.get_mut(known.source) {
            tally.count(&known.entry.place, known.fate);
        }
    }
    let sources = tallies.iter().map(Tally::source).collect::<Vec<Source>>();
    let overrides = warnings.used();
    let report = Report { rules: rules.len(), sources: tallies, overrides_unused: warnings.unused() };
    if rules.is_empty() {
        return Ok(Imported { set: None, report });
    }
    let content = Content {
        measure: order.measure.clone(),
        version: terms.version,
        standard: order.standard.clone(),
        rules,
        provenance: Some(Provenance { sources, overrides }),
    };
    Ok(Imported { set: Some(written(content, context)?), report })
}

/// An entry, the file it is of, and what becomes of it.
struct Known {
    source: usize,
    entry: Entry,
    fate: Fate,
}

fn read(input: &Input<'_>, terms: &Terms, now: Timestamp) -> Result<Reading, ImportError> {
    let wrong = |reason| ImportError::File { name: input.name.to_owned(), reason };
    if input.bytes.len() > IMPORT_BYTES_MAX {
        return Err(wrong(format!("more than {IMPORT_BYTES_MAX} bytes; split the file")));
    }
    match input.format {
        Format::Stix => stix::read(input.bytes, terms.address_field, now),
        Format::Misp => misp::read(input.bytes),
        Format::Csv => table::read(input.bytes),
        Format::List => plain::read(input.bytes, terms.address_field),
    }
    .map_err(wrong)
}

/// Adds what each entry gets that says nothing about it itself.
fn complete(entry: &mut Entry, terms: &Terms) {
    for rule in &mut entry.rules {
        for condition in &terms.and {
            if rule.iter().all(|own| own.field != condition.field) {
                rule.push(condition.clone());
            }
        }
    }
}

/// What an entry's own values and end say about it; whether they make a rule is asked later, for many at once.
fn fate(entry: &Entry, terms: &Terms, warnings: &mut Warnings, now: Timestamp) -> Fate {
    if entry.until.is_some_and(|until| until <= now) {
        return Fate::Refused("valid_until: is over".to_owned());
    }
    if terms.valid_until <= now {
        return Fate::Refused("valid_until: what the import says is over".to_owned());
    }
    let mut held = None;
    for condition in entry.rules.iter().flatten() {
        match Values::parse(condition.field, condition.written()) {
            Err(reason) => return Fate::Refused(format!("{}: {reason}", condition.field)),
            Ok(Values::Addresses { entries, .. }) => {
                held = entries.iter().find_map(|prefix| warnings.holds(*prefix)).or(held);
            }
            Ok(_) => {}
        }
    }
    held.map_or(Fate::Loaded, Fate::Held)
}

/// The set as a file, checked once more as a whole.
fn written(content: Content, context: &CheckContext) -> Result<Vec<u8>, ImportError> {
    let failed = |error: &dyn fmt::Display| ImportError::Set(format!("the imported set: {error}"));
    let bytes = serde_json::to_vec(&content).map_err(|error| failed(&error))?;
    if bytes.len() > SELECTOR_SET_BYTES_MAX {
        return Err(failed(&format!("{} bytes are more than the {SELECTOR_SET_BYTES_MAX} it may have", bytes.len())));
    }
    let set = SelectorSet { content, sha256: sha256(&bytes) };
    check(&set, context).map_err(|refusals| {
        failed(&refusals.iter().take(10).map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    Ok(bytes)
}

/// What an address condition of the importer is under the Act: only a facility's address makes a rule by itself.
fn address(field: Field, text: String) -> Condition {
    Condition::any(Item::FacilityAddress, field, vec![text])
}

#[cfg(test)]
mod tests;
