//! Tables: a checked selector set, compiled into the words the kernel looks at.
//!
//! In: the checked rules, the measure's parameters, the country table. Out: plain memory, laid out as the maps are, so
//! that the host's world and the kernel's hold the same bytes. Bounded by [`TABLE_BYTES_MAX`].

use super::LoadError;
use super::sweep::{Classes, Place, Sweep, flip, without};
use super::trie::{Node, TrieBuilder};
use crate::limits::TABLE_BYTES_MAX;
use crate::prefixes::{self, country::CountryTable};
use crate::selectors::{CheckedRule, CheckedSet};
use ipnetwork::IpNetwork;
use sha2::{Digest, Sha256};
use std::ops::RangeInclusive;
use tap_common::abi::policy::MeasurePolicy;
use tap_common::abi::rule::{ClassMasks, RuleMask};
use tap_common::limits::{IP_LENGTHS, PPM, RULES_MAX};
use tap_common::path::select::TCP_FLAGS_ABSENT;
use tap_common::path::world::Dimension;

const IPV4_LAST: u128 = 0xffff_ffff;

/// What the order says about the measure, as the program needs it.
#[derive(Clone, Copy)]
pub struct MeasureParameters {
    /// Bit set of the directions the measure selects, by number.
    pub directions: u32,
    /// Counted conditions a rule needs.
    pub conditions_min: u8,
    /// Part of the flows that is sampled, in parts per million.
    pub sampling_ppm: u32,
    /// Secret seed of the flow hash.
    pub sampling_seed: u64,
}

/// One generation, ready to be loaded.
#[derive(Clone, PartialEq, Eq)]
pub struct Tables {
    /// Policy of slot 0.
    pub policy: MeasurePolicy,
    /// Dimensions in use, as bits.
    pub dimensions: u32,
    /// Words of the rule masks in use, 1 to 4.
    pub rule_words: u32,
    /// Trie of IPv4 addresses in conditions.
    pub selector4: Vec<Node>,
    /// Trie of IPv6 addresses in conditions.
    pub selector6: Vec<Node>,
    /// Trie of the IPv4 country table.
    pub country4: Vec<Node>,
    /// Trie of the IPv6 country table.
    pub country6: Vec<Node>,
    /// Masks of the address classes.
    pub address_masks: Vec<ClassMasks>,
    /// Class of each port.
    pub port_class: Vec<u16>,
    /// Masks of the port classes.
    pub port_masks: Vec<ClassMasks>,
    /// Rules satisfied by each protocol number.
    pub protocol_mask: Vec<RuleMask>,
    /// Rules satisfied by each value of the TCP flags, and by their absence.
    pub tcp_flags_mask: Vec<RuleMask>,
    /// Class of each IP length.
    pub ip_length_class: Vec<u16>,
    /// Rules satisfied by each length class.
    pub ip_length_mask: Vec<RuleMask>,
    /// Rules satisfied by each fragment state.
    pub fragment_mask: Vec<RuleMask>,
}

/// Selector contents leave no trace.
impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Tables {
    /// Compiles a set.
    ///
    /// # Errors
    /// Too many rules, or more memory than [`TABLE_BYTES_MAX`]; each says what to do.
    pub fn compile(
        set: &CheckedSet,
        parameters: &MeasureParameters,
        country: &CountryTable,
    ) -> Result<Self, LoadError> {
        if set.rules.len() > RULES_MAX {
            return Err(LoadError::TooManyRules { rules: set.rules.len() });
        }
        let rules: Vec<(u8, &CheckedRule)> = (0..=u8::MAX).zip(&set.rules).collect();
        let all = rules.iter().fold([0; 4], |mut mask, (rule, _)| {
            flip(&mut mask, *rule);
            mask
        });
        let addresses = Addresses::of(&rules, all, set.scope.as_deref())?;
        let ports = ports(&rules, all);
        let lengths = lengths(&rules, all);
        let mut tables = Self {
            policy: policy(&rules, all, parameters),
            dimensions: 0,
            rule_words: u32::try_from(set.rules.len().div_ceil(64).max(1)).unwrap_or(4),
            country4: trie_of(32, country.ranges4.iter().map(|(a, b, c)| (u128::from(*a), u128::from(*b), *c as u32)))?,
            country6: trie_of(128, country.ranges6.iter().map(|(a, b, c)| (*a, *b, *c as u32)))?,
            selector4: addresses.trie4,
            selector6: addresses.trie6,
            address_masks: addresses.masks,
            port_class: spread(&ports, usize::from(u16::MAX) + 1),
            port_masks: ports.masks,
            protocol_mask: protocols(&rules, all),
            tcp_flags_mask: tcp_flags(&rules, all),
            ip_length_class: spread(&lengths, IP_LENGTHS),
            ip_length_mask: lengths.masks.iter().map(|masks| masks.source).collect(),
            fragment_mask: fragments(&rules, all),
        };
        tables.dimensions = dimensions(&rules, set.scope.is_some());
        if tables.bytes() > TABLE_BYTES_MAX {
            return Err(LoadError::Memory { bytes: tables.bytes() });
        }
        Ok(tables)
    }

    /// Bytes the generation's maps take: 1,024 for each trie node, 96 for each class, and the fixed tables.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let nodes = self.selector4.len() + self.selector6.len() + self.country4.len() + self.country6.len();
        let masks = (self.address_masks.len() + self.port_masks.len()) * size_of::<ClassMasks>();
        let rules =
            self.protocol_mask.len() + self.tcp_flags_mask.len() + self.ip_length_mask.len() + self.fragment_mask.len();
        nodes * size_of::<Node>()
            + masks
            + rules * size_of::<RuleMask>()
            + (self.port_class.len() + self.ip_length_class.len()) * size_of::<u16>()
    }

    /// SHA-256 over every word that is loaded, except the secret seed, which is in the digest as its own SHA-256.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"gwtap tables 1\n");
        hash.update(Sha256::digest(self.policy.sampling_seed.to_le_bytes()));
        hash.update(self.policy.sampling_threshold.to_le_bytes());
        hash.update(self.policy.conditions_min.to_le_bytes());
        hash.update(self.policy.directions.to_le_bytes());
        for mask in std::iter::once(&self.policy.rules).chain(&self.policy.counted) {
            add_words(&mut hash, mask);
        }
        hash.update(self.dimensions.to_le_bytes());
        hash.update(self.rule_words.to_le_bytes());
        for trie in [&self.selector4, &self.selector6, &self.country4, &self.country6] {
            hash.update((trie.len() as u64).to_le_bytes());
            trie.iter().flatten().for_each(|word| hash.update(word.to_le_bytes()));
        }
        for classes in [&self.address_masks, &self.port_masks] {
            hash.update((classes.len() as u64).to_le_bytes());
            for masks in classes {
                [&masks.source, &masks.destination, &masks.either]
                    .into_iter()
                    .for_each(|mask| add_words(&mut hash, mask));
            }
        }
        for classes in [&self.port_class, &self.ip_length_class] {
            classes.iter().for_each(|class| hash.update(class.to_le_bytes()));
        }
        for masks in [&self.protocol_mask, &self.tcp_flags_mask, &self.ip_length_mask, &self.fragment_mask] {
            hash.update((masks.len() as u64).to_le_bytes());
            masks.iter().for_each(|mask| add_words(&mut hash, mask));
        }
        hash.finalize().into()
    }
}

fn add_words(hash: &mut Sha256, mask: &RuleMask) {
    mask.iter().for_each(|word| hash.update(word.to_le_bytes()));
}

fn policy(rules: &[(u8, &CheckedRule)], all: RuleMask, parameters: &MeasureParameters) -> MeasurePolicy {
    let mut policy = MeasurePolicy {
        rules: all,
        sampling_threshold: (u64::from(parameters.sampling_ppm) << 32) / PPM,
        sampling_seed: parameters.sampling_seed,
        conditions_min: u32::from(parameters.conditions_min),
        directions: parameters.directions,
        ..MeasurePolicy::default()
    };
    for (number, rule) in rules {
        for kind in &rule.counted {
            if let Some(mask) = policy.counted.get_mut(*kind as usize) {
                flip(mask, *number);
            }
        }
    }
    policy
}

/// Which dimensions the rules use; a scope is an address condition of its own.
fn dimensions(rules: &[(u8, &CheckedRule)], scoped: bool) -> u32 {
    rules.iter().fold(0, |used, (_, rule)| {
        let address =
            scoped || rule.source_address.is_some() || rule.destination_address.is_some() || rule.address.is_some();
        let port = rule.source_port.is_some() || rule.destination_port.is_some() || rule.port.is_some();
        [
            (address, Dimension::Address),
            (port, Dimension::Port),
            (rule.protocol.is_some(), Dimension::Protocol),
            (rule.tcp_flags.is_some(), Dimension::TcpFlags),
            (rule.ip_length.is_some(), Dimension::IpLength),
            (rule.fragment.is_some(), Dimension::Fragment),
        ]
        .iter()
        .filter(|(uses, _)| *uses)
        .fold(used, |used, (_, dimension)| used | *dimension as u32)
    })
}

/// Both families' tries share one list of classes; class 0 is the same in both.
struct Addresses {
    trie4: Vec<Node>,
    trie6: Vec<Node>,
    masks: Vec<ClassMasks>,
}

impl Addresses {
    fn of(rules: &[(u8, &CheckedRule)], all: RuleMask, scope: Option<&[IpNetwork]>) -> Result<Self, LoadError> {
        let (mut four, mut six) = (Sweep::new(all), Sweep::new(all));
        let mut condition = |rule: u8, place: Place, prefixes: &[IpNetwork]| {
            let (ranges4, ranges6) = prefixes::split(prefixes);
            four.condition(rule, place, ranges4.iter().map(|range| range.first..=range.last));
            six.condition(rule, place, ranges6.iter().map(|range| range.first..=range.last));
        };
        for (number, rule) in rules {
            if let Some(values) = &rule.source_address {
                condition(*number, Place::Source, &values.prefixes);
            }
            if let Some(values) = &rule.address {
                condition(*number, Place::Either, &values.prefixes);
            }
            // Arts 11 to 13: the party's prefixes bind the destination, whatever the rule says beside them.
            match (&rule.destination_address, scope) {
                (Some(values), Some(scope)) => {
                    condition(*number, Place::Destination, &prefixes::intersect(&values.prefixes, scope));
                }
                (Some(values), None) => condition(*number, Place::Destination, &values.prefixes),
                (None, Some(scope)) => condition(*number, Place::Destination, scope),
                (None, None) => {}
            }
        }
        let (four, six) = (four.finish(IPV4_LAST), six.finish(u128::MAX));
        // The second family's classes follow the first's.
        let shift = u32::try_from(four.masks.len()).unwrap_or(u32::MAX) - 1;
        let six_ranges = six.ranges.iter().map(|(first, last, class)| (*first, *last, class + shift));
        Ok(Self {
            trie4: trie_of(32, four.ranges.iter().copied())?,
            trie6: trie_of(128, six_ranges)?,
            masks: four.masks.iter().chain(six.masks.iter().skip(1)).copied().collect(),
        })
    }
}

/// A trie of disjoint ranges.
fn trie_of(bits: u32, ranges: impl Iterator<Item = (u128, u128, u32)>) -> Result<Vec<Node>, LoadError> {
    let mut builder = TrieBuilder::new(bits, TABLE_BYTES_MAX / size_of::<Node>());
    for (first, last, value) in ranges {
        builder.insert(first, last, value).map_err(|_too_many| LoadError::Memory { bytes: TABLE_BYTES_MAX })?;
    }
    Ok(builder.finish())
}

fn ports(rules: &[(u8, &CheckedRule)], all: RuleMask) -> Classes {
    let mut sweep = Sweep::new(all);
    let wide = |range: &RangeInclusive<u16>| u128::from(*range.start())..=u128::from(*range.end());
    for (number, rule) in rules {
        let places = [
            (Place::Source, &rule.source_port),
            (Place::Destination, &rule.destination_port),
            (Place::Either, &rule.port),
        ];
        for (place, ranges) in places {
            if let Some(ranges) = ranges {
                sweep.condition(*number, place, ranges.iter().map(wide));
            }
        }
    }
    sweep.finish(u128::from(u16::MAX))
}

fn lengths(rules: &[(u8, &CheckedRule)], all: RuleMask) -> Classes {
    let mut sweep = Sweep::new(all);
    for (number, rule) in rules {
        if let Some(range) = &rule.ip_length {
            sweep.condition(*number, Place::Source, [u128::from(*range.start())..=u128::from(*range.end())]);
        }
    }
    sweep.finish(IP_LENGTHS as u128 - 1)
}

/// The class of each value from 0 to `values - 1`.
fn spread(classes: &Classes, values: usize) -> Vec<u16> {
    let mut spread = vec![0; values];
    for (first, last, class) in &classes.ranges {
        let (first, last) = (usize::try_from(*first), usize::try_from(*last));
        if let (Ok(first), Ok(last), Ok(class)) = (first, last, u16::try_from(*class)) {
            spread.iter_mut().take(last.saturating_add(1)).skip(first).for_each(|value| *value = class);
        }
    }
    spread
}

fn protocols(rules: &[(u8, &CheckedRule)], all: RuleMask) -> Vec<RuleMask> {
    let named: Vec<_> = rules.iter().filter_map(|(number, rule)| Some((*number, rule.protocol.as_ref()?))).collect();
    masks(256, all, &named, |protocols, index| protocols.iter().any(|protocol| usize::from(*protocol) == index))
}

fn tcp_flags(rules: &[(u8, &CheckedRule)], all: RuleMask) -> Vec<RuleMask> {
    let named: Vec<_> = rules.iter().filter_map(|(number, rule)| Some((*number, rule.tcp_flags.as_ref()?))).collect();
    masks(TCP_FLAGS_ABSENT as usize + 1, all, &named, |flags, index| {
        u8::try_from(index).is_ok_and(|value| value & flags.mask == flags.value)
    })
}

fn fragments(rules: &[(u8, &CheckedRule)], all: RuleMask) -> Vec<RuleMask> {
    let named: Vec<_> = rules.iter().filter_map(|(number, rule)| Some((*number, rule.fragment.as_ref()?))).collect();
    masks(3, all, &named, |states, index| states.iter().any(|state| *state as usize == index))
}

/// For each value: the rules without a condition here, and those whose condition the value satisfies.
fn masks<T>(values: usize, all: RuleMask, named: &[(u8, &T)], satisfies: impl Fn(&T, usize) -> bool) -> Vec<RuleMask> {
    let mut named_rules = [0; 4];
    named.iter().for_each(|(rule, _)| flip(&mut named_rules, *rule));
    let free = without(&all, &named_rules);
    (0..values)
        .map(|value| {
            let mut mask = free;
            named
                .iter()
                .filter(|(_, condition)| satisfies(condition, value))
                .for_each(|(rule, _)| flip(&mut mask, *rule));
            mask
        })
        .collect()
}
