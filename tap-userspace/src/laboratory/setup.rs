//! What a laboratory world is made of: a selector set without activation, a country table, a measure's parameters.
//!
//! In: the set's bytes and an order or a basis. Out: compiled tables and the labels of the lines. The set is checked as
//! it is for a mirror host, against the order if there is one.

use super::replay::Labels;
use crate::load::{LoadError, MeasureParameters, Tables};
use crate::prefixes::country::CountryTable;
use crate::selectors::check::{self, CheckContext, Refusal};
use crate::selectors::{CheckedRule, SelectorError, SelectorSet};

/// The laboratory's seed of the flow hash. A mirror host's is secret and rotates; this one lets a replay be repeated.
pub const SAMPLING_SEED: u64 = 0;

/// A compiled laboratory world.
#[derive(Debug)]
pub struct Setup {
    /// Ids of the rules, by index.
    pub rule_ids: Vec<String>,
    /// The rules, by index.
    pub rules: Vec<CheckedRule>,
    /// The country table.
    pub country: CountryTable,
    /// The compiled generation.
    pub tables: Tables,
}

/// What of the measure a world needs beside its set.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Part of the flows that is sampled, in parts per million.
    pub ppm: u32,
    /// Seed of the flow hash. A mirror host's is secret; the laboratory's is stated, so that a replay can be repeated.
    pub seed: u64,
}

/// Why a world cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file is no selector set.
    #[error(transparent)]
    Form(#[from] SelectorError),
    /// The selector set breaks a rule; every reason stands on a line of its own.
    #[error("{}", .0.iter().map(Refusal::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Refusal>),
    /// The set does not compile.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Setup {
    /// Checks and compiles the selector set in `set_json`.
    ///
    /// # Errors
    /// When the set is refused, or does not compile.
    pub fn new(
        set_json: &[u8],
        context: &CheckContext,
        sample: Sample,
        country: CountryTable,
    ) -> Result<Self, SetupError> {
        let set = SelectorSet::from_json(set_json)?;
        let set = check::check(&set, context).map_err(SetupError::Refused)?;
        let parameters = MeasureParameters {
            directions: context.basis.directions(),
            conditions_min: context.conditions_min,
            sampling_ppm: sample.ppm,
            sampling_seed: sample.seed,
        };
        let tables = Tables::compile(&set, &parameters, &country)?;
        let rule_ids = set.rules.iter().map(|rule| rule.id.clone()).collect();
        Ok(Self { rule_ids, rules: set.rules, country, tables })
    }

    /// What lines are made with.
    #[must_use]
    pub fn labels(&self) -> Labels<'_> {
        Labels { rule_ids: &self.rule_ids, country: &self.country }
    }
}
