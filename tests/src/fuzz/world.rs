//! A world to be fuzzed: up to eight measures over generated addresses, once as tables and once as plain text.

use crate::generate::{DOMESTIC, FOREIGN};
use crate::oracle::{RuleFile, Rules};
use anyhow::{Context as _, anyhow};
use serde_json::Value;
use std::collections::BTreeMap;
use tap_common::limits::PPM;
use tap_common::path::direction::AddressClass;
use tap_userspace::load::{MeasureParameters, MeasureSet, Tables};
use tap_userspace::prefixes::country::CountryTable;
use tap_userspace::selectors::check::{self, CheckContext};
use tap_userspace::selectors::{CheckedSet, PayloadValues, SelectorSet};

/// Seed of the flow hash.
pub const SAMPLING_SEED: u64 = 0x5eed;

/// One measure as it is asked for.
#[derive(Clone)]
pub struct Measure {
    /// The measure's basis; also the only direction that is selected.
    pub basis: &'static str,
    /// Part of the flows in the sample.
    pub sampling_ppm: u32,
    /// The selector set's rules.
    pub rules: Vec<Value>,
    /// Payload conditions, by the rule's place in `rules`.
    pub payload: BTreeMap<usize, PayloadValues>,
}

/// One measure as the oracle knows it.
pub struct Known {
    /// Who is domestic, and in which direction is selected.
    pub file: RuleFile,
    /// The rules.
    pub rules: Rules,
    /// Payload conditions by the rule's id.
    pub payload: BTreeMap<String, PayloadValues>,
    /// Part of the flows in the sample.
    pub sampling_ppm: u32,
}

/// Both sides of a world.
pub struct World {
    /// What the oracle knows, by slot.
    pub measures: Vec<Known>,
    /// What the product compiled.
    pub tables: Tables,
    /// Rules' ids by slot and index.
    ids: Vec<Vec<String>>,
}

impl World {
    /// Checks and compiles `measures`, slot by slot.
    ///
    /// # Errors
    /// When a set is refused or does not compile.
    pub fn new(measures: &[Measure]) -> anyhow::Result<Self> {
        let files: Vec<RuleFile> = measures.iter().map(rule_file).collect::<Result<_, _>>()?;
        let Some(first) = files.first() else { anyhow::bail!("no measure") };
        let country = CountryTable::from_flags(&first.domestic, &first.foreign, AddressClass::Unlisted)?;
        let mut sets = Vec::new();
        for (measure, file) in measures.iter().zip(&files) {
            sets.push(checked(measure, file)?);
        }
        let sets_of: Vec<MeasureSet<'_>> = sets
            .iter()
            .zip(measures)
            .map(|((set, context), measure)| MeasureSet {
                set,
                parameters: MeasureParameters {
                    directions: context.basis.directions(),
                    conditions_min: context.conditions_min,
                    sampling_ppm: measure.sampling_ppm,
                    sampling_seed: SAMPLING_SEED,
                },
            })
            .collect();
        let tables = Tables::compile_measures(&sets_of, SAMPLING_SEED, &country)?;
        let ids: Vec<Vec<String>> =
            sets.iter().map(|(set, _)| set.rules.iter().map(|rule| rule.id.clone()).collect()).collect();
        let mut known = Vec::new();
        for ((measure, file), ids) in measures.iter().zip(files).zip(&ids) {
            let payload = |(place, values): (&usize, &PayloadValues)| Some((ids.get(*place)?.clone(), values.clone()));
            known.push(Known {
                rules: file.evaluated()?,
                file,
                payload: measure.payload.iter().filter_map(payload).collect(),
                sampling_ppm: measure.sampling_ppm,
            });
        }
        Ok(Self { measures: known, tables, ids })
    }

    /// Slot and id of the rule that bit `bit` of a mask stands for.
    #[must_use]
    pub fn rule(&self, bit: usize) -> Option<(usize, String)> {
        let owner = self.tables.rule_owner(bit)?;
        let slot = owner.slot as usize;
        Some((slot, self.ids.get(slot)?.get(owner.index)?.clone()))
    }

    /// Whether a payload condition is used.
    #[must_use]
    pub fn looks_at_payload(&self) -> bool {
        self.measures.iter().any(|measure| !measure.payload.is_empty())
    }
}

fn rule_file(measure: &Measure) -> anyhow::Result<RuleFile> {
    let prefixes = |texts: [&str; 3]| texts.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>();
    Ok(RuleFile {
        description: "fuzzed".to_owned(),
        basis: measure.basis.to_owned(),
        domestic: prefixes(DOMESTIC)?,
        foreign: prefixes(FOREIGN)?,
        rest: "unlisted".to_owned(),
        selects: BTreeMap::new(),
        set: serde_json::json!({
            "measure": "m-laboratory", "version": 1, "standard": "s-laboratory", "rules": measure.rules,
        }),
    })
}

fn checked(measure: &Measure, file: &RuleFile) -> anyhow::Result<(CheckedSet, CheckContext)> {
    anyhow::ensure!(u64::from(measure.sampling_ppm) <= PPM, "more than a whole is sampled");
    let basis = measure.basis.parse().map_err(|error| anyhow!("basis: {error}"))?;
    let context = CheckContext::laboratory(basis);
    let set = SelectorSet::from_json(&serde_json::to_vec(&file.set)?)?;
    let mut set = check::check(&set, &context)
        .map_err(|refusals| anyhow!("{}", refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
    for (place, values) in &measure.payload {
        set.rules.get_mut(*place).context("no such rule")?.payload = Some(values.clone());
    }
    Ok((set, context))
}
