//! A rule whose conditions have been checked: what compiles into the kernel's tables and what the clear-address policy
//! is read from. [`super::check`] is the only maker.

use ipnetwork::IpNetwork;
use jiff::Timestamp;
use std::ops::RangeInclusive;
use tap_common::abi::rule::ConditionKind;
use tap_common::path::parse::Fragment;

/// What an address condition is (Art. 22(2)): only `FacilityAddress` may ever clear an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressItem {
    /// (i) Address of a facility.
    FacilityAddress,
    /// (iii) Other aid.
    Aid,
}

/// The values of one address condition: merged, sorted, without overlap, host bits zero.
#[derive(Clone, PartialEq, Eq)]
pub struct AddressValues {
    /// Which item it is.
    pub item: AddressItem,
    /// Merged prefixes: what the kernel matches.
    pub prefixes: Vec<IpNetwork>,
    /// The entries as the set wrote them (host bits zero): the clear-address policy looks at these lengths.
    pub entries: Vec<IpNetwork>,
}

/// Selector contents leave no trace: the debug form shows counts only.
impl std::fmt::Debug for AddressValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddressValues")
            .field("item", &self.item)
            .field("prefixes", &self.prefixes.len())
            .finish_non_exhaustive()
    }
}

/// TCP flags condition: `flags & mask == value`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FlagValues {
    /// Bits that are looked at.
    pub mask: u8,
    /// What they must be; a subset of `mask`.
    pub value: u8,
}

/// Payload condition: masked bytes at an offset of the upper layer's payload.
#[derive(Clone, PartialEq, Eq)]
pub struct PayloadValues {
    /// Bytes from the payload's beginning to the first byte looked at.
    pub offset: u32,
    /// What the bytes must be where the mask's bits are set; as long as the mask, 1 to `SIGNATURE_BYTES_MAX`.
    pub bytes: Vec<u8>,
    /// Which bits are looked at.
    pub mask: Vec<u8>,
}

/// A checked rule: the conjunction of the conditions that are there. Each field appears at most once in a rule.
#[derive(Clone, PartialEq, Eq)]
pub struct CheckedRule {
    /// Id as the set names it; unique in the set.
    pub id: String,
    /// Act (target act of the measure) the rule is for.
    pub act: String,
    /// Source address is one of these.
    pub source_address: Option<AddressValues>,
    /// Destination address is one of these.
    pub destination_address: Option<AddressValues>,
    /// Source or destination address is one of these.
    pub address: Option<AddressValues>,
    /// Source port is in one of these; merged and sorted.
    pub source_port: Option<Vec<RangeInclusive<u16>>>,
    /// Destination port is in one of these.
    pub destination_port: Option<Vec<RangeInclusive<u16>>>,
    /// Source or destination port is in one of these.
    pub port: Option<Vec<RangeInclusive<u16>>>,
    /// Protocol is one of these; sorted.
    pub protocol: Option<Vec<u8>>,
    /// TCP flags.
    pub tcp_flags: Option<FlagValues>,
    /// IP length is in this range.
    pub ip_length: Option<RangeInclusive<u32>>,
    /// Fragment state is one of these; sorted.
    pub fragment: Option<Vec<Fragment>>,
    /// Payload bytes.
    pub payload: Option<PayloadValues>,
    /// Kinds whose condition counts; sorted, each once.
    pub counted: Vec<ConditionKind>,
}

impl CheckedRule {
    /// The same rule, which no packet satisfies: its address is one of none, and none of its conditions counts.
    fn over(&self) -> Self {
        let none = AddressValues { item: AddressItem::Aid, prefixes: Vec::new(), entries: Vec::new() };
        Self { address: Some(none), ..Self::without_conditions(self.id.clone(), self.act.clone()) }
    }

    /// A rule whose conditions are put in afterwards: without one it would match every packet, and nothing of it counts.
    pub(crate) fn without_conditions(id: String, act: String) -> Self {
        Self {
            id,
            act,
            source_address: None,
            destination_address: None,
            address: None,
            source_port: None,
            destination_port: None,
            port: None,
            protocol: None,
            tcp_flags: None,
            ip_length: None,
            fragment: None,
            payload: None,
            counted: Vec::new(),
        }
    }
}

/// Selector contents leave no trace.
impl std::fmt::Debug for CheckedRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckedRule").field("counted", &self.counted.len()).finish_non_exhaustive()
    }
}

/// A selector set that passed every check: what may be compiled for the kernel.
#[derive(Clone, PartialEq, Eq)]
pub struct CheckedSet {
    /// Measure the set is for.
    pub measure: String,
    /// Version as the set names it.
    pub version: u64,
    /// SHA-256 of the set's bytes.
    pub sha256: [u8; 32],
    /// Rules in the set's order; the index is the rule's bit.
    pub rules: Vec<CheckedRule>,
    /// Agreements: the party's prefixes, merged. They bind the destination of every rule.
    pub scope: Option<Vec<IpNetwork>>,
    /// First moment at which each rule is no longer wanted, in the rules' order. Empty in the laboratory, where none ends.
    pub ends: Vec<Timestamp>,
}

impl CheckedSet {
    /// What is left of a set that was withdrawn: nothing that a packet could satisfy.
    #[must_use]
    pub fn withdrawn(measure: String) -> Self {
        Self {
            measure,
            version: 0,
            sha256: super::withdrawal::NO_SET,
            rules: Vec::new(),
            scope: None,
            ends: Vec::new(),
        }
    }

    /// How many rules are over at `now`.
    #[must_use]
    pub fn over(&self, now: Timestamp) -> usize {
        self.ends.iter().filter(|end| **end <= now).count()
    }

    /// When the next rule is over, seen from `now`: what decides at `now` must not decide from then on.
    #[must_use]
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.ends.iter().filter(|end| **end > now).min().copied()
    }

    /// When the last rule is over, and with it the set.
    #[must_use]
    pub fn last_end(&self) -> Option<Timestamp> {
        self.ends.iter().max().copied()
    }

    /// The set as it may decide at `now`: a rule that is over keeps its place, so that every other keeps its number, and no
    /// packet satisfies it.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        for (rule, _) in self.rules.iter_mut().zip(&self.ends).filter(|(_, end)| **end <= now) {
            *rule = rule.over();
        }
        self
    }
}

/// Selector contents leave no trace.
impl std::fmt::Debug for CheckedSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckedSet")
            .field("measure", &self.measure)
            .field("version", &self.version)
            .field("sha256", &hex::encode(self.sha256))
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}
