//! Tables: the checked selector sets of all measures, compiled into the words the kernel looks at.
//!
//! In: the checked rules, the measures' parameters, the country table. Out: plain memory, laid out as the maps are, so that
//! the host's world and the kernel's hold the same bytes. Bounded by [`TABLE_BYTES_MAX`].

mod addresses;
mod exact;
mod masks;
mod signatures;

use super::LoadError;
use super::plain::bytes_of;
use super::sweep::flip;
use super::trie::TrieTable;
use crate::limits::TABLE_BYTES_MAX;
use crate::prefixes::country::CountryTable;
use crate::selectors::{CheckedRule, CheckedSet};
use addresses::Addresses;
use exact::ExactTable;
use ipnetwork::IpNetwork;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tap_common::abi::policy::{MeasurePolicy, Policy};
use tap_common::abi::rule::{ClassMasks, RuleMask};
use tap_common::abi::tables::{Exact4, Exact6, FixedTables};
use tap_common::limits::{MEASURES_MAX, RULES_MAX};
use tap_common::path::sample;
use tap_common::path::world::Dimension;

/// What the order says about a measure, as the program needs it.
#[derive(Clone, Copy)]
pub struct MeasureParameters {
    /// Bit set of the directions the measure selects, by number.
    pub directions: u32,
    /// Counted conditions a rule needs.
    pub conditions_min: u8,
    /// Part of the flows that is sampled at most, in parts per million.
    pub sampling_ppm: u32,
    /// Secret seed of the flow hash; the first measure's counts for all.
    pub sampling_seed: u64,
}

/// One measure of a generation; its slot is its place in the list.
#[derive(Clone, Copy)]
pub struct MeasureSet<'a> {
    /// Its rules.
    pub set: &'a CheckedSet,
    /// Its parameters.
    pub parameters: MeasureParameters,
}

/// A rule with its bit in the masks and what its measure adds to it.
pub(super) struct NumberedRule<'a> {
    pub(super) bit: u8,
    pub(super) rule: &'a CheckedRule,
    /// Agreements: the party's prefixes, which bind the destination.
    pub(super) scope: Option<&'a [IpNetwork]>,
}

/// Whose rule a bit of a mask is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleOwner {
    /// Slot of the measure.
    pub slot: u32,
    /// Index of the rule in its measure's set.
    pub index: usize,
}

/// One generation, ready to be loaded.
#[derive(Clone, PartialEq, Eq)]
pub struct Tables {
    /// Everything of a fixed size.
    pub fixed: Arc<FixedTables>,
    /// Measure slots in use.
    pub measures: u32,
    /// Samples at most, by slot.
    pub sampling_thresholds: [u64; MEASURES_MAX],
    /// Whose rule each bit is.
    owners: Vec<RuleOwner>,
    /// Dimensions in use, as bits.
    pub dimensions: u32,
    /// Words of the rule masks in use, 1 to 4.
    pub rule_words: u32,
    /// Payload signatures in use.
    pub signatures: u32,
    /// Trie of IPv4 addresses in conditions.
    pub selector4: TrieTable,
    /// Trie of IPv6 addresses in conditions.
    pub selector6: TrieTable,
    /// Trie of the IPv4 country table.
    pub country4: TrieTable,
    /// Trie of the IPv6 country table.
    pub country6: TrieTable,
    /// Full-length IPv4 addresses, when they are many.
    pub exact4: ExactTable<Exact4>,
    /// Full-length IPv6 addresses, when they are many.
    pub exact6: ExactTable<Exact6>,
    /// Masks of the address classes.
    pub address_masks: Vec<ClassMasks>,
    /// Masks of the port classes.
    pub port_masks: Vec<ClassMasks>,
    /// Rules satisfied by each length class.
    pub ip_length_mask: Vec<RuleMask>,
}

/// Selector contents leave no trace.
impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Tables {
    /// Compiles the set of a measure that is alone.
    ///
    /// # Errors
    /// As [`Tables::compile_measures`].
    pub fn compile(
        set: &CheckedSet,
        parameters: &MeasureParameters,
        country: &CountryTable,
    ) -> Result<Self, LoadError> {
        Self::compile_measures(&[MeasureSet { set, parameters: *parameters }], parameters.sampling_seed, country)
    }

    /// Compiles the sets of all measures.
    ///
    /// # Errors
    /// Too many measures, rules or signatures, or more memory than [`TABLE_BYTES_MAX`]; each says what to do.
    pub fn compile_measures(
        measures: &[MeasureSet<'_>],
        sampling_seed: u64,
        country: &CountryTable,
    ) -> Result<Self, LoadError> {
        if measures.is_empty() || measures.len() > MEASURES_MAX {
            return Err(LoadError::Measures { measures: measures.len() });
        }
        let rules_count = measures.iter().map(|measure| measure.set.rules.len()).sum();
        if rules_count > RULES_MAX {
            return Err(LoadError::TooManyRules { rules: rules_count });
        }
        let owners: Vec<RuleOwner> = (0..)
            .zip(measures)
            .flat_map(|(slot, measure)| (0..measure.set.rules.len()).map(move |index| RuleOwner { slot, index }))
            .collect();
        let rules: Vec<NumberedRule<'_>> = measures
            .iter()
            .flat_map(|measure| measure.set.rules.iter().map(|rule| (rule, measure.set.scope.as_deref())))
            .zip(0..=u8::MAX)
            .map(|((rule, scope), bit)| NumberedRule { bit, rule, scope })
            .collect();
        let all = mask_of(rules.iter().map(|rule| rule.bit));

        let mut fixed = empty();
        fixed.policy = policy(measures, &rules, &owners, sampling_seed);
        let addresses = Addresses::of(&rules, all)?;
        let ports = masks::ports(&rules, all);
        let lengths = masks::lengths(&rules, all);
        let signatures = signatures::signatures(&rules)?;
        masks::fill(&mut fixed, &rules, all, &ports, &lengths, &addresses.masks);
        fixed.signatures.iter_mut().zip(&signatures).for_each(|(place, signature)| *place = *signature);
        let country4 = country.ranges4.iter().map(|(a, b, class)| (u128::from(*a), u128::from(*b), *class as u32));
        let country6 = country.ranges6.iter().map(|(a, b, class)| (*a, *b, *class as u32));
        let (country4, country6) = (addresses::trie_of(32, country4)?, addresses::trie_of(128, country6)?);
        fixed.selector4_root = *addresses.trie4.root;
        fixed.selector6_root = *addresses.trie6.root;
        fixed.country4_root = *country4.root;
        fixed.country6_root = *country6.root;

        let mut sampling_thresholds = [0; MEASURES_MAX];
        for (threshold, measure) in sampling_thresholds.iter_mut().zip(measures) {
            *threshold = sample::threshold(measure.parameters.sampling_ppm);
        }
        let tables = Self {
            fixed: Arc::from(fixed),
            measures: u32::try_from(measures.len()).unwrap_or(0),
            sampling_thresholds,
            owners,
            dimensions: dimensions(&rules),
            rule_words: u32::try_from(rules.len().div_ceil(64).max(1)).unwrap_or(4),
            signatures: u32::try_from(signatures.len()).unwrap_or(0),
            selector4: addresses.trie4,
            selector6: addresses.trie6,
            country4,
            country6,
            exact4: addresses.exact4,
            exact6: addresses.exact6,
            address_masks: addresses.masks,
            port_masks: ports.masks,
            ip_length_mask: lengths.masks.iter().map(|masks| masks.source).collect(),
        };
        if tables.bytes() > TABLE_BYTES_MAX {
            return Err(LoadError::Memory { bytes: tables.bytes() });
        }
        Ok(tables)
    }

    /// Bytes the generation's maps take: the fixed tables (1.4 MB), 1,024 for each trie node below a root, 64 for each
    /// bucket of full-length addresses and 8 for each word of their prefilters, 96 for each address or port class, 32 for
    /// each length class.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let nodes =
            [&self.selector4, &self.selector6, &self.country4, &self.country6].map(|trie| size_of_val(&*trie.nodes));
        size_of::<FixedTables>()
            + nodes.iter().sum::<usize>()
            + self.exact4.bytes()
            + self.exact6.bytes()
            + size_of_val(&*self.address_masks)
            + size_of_val(&*self.port_masks)
            + size_of_val(&*self.ip_length_mask)
    }

    /// Whose rule bit `bit` of the masks is; `None` for a bit that is no rule's.
    #[must_use]
    pub fn rule_owner(&self, bit: usize) -> Option<RuleOwner> {
        self.owners.get(bit).copied()
    }

    /// The rules of `slot` in a mask, as indices into its measure's set, in order.
    pub fn rules_of(&self, slot: u32, mask: &RuleMask) -> impl Iterator<Item = usize> {
        self.owners.iter().enumerate().filter_map(move |(bit, owner)| {
            let set = mask.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 != 0);
            (owner.slot == slot && set).then_some(owner.index)
        })
    }

    /// SHA-256 over every word that is loaded, except the secret seed, which is in the digest as its own SHA-256.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"gwtap tables 2\n");
        let mut fixed = bytes_of(std::slice::from_ref(&*self.fixed)).to_vec();
        let seed = std::mem::offset_of!(FixedTables, policy) + std::mem::offset_of!(Policy, sampling_seed);
        if let Some(seed) = fixed.get_mut(seed..seed + 8) {
            hash.update(Sha256::digest(&*seed));
            seed.fill(0);
        }
        hash.update(&fixed);
        for number in [self.measures, self.dimensions, self.rule_words, self.signatures] {
            hash.update(number.to_le_bytes());
        }
        for trie in [&self.selector4, &self.selector6, &self.country4, &self.country6] {
            add(&mut hash, bytes_of(&trie.nodes));
        }
        add(&mut hash, bytes_of(&self.exact4.buckets));
        add(&mut hash, bytes_of(&self.exact4.prefilter));
        add(&mut hash, bytes_of(&self.exact6.buckets));
        add(&mut hash, bytes_of(&self.exact6.prefilter));
        add(&mut hash, bytes_of(&self.address_masks));
        add(&mut hash, bytes_of(&self.port_masks));
        add(&mut hash, bytes_of(&self.ip_length_mask));
        hash.finalize().into()
    }
}

/// A table with its length before it, so that no two lists of tables have the same digest.
fn add(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// Fixed tables of nothing.
fn empty() -> Box<FixedTables> {
    // SAFETY: they are numbers and arrays of numbers, of which all zero is a value. Made in place: it is too large for a
    // thread's stack.
    unsafe { Box::<FixedTables>::new_zeroed().assume_init() }
}

fn mask_of(bits: impl Iterator<Item = u8>) -> RuleMask {
    bits.fold([0; 4], |mut mask, bit| {
        flip(&mut mask, bit);
        mask
    })
}

fn policy(measures: &[MeasureSet<'_>], rules: &[NumberedRule<'_>], owners: &[RuleOwner], sampling_seed: u64) -> Policy {
    let mut policy = Policy { sampling_seed, ..Policy::default() };
    for ((slot, measure), place) in (0..).zip(measures).zip(&mut policy.measures) {
        let own = mask_of(rules.iter().zip(owners).filter(|(_, owner)| owner.slot == slot).map(|(rule, _)| rule.bit));
        *place = MeasurePolicy { rules: own, directions: measure.parameters.directions, reserved: 0 };
        // A basis that asks for none, or for more than there are kinds, selects nothing.
        let number = usize::from(measure.parameters.conditions_min).checked_sub(1);
        if let Some(asked) = number.and_then(|number| policy.asked.get_mut(number)) {
            asked.iter_mut().zip(own).for_each(|(asked, own)| *asked |= own);
        }
    }
    for numbered in rules {
        for kind in &numbered.rule.counted {
            if let Some(mask) = policy.counted.get_mut(*kind as usize) {
                flip(mask, numbered.bit);
            }
        }
    }
    policy
}

/// Which dimensions the rules use; a scope is a condition on the destination.
fn dimensions(rules: &[NumberedRule<'_>]) -> u32 {
    rules.iter().fold(0, |used, NumberedRule { rule, scope, .. }| {
        [
            (rule.source_address.is_some(), Dimension::AddressSource),
            (scope.is_some() || rule.destination_address.is_some(), Dimension::AddressDestination),
            (rule.address.is_some(), Dimension::AddressEither),
            (rule.source_port.is_some(), Dimension::PortSource),
            (rule.destination_port.is_some(), Dimension::PortDestination),
            (rule.port.is_some(), Dimension::PortEither),
            (rule.protocol.is_some(), Dimension::Protocol),
            (rule.tcp_flags.is_some(), Dimension::TcpFlags),
            (rule.ip_length.is_some(), Dimension::IpLength),
            (rule.fragment.is_some(), Dimension::Fragment),
            (rule.payload.is_some(), Dimension::Payload),
        ]
        .iter()
        .filter(|(uses, _)| *uses)
        .fold(used, |used, (_, dimension)| used | *dimension as u32)
    })
}
