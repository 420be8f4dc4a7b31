//! Select: which rules have all their conditions satisfied, and enough counted ones among them (Art. 22(2), 35(2)).
//!
//! In: header fields and the generation's tables. Out: a mask of rules. Each dimension yields the mask of the rules it
//! satisfies (a rule without a condition there is satisfied), and their AND is the answer, so the cost does not grow
//! with the number of rules. Cheap dimensions first; addresses are looked up only when a rule is still possible.

use super::parse::Headers;
use super::trie;
use super::world::{Dimension, Trie, World};
use crate::abi::policy::MeasurePolicy;
use crate::abi::record::{FLAG_PORTS, FLAG_TCP_FLAGS};
use crate::abi::rule::{ClassMasks, RuleMask};
use crate::limits::CONDITION_KINDS;

/// Index of [`World::tcp_flags_mask`] for a packet without TCP flags.
pub const TCP_FLAGS_ABSENT: u32 = 256;
const NONE: RuleMask = [0; 4];

/// Rules of slot `slot` that match the packet, with at least as many counted conditions as the measure's basis asks.
#[inline(always)]
pub fn select<W: World>(world: &W, slot: u32, headers: &Headers) -> RuleMask {
    let Some(policy) = world.policy(slot) else { return NONE };
    let mut rules = policy.rules;
    if world.uses(Dimension::Protocol) {
        narrow(world, &mut rules, world.protocol_mask(headers.protocol));
    }
    if world.uses(Dimension::TcpFlags) {
        let present = headers.flags & FLAG_TCP_FLAGS != 0;
        let index = if present { u32::from(headers.tcp_flags) } else { TCP_FLAGS_ABSENT };
        narrow(world, &mut rules, world.tcp_flags_mask(index));
    }
    if world.uses(Dimension::Fragment) {
        narrow(world, &mut rules, world.fragment_mask(headers.fragment));
    }
    if world.uses(Dimension::IpLength) {
        narrow(world, &mut rules, world.ip_length_mask(world.ip_length_class(headers.ip_length)));
    }
    if world.uses(Dimension::Port) {
        let present = headers.flags & FLAG_PORTS != 0;
        let (source, destination) = if present {
            (world.port_class(headers.source_port), world.port_class(headers.destination_port))
        } else {
            (0, 0)
        };
        narrow_ends(world, &mut rules, world.port_masks(source), world.port_masks(destination));
    }
    if is_empty(&rules) {
        return NONE;
    }
    if world.uses(Dimension::Address) {
        let source = trie::find(world, Trie::Selector4, Trie::Selector6, headers.ip_version, headers.source);
        let destination = trie::find(world, Trie::Selector4, Trie::Selector6, headers.ip_version, headers.destination);
        narrow_ends(world, &mut rules, world.address_masks(source), world.address_masks(destination));
    }
    if is_empty(&rules) {
        return NONE;
    }
    enough_conditions(policy, rules)
}

/// Whether no rule is left.
#[inline(always)]
#[must_use]
pub fn is_empty(rules: &RuleMask) -> bool {
    let [a, b, c, d] = rules;
    a | b | c | d == 0
}

#[inline(always)]
fn narrow<W: World>(world: &W, rules: &mut RuleMask, satisfied: Option<&RuleMask>) {
    let satisfied = satisfied.unwrap_or(&NONE);
    let words = world.rule_words();
    for (index, (rule, satisfied)) in rules.iter_mut().zip(satisfied).enumerate() {
        if index < words {
            *rule &= satisfied;
        }
    }
}

#[inline(always)]
fn narrow_ends<W: World>(
    world: &W,
    rules: &mut RuleMask,
    source: Option<&ClassMasks>,
    destination: Option<&ClassMasks>,
) {
    let (Some(source), Some(destination)) = (source, destination) else {
        *rules = NONE;
        return;
    };
    let words = world.rule_words();
    let either = source.either.iter().zip(&destination.either);
    let ends = source.source.iter().zip(&destination.destination).zip(either);
    for (index, (rule, ((source, destination), (one, other)))) in rules.iter_mut().zip(ends).enumerate() {
        if index < words {
            *rule &= source & destination & (one | other);
        }
    }
}

/// The rules among `rules` with at least `conditions_min` counted conditions: a second, independent look at what the
/// agent checked when it loaded the set. Rules are counted all at once, in three bit planes.
#[inline(always)]
fn enough_conditions(policy: &MeasurePolicy, rules: RuleMask) -> RuleMask {
    let mut enough = NONE;
    for (word, (enough, rules)) in enough.iter_mut().zip(&rules).enumerate() {
        if *rules != 0 {
            let mut planes = [0u64; 3];
            for kind in 0..CONDITION_KINDS {
                if let Some(counted) = policy.counted.get(kind).and_then(|masks| masks.get(word)) {
                    add_one(&mut planes, *counted);
                }
            }
            *enough = rules & at_least(&planes, policy.conditions_min);
        }
    }
    enough
}

/// Adds 1 to the three-bit count of each rule whose bit is set; seven kinds cannot overflow it.
#[inline(always)]
fn add_one(planes: &mut [u64; 3], bits: u64) {
    let [ones, twos, fours] = planes;
    let carry = *ones & bits;
    *ones ^= bits;
    let carry_again = *twos & carry;
    *twos ^= carry;
    *fours |= carry_again;
}

/// Rules whose count is at least `minimum`.
#[inline(always)]
fn at_least(planes: &[u64; 3], minimum: u32) -> u64 {
    let [ones, twos, fours] = *planes;
    match minimum {
        // No basis asks for none: a policy that does is not a policy.
        0 => 0,
        1 => ones | twos | fours,
        2 => twos | fours,
        3 => (ones & twos) | fours,
        4 => fours,
        5 => fours & (ones | twos),
        6 => fours & twos,
        7 => fours & twos & ones,
        _ => 0,
    }
}

const _: () = assert!(CONDITION_KINDS <= 7);
