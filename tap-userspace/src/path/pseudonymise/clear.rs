//! Which addresses a selector set clears (Art. 24(1)).
//!
//! In: the checked rules and whether the order clears anything. Out: for an address, the rules that name it by a
//! facility-address entry of at least /24 (IPv4) or /48 (IPv6), per side. Whether the address is foreign and whether the
//! rule fired is the caller's question. Bounded by the set: one range for each entry and each gap between nested ones.
//!
//! Entries are prefixes, so two of them are disjoint or nested: one pass with a stack turns them into disjoint ranges,
//! and a look-up is one binary search.

use crate::limits::{CLEAR_PREFIX_IPV4_MIN, CLEAR_PREFIX_IPV6_MIN};
use crate::selectors::rule::{AddressItem, AddressValues, CheckedRule};
use ipnetwork::IpNetwork;
use std::collections::HashMap;
use tap_common::{abi::rule::RuleMask, limits::RULES_MAX};

/// Where an address stands in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// Rules that clear an address, by the side it stands on.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct ClearMasks {
    source: RuleMask,
    destination: RuleMask,
}

impl ClearMasks {
    fn join(&mut self, other: &Self) {
        let ours = self.source.iter_mut().chain(&mut self.destination);
        for (word, more) in ours.zip(other.source.iter().chain(&other.destination)) {
            *word |= more;
        }
    }
}

/// What one generation of a selector set clears.
///
/// Selector contents leave no trace: the debug form shows counts only.
#[derive(Clone, Default)]
pub struct ClearPolicy {
    ipv4: Ranges<u32>,
    ipv6: Ranges<u128>,
    masks: Vec<ClearMasks>,
}

impl std::fmt::Debug for ClearPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClearPolicy")
            .field("ipv4_ranges", &self.ipv4.starts.len())
            .field("ipv6_ranges", &self.ipv6.starts.len())
            .finish_non_exhaustive()
    }
}

impl ClearPolicy {
    /// The policy of `rules`, by index; one that clears nothing unless `clear_addresses`.
    #[must_use]
    pub fn from_rules(rules: &[CheckedRule], clear_addresses: bool) -> Self {
        let mut policy = Self::default();
        if !clear_addresses {
            return policy;
        }
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        for (index, rule) in rules.iter().take(RULES_MAX).enumerate() {
            let bit = mask_of(index);
            let none = RuleMask::default();
            for (condition, masks) in [
                (&rule.source_address, ClearMasks { source: bit, destination: none }),
                (&rule.destination_address, ClearMasks { source: none, destination: bit }),
                (&rule.address, ClearMasks { source: bit, destination: bit }),
            ] {
                collect(condition.as_ref(), masks, &mut ipv4, &mut ipv6);
            }
        }
        let mut interned = HashMap::new();
        for piece in disjoint(ipv4) {
            let mask = intern(&mut policy.masks, &mut interned, piece.masks);
            // Both ends came from 32-bit addresses.
            if let (Ok(start), Ok(end)) = (u32::try_from(piece.start), u32::try_from(piece.end)) {
                policy.ipv4.push(start, end, mask);
            }
        }
        for piece in disjoint(ipv6) {
            let mask = intern(&mut policy.masks, &mut interned, piece.masks);
            policy.ipv6.push(piece.start, piece.end, mask);
        }
        policy
    }

    /// Whether one of the rules that `fired` clears this IPv4 address on this side.
    pub(super) fn clears_ipv4(&self, address: u32, side: Side, fired: &RuleMask) -> bool {
        self.fires(self.ipv4.find(address), side, fired)
    }

    /// Whether one of the rules that `fired` clears this IPv6 address on this side.
    pub(super) fn clears_ipv6(&self, address: u128, side: Side, fired: &RuleMask) -> bool {
        self.fires(self.ipv6.find(address), side, fired)
    }

    fn fires(&self, mask: Option<u32>, side: Side, fired: &RuleMask) -> bool {
        let Some(masks) = mask.and_then(|mask| self.masks.get(usize::try_from(mask).ok()?)) else { return false };
        let rules = match side {
            Side::Source => &masks.source,
            Side::Destination => &masks.destination,
        };
        rules.iter().zip(fired).any(|(rules, fired)| rules & fired != 0)
    }
}

/// Bit `index` of a rule mask.
fn mask_of(index: usize) -> RuleMask {
    let mut mask = RuleMask::default();
    if let Some(word) = mask.get_mut(index / 64) {
        *word = 1 << (index % 64);
    }
    mask
}

/// An entry, or a disjoint piece of some: both ends belong to it.
struct Piece {
    start: u128,
    end: u128,
    masks: ClearMasks,
}

fn collect(condition: Option<&AddressValues>, masks: ClearMasks, ipv4: &mut Vec<Piece>, ipv6: &mut Vec<Piece>) {
    let Some(values) = condition.filter(|values| values.item == AddressItem::FacilityAddress) else { return };
    for entry in &values.entries {
        match entry {
            IpNetwork::V4(entry) if entry.prefix() >= CLEAR_PREFIX_IPV4_MIN => {
                let (start, end) = (u32::from(entry.network()), u32::from(entry.broadcast()));
                ipv4.push(Piece { start: start.into(), end: end.into(), masks });
            }
            IpNetwork::V6(entry) if entry.prefix() >= CLEAR_PREFIX_IPV6_MIN => {
                let (start, end) = (u128::from(entry.network()), u128::from(entry.broadcast()));
                ipv6.push(Piece { start, end, masks });
            }
            IpNetwork::V4(_) | IpNetwork::V6(_) => {}
        }
    }
}

/// Turns nested prefixes into disjoint pieces in order, each with the rules of all prefixes around it.
fn disjoint(mut entries: Vec<Piece>) -> Vec<Piece> {
    // Outer prefixes before the inner ones that begin with them.
    entries.sort_unstable_by(|a, b| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
    let mut pieces = Pieces { done: Vec::with_capacity(entries.len()), cursor: Some(0) };
    // The prefixes that hold the cursor, the innermost last.
    let mut open: Vec<Piece> = Vec::new();
    for mut entry in entries {
        while let Some(passed) = open.pop_if(|outer| outer.end < entry.start) {
            pieces.up_to(passed.end, passed.masks);
        }
        if let Some(outer) = open.last_mut() {
            entry.masks.join(&outer.masks);
            if (outer.start, outer.end) == (entry.start, entry.end) {
                outer.masks = entry.masks;
                continue;
            }
            if let Some(before) = entry.start.checked_sub(1) {
                pieces.up_to(before, outer.masks);
            }
        }
        pieces.cursor = Some(entry.start);
        open.push(entry);
    }
    while let Some(passed) = open.pop() {
        pieces.up_to(passed.end, passed.masks);
    }
    pieces.done
}

/// Pieces so far, and the first address that none of them decides; `None` behind the last address there is.
struct Pieces {
    done: Vec<Piece>,
    cursor: Option<u128>,
}

impl Pieces {
    /// Gives what lies between the cursor and `end` to `masks`, if there is anything.
    fn up_to(&mut self, end: u128, masks: ClearMasks) {
        if let Some(start) = self.cursor.filter(|start| *start <= end) {
            self.done.push(Piece { start, end, masks });
            self.cursor = end.checked_add(1);
        }
    }
}

/// Disjoint ranges in order, each with the index of its masks.
#[derive(Clone)]
struct Ranges<A> {
    starts: Vec<A>,
    /// Last address of the range, and its masks.
    rest: Vec<(A, u32)>,
}

impl<A> Default for Ranges<A> {
    fn default() -> Self {
        Self { starts: Vec::new(), rest: Vec::new() }
    }
}

impl<A: Copy + Ord> Ranges<A> {
    fn push(&mut self, start: A, end: A, mask: u32) {
        self.starts.push(start);
        self.rest.push((end, mask));
    }

    fn find(&self, address: A) -> Option<u32> {
        let place = self.starts.partition_point(|start| *start <= address).checked_sub(1)?;
        self.rest.get(place).filter(|(end, _)| address <= *end).map(|(_, mask)| *mask)
    }
}

fn intern(masks: &mut Vec<ClearMasks>, interned: &mut HashMap<ClearMasks, u32>, mask: ClearMasks) -> u32 {
    let next = u32::try_from(masks.len()).unwrap_or(u32::MAX);
    *interned.entry(mask).or_insert_with(|| {
        masks.push(mask);
        next
    })
}
