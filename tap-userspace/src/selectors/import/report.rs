//! What became of every entry, for the person who imports: counts, reasons and places, never values.

use super::entry::{Fate, Place};
use super::{Format, Input};
use crate::limits::IMPORT_PLACES_SHOWN_MAX;
use crate::selectors::set::Source;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// Entries that share a reason.
#[derive(Clone, Debug, Default)]
pub struct Reason {
    /// How many.
    pub count: u64,
    /// Where the first ones stand.
    pub places: Vec<Place>,
}

impl Reason {
    fn add(&mut self, place: &Place) {
        self.count += 1;
        if self.places.len() < IMPORT_PLACES_SHOWN_MAX {
            self.places.push(place.clone());
        }
    }
}

/// What became of one file's entries.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Name of the file.
    pub name: String,
    /// Its format.
    pub format: Format,
    /// Its digest.
    pub sha256: [u8; 32],
    /// Entries in the set that were in it first.
    pub loaded: u64,
    /// Entries that others say already.
    pub merged: u64,
    /// Entries on a warning list, by its name.
    pub held: BTreeMap<String, Reason>,
    /// Entries that cannot be in the set, by the reason.
    pub refused: BTreeMap<String, Reason>,
    /// What is no entry, by kind.
    pub skipped: BTreeMap<&'static str, u64>,
    /// What a reader must know of the reading.
    pub notes: Vec<String>,
}

impl Tally {
    pub(super) fn new(input: &Input<'_>, sha256: [u8; 32]) -> Self {
        Self {
            name: input.name.to_owned(),
            format: input.format,
            sha256,
            loaded: 0,
            merged: 0,
            held: BTreeMap::new(),
            refused: BTreeMap::new(),
            skipped: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn refuse(&mut self, place: &Place, reason: String) {
        self.refused.entry(reason).or_default().add(place);
    }

    pub(super) fn count(&mut self, place: &Place, fate: Fate) {
        match fate {
            Fate::Loaded => self.loaded += 1,
            Fate::Merged => self.merged += 1,
            Fate::Held(list) => self.held.entry(list).or_default().add(place),
            Fate::Refused(reason) => self.refuse(place, reason),
        }
    }

    /// Entries that were refused.
    #[must_use]
    pub fn refused_count(&self) -> u64 {
        self.refused.values().map(|reason| reason.count).sum()
    }

    /// Entries that were held back.
    #[must_use]
    pub fn held_count(&self) -> u64 {
        self.held.values().map(|reason| reason.count).sum()
    }

    /// Entries that were read.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.loaded + self.merged + self.refused_count() + self.held_count()
    }

    pub(super) fn source(&self) -> Source {
        Source {
            name: self.name.clone(),
            format: self.format.name().to_owned(),
            sha256: hex::encode(self.sha256),
            read: self.read(),
            loaded: self.loaded,
            merged: self.merged,
            refused: self.refused_count(),
            held: self.held_count(),
        }
    }

    fn json(&self) -> Value {
        let reasons = |reasons: &BTreeMap<String, Reason>, key: &str| -> Vec<Value> {
            let one = |(text, reason): (&String, &Reason)| {
                let places: Vec<_> = reason.places.iter().map(ToString::to_string).collect();
                json!({key: text, "count": reason.count, "places": places})
            };
            reasons.iter().map(one).collect()
        };
        json!({
            "name": self.name, "format": self.format.name(), "sha256": hex::encode(self.sha256), "read": self.read(),
            "loaded": self.loaded, "merged": self.merged, "refused": self.refused_count(), "held": self.held_count(),
            "refusals": reasons(&self.refused, "reason"), "held_back": reasons(&self.held, "list"),
            "skipped": self.skipped, "notes": self.notes,
        })
    }
}

/// What an import made of its files.
#[derive(Clone, Debug)]
pub struct Report {
    /// Rules of the set.
    pub rules: usize,
    /// By file.
    pub sources: Vec<Tally>,
    /// Overrides that no entry needed.
    pub overrides_unused: usize,
}

impl Report {
    /// Whether an entry is not in the set.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.sources.iter().any(|source| source.refused_count() + source.held_count() > 0)
    }

    /// As one JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let sources: Vec<_> = self.sources.iter().map(Tally::json).collect();
        json!({
            "rules": self.rules, "partial": self.is_partial(), "sources": sources,
            "overrides_unused": self.overrides_unused,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for source in &self.sources {
            writeln!(
                f,
                "{} ({}): {} read: {} loaded, {} merged, {} held back, {} refused",
                source.name,
                source.format,
                source.read(),
                source.loaded,
                source.merged,
                source.held_count(),
                source.refused_count()
            )?;
            for (list, reason) in &source.held {
                show(f, "held back", &format!("on the warning list {list:?}"), reason)?;
            }
            for (text, reason) in &source.refused {
                show(f, "refused", text, reason)?;
            }
            for (what, count) in &source.skipped {
                writeln!(f, "  no entries: {count} {what}")?;
            }
            for note in &source.notes {
                writeln!(f, "  note: {note}")?;
            }
        }
        if self.overrides_unused > 0 {
            writeln!(f, "{} override(s) were for no entry of these files", self.overrides_unused)?;
        }
        Ok(())
    }
}

fn show(f: &mut fmt::Formatter<'_>, what: &str, text: &str, reason: &Reason) -> fmt::Result {
    let places: Vec<_> = reason.places.iter().take(5).map(ToString::to_string).collect();
    let more = if reason.count > 5 { ", …" } else { "" };
    writeln!(f, "  {what}: {} × {text}: {}{more}", reason.count, places.join(", "))
}
