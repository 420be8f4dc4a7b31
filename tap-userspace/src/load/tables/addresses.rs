//! Address conditions of all rules: one list of classes, full-length addresses in hashed tables when they are many, the rest
//! in tries.

use super::exact::{ExactTable, Key4, Key6};
use super::{LoadError, NumberedRule};
use crate::limits::TABLE_BYTES_MAX;
use crate::load::sweep::{Classes, Place, Sweep};
use crate::load::trie::{TrieBuilder, TrieTable};
use crate::prefixes;
use ipnetwork::IpNetwork;
use tap_common::abi::rule::{ClassMasks, RuleMask};
use tap_common::abi::tables::{Exact4, Exact6, Node};
use tap_common::limits::EXACT_MIN;

const IPV4_LAST: u128 = 0xffff_ffff;

/// Both families' tables share one list of classes; class 0 is the same in both.
pub(super) struct Addresses {
    pub(super) trie4: TrieTable,
    pub(super) trie6: TrieTable,
    pub(super) exact4: ExactTable<Exact4>,
    pub(super) exact6: ExactTable<Exact6>,
    pub(super) masks: Vec<ClassMasks>,
}

impl Addresses {
    pub(super) fn of(rules: &[NumberedRule<'_>], all: RuleMask) -> Result<Self, LoadError> {
        let (four, six) = classes(rules, all);
        // The second family's classes follow the first's.
        let shift = u32::try_from(four.masks.len()).unwrap_or(u32::MAX) - 1;
        let six_ranges: Vec<_> = six.ranges.iter().map(|(first, last, class)| (*first, *last, class + shift)).collect();
        let (singles4, ranges4) = split(&four.ranges, u32::from(u16::MAX));
        let (singles6, ranges6) = split(&six_ranges, u32::MAX);
        let keys4 = singles4.iter().map(|(address, class)| (Key4(u32::try_from(*address).unwrap_or(0)), *class));
        let keys6 = singles6.iter().map(|(address, class)| (Key6::from(*address), *class));
        let (exact4, left4) = ExactTable::of(keys4);
        let (exact6, left6) = ExactTable::of(keys6);
        let left4 = left4.into_iter().map(|(Key4(address), class)| (u128::from(address), u128::from(address), class));
        let left6 = left6.into_iter().map(|(key, class)| (u128::from(key), u128::from(key), class));
        let mut trie4 = trie_of(32, ranges4.into_iter().chain(left4))?;
        let mut trie6 = trie_of(128, ranges6.into_iter().chain(left6))?;
        // After all ranges: a mark stays with the value that stands there, and makes no node.
        singles4.iter().for_each(|(address, _)| trie4.mark(32, *address));
        singles6.iter().for_each(|(address, _)| trie6.mark(128, *address));
        Ok(Self {
            trie4,
            trie6,
            exact4,
            exact6,
            masks: four.masks.iter().chain(six.masks.iter().skip(1)).copied().collect(),
        })
    }
}

fn classes(rules: &[NumberedRule<'_>], all: RuleMask) -> (Classes, Classes) {
    let (mut four, mut six) = (Sweep::new(all), Sweep::new(all));
    let mut condition = |bit: u8, place: Place, prefixes: &[IpNetwork]| {
        let (ranges4, ranges6) = prefixes::split(prefixes);
        four.condition(bit, place, ranges4.iter().map(|range| range.first..=range.last));
        six.condition(bit, place, ranges6.iter().map(|range| range.first..=range.last));
    };
    for NumberedRule { bit, rule, scope } in rules {
        if let Some(values) = &rule.source_address {
            condition(*bit, Place::Source, &values.prefixes);
        }
        if let Some(values) = &rule.address {
            condition(*bit, Place::Either, &values.prefixes);
        }
        // Arts 11 to 13: the party's prefixes bind the destination, whatever the rule says beside them.
        match (&rule.destination_address, scope) {
            (Some(values), Some(scope)) => {
                condition(*bit, Place::Destination, &prefixes::intersect(&values.prefixes, scope));
            }
            (Some(values), None) => condition(*bit, Place::Destination, &values.prefixes),
            (None, Some(scope)) => condition(*bit, Place::Destination, scope),
            (None, None) => {}
        }
    }
    (four.finish(IPV4_LAST), six.finish(u128::MAX))
}

type Range = (u128, u128, u32);

/// Full-length addresses, with classes a table's entry can hold, and the other ranges; few of them stay with the ranges.
fn split(ranges: &[Range], class_max: u32) -> (Vec<(u128, u32)>, Vec<Range>) {
    let is_single = |range: &&Range| range.0 == range.1 && range.2 <= class_max;
    if ranges.iter().filter(is_single).count() < EXACT_MIN {
        return (Vec::new(), ranges.to_vec());
    }
    let singles = ranges.iter().filter(is_single).map(|(address, _, class)| (*address, *class)).collect();
    (singles, ranges.iter().filter(|range| !is_single(range)).copied().collect())
}

/// A trie of disjoint ranges.
pub(super) fn trie_of(bits: u32, ranges: impl Iterator<Item = Range>) -> Result<TrieTable, LoadError> {
    let mut builder = TrieBuilder::new(bits, TABLE_BYTES_MAX / size_of::<Node>());
    for (first, last, value) in ranges {
        builder.insert(first, last, value).map_err(|_too_many| LoadError::Memory { bytes: TABLE_BYTES_MAX })?;
    }
    Ok(builder.finish())
}
