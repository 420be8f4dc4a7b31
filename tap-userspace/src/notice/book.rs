//! Which notices an occasion asks for. In: occasions, as often as they come. Out: what has no number yet. Pure.
//!
//! Once for each kind, measure and day with records, and once for each kind and end, however many taps and restarts say so.
//! Bound: one entry for each notice ever given.

use super::{Kind, Occasion};
use std::collections::BTreeMap;

/// What a notice is, apart from its number.
pub type Subject = (String, Occasion, Kind);

/// Everything that has a number.
#[derive(Clone, Debug, Default)]
pub struct Book {
    numbers: BTreeMap<Subject, u64>,
    last: u64,
}

impl Book {
    /// The highest number given; 0 before the first.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// What this occasion asks for and has no number yet, in the order of the numbers it gets.
    #[must_use]
    pub fn due(&self, measure: &str, occasion: &Occasion) -> Vec<Subject> {
        [Kind::Selection, Kind::DeIdentification]
            .into_iter()
            .map(|kind| (measure.to_owned(), occasion.clone(), kind))
            .filter(|subject| !self.numbers.contains_key(subject))
            .collect()
    }

    /// Notes that `subject` has the number after the last.
    ///
    /// # Errors
    /// It has a number already: the book would tell the Commission twice.
    pub fn number(&mut self, subject: Subject) -> Result<u64, String> {
        if let Some(number) = self.numbers.get(&subject) {
            return Err(format!("notice {number} says the same"));
        }
        self.last = self.last.saturating_add(1);
        self.numbers.insert(subject, self.last);
        Ok(self.last)
    }
}
