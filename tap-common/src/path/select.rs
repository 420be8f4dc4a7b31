//! Select: which rules have all their conditions satisfied, and enough counted ones among them (Art. 22(2), 35(2)).
//!
//! In: header fields, the generation's tables, and the frame for payload signatures. Out: a mask of rules. Each dimension yields the mask of the rules it
//! satisfies (a rule without a condition there is satisfied), and their AND is the answer, so the cost does not grow
//! with the number of rules. Cheap dimensions first; addresses are looked up only when a rule is still possible, payload
//! bytes only when all else matches.

use super::frame::Frame;
use super::parse::Headers;
use super::payload;
use super::world::{Dimension, World};
use crate::abi::policy::MeasurePolicy;
use crate::abi::record::{FLAG_PORTS, FLAG_TCP_FLAGS};
use crate::abi::rule::{ClassMasks, RuleMask};
use crate::limits::{CONDITION_KINDS, RULE_WORDS};

/// Index of [`World::tcp_flags_mask`] for a packet without TCP flags.
pub const TCP_FLAGS_ABSENT: u32 = 256;
const NONE: RuleMask = [0; 4];
const NO_MASKS: ClassMasks = ClassMasks { source: NONE, destination: NONE, either: NONE };

/// Rules of the measures `admitted` (bits of slots) whose fields match the packet. Returns whether there is one; `out` holds
/// them then.
///
/// Most generations have at most 64 rules, whose masks are one word: for them the same is done with one word alone (of the two
/// ways the load-time constant leaves one; measured: 2 ns of 54).
#[inline(always)]
pub fn fields<W: World>(world: &W, admitted: u8, headers: &Headers, out: &mut RuleMask) -> bool {
    if world.rule_words() == 1 {
        kept(world, &possible::<1, W>(world, admitted, headers), out)
    } else {
        kept(world, &possible::<RULE_WORDS, W>(world, admitted, headers), out)
    }
}

/// Keeps of the rules whose fields match those that match wholly, with at least as many counted conditions as each measure's
/// basis asks. Returns whether there is one; `out` holds them then.
#[inline(always)]
pub fn certain<F: Frame, W: World>(frame: &F, world: &W, headers: &Headers, out: &mut RuleMask) -> bool {
    if world.rule_words() == 1 {
        let [first, ..] = *out;
        certain_in(frame, world, headers, [first], out)
    } else {
        certain_in(frame, world, headers, *out, out)
    }
}

#[inline(always)]
fn certain_in<const WORDS: usize, F: Frame, W: World>(
    frame: &F,
    world: &W,
    headers: &Headers,
    mut rules: [u64; WORDS],
    out: &mut RuleMask,
) -> bool {
    enough_conditions(world, &mut rules);
    if world.uses(Dimension::Payload) && !is_empty(&rules) {
        payload::narrow(frame, world, headers, &mut rules);
    }
    keep(world, &rules, out);
    !is_empty(&rules)
}

/// Whether there is a rule; `out` holds them then, and keeps what it was otherwise.
#[inline(always)]
fn kept<const WORDS: usize, W: World>(world: &W, rules: &[u64; WORDS], out: &mut RuleMask) -> bool {
    if is_empty(rules) {
        return false;
    }
    keep(world, rules, out);
    true
}

/// Writes the rules down; those behind the words in use are none.
#[inline(always)]
pub fn keep<const WORDS: usize, W: World>(world: &W, rules: &[u64; WORDS], out: &mut RuleMask) {
    for (word, out) in out.iter_mut().enumerate() {
        *out = rules.get(word).copied().unwrap_or(world.no_rules());
    }
}

/// Rules of the measures `admitted` whose fields match: every dimension but the payload.
#[inline(always)]
fn possible<const WORDS: usize, W: World>(world: &W, admitted: u8, headers: &Headers) -> [u64; WORDS] {
    let mut rules: [u64; WORDS] = rules_of(world, admitted);
    let dimensions = world.dimensions();
    if uses(dimensions, Dimension::Protocol) {
        narrow(&mut rules, world.protocol_mask(headers.protocol));
    }
    if dimensions & RARE != 0 {
        rare(world, dimensions, &mut rules, headers);
    }
    ports(world, dimensions, &mut rules, headers);
    if !is_empty(&rules) {
        addresses(world, dimensions, &mut rules, headers);
    }
    rules
}

/// The same of a generation with one measure, one word of rules and none of the [`RARE`] dimensions.
#[inline(always)]
pub(super) fn common<W: World>(world: &W, headers: &Headers) -> u64 {
    let dimensions = world.dimensions();
    let [MeasurePolicy { rules: [first, ..], .. }, ..] = &world.policy().measures;
    let mut rules = [*first];
    if uses(dimensions, Dimension::Protocol) {
        narrow(&mut rules, world.protocol_mask(headers.protocol));
    }
    ports(world, dimensions, &mut rules, headers);
    if !is_empty(&rules) {
        addresses(world, dimensions, &mut rules, headers);
    }
    let [rules] = rules;
    rules
}

/// Whether a dimension is among these. They are asked for once: each question to the world is a load, even where its answer leaves
/// nothing of the branch behind.
#[inline(always)]
fn uses(dimensions: u32, dimension: Dimension) -> bool {
    dimensions & dimension as u32 != 0
}

/// All rules of the measures `admitted`.
#[inline(always)]
fn rules_of<const WORDS: usize, W: World>(world: &W, admitted: u8) -> [u64; WORDS] {
    let [first, others @ ..] = &world.policy().measures;
    let mut rules = [0; WORDS];
    if admitted & 1 != 0 {
        or(&mut rules, &first.rules);
    }
    if world.measures() > 1 {
        for (slot, measure) in (1..).zip(others) {
            if slot >= world.measures() {
                break;
            }
            if admitted & (1 << slot) != 0 {
                or(&mut rules, &measure.rules);
            }
        }
    }
    rules
}

#[inline(always)]
fn or<const WORDS: usize>(rules: &mut [u64; WORDS], more: &RuleMask) {
    for (rule, more) in rules.iter_mut().zip(more) {
        *rule |= more;
    }
}

/// Dimensions that most generations do without.
pub(super) const RARE: u32 = Dimension::TcpFlags as u32 | Dimension::Fragment as u32 | Dimension::IpLength as u32;

#[inline(always)]
fn rare<const WORDS: usize, W: World>(world: &W, dimensions: u32, rules: &mut [u64; WORDS], headers: &Headers) {
    if uses(dimensions, Dimension::TcpFlags) {
        let present = headers.flags & FLAG_TCP_FLAGS != 0;
        let index = if present { u32::from(headers.tcp_flags) } else { TCP_FLAGS_ABSENT };
        narrow(rules, world.tcp_flags_mask(index));
    }
    if uses(dimensions, Dimension::Fragment) {
        narrow(rules, world.fragment_mask(headers.fragment));
    }
    if uses(dimensions, Dimension::IpLength) {
        narrow(rules, world.ip_length_mask(world.ip_length_class(headers.ip_length)));
    }
}

#[inline(always)]
fn ports<const WORDS: usize, W: World>(world: &W, dimensions: u32, rules: &mut [u64; WORDS], headers: &Headers) {
    let present = headers.flags & FLAG_PORTS != 0;
    if dimensions & (Dimension::PortSource as u32 | Dimension::PortEither as u32) != 0 {
        let class = if present { world.port_class(headers.source_port) } else { 0 };
        let at_source = world.port_masks(class);
        if uses(dimensions, Dimension::PortSource) {
            narrow(rules, at_source.map(|masks| &masks.source));
        }
        if uses(dimensions, Dimension::PortEither) {
            let class = if present { world.port_class(headers.destination_port) } else { 0 };
            narrow_either(rules, at_source, world.port_masks(class));
        }
    }
    if uses(dimensions, Dimension::PortDestination) {
        let class = if present { world.port_class(headers.destination_port) } else { 0 };
        narrow(rules, world.port_masks(class).map(|masks| &masks.destination));
    }
}

#[inline(always)]
fn addresses<const WORDS: usize, W: World>(world: &W, dimensions: u32, rules: &mut [u64; WORDS], headers: &Headers) {
    let either = uses(dimensions, Dimension::AddressEither);
    let (source, destination) =
        (uses(dimensions, Dimension::AddressSource), uses(dimensions, Dimension::AddressDestination));
    if !(source || destination || either) {
        return;
    }
    let at_source = if source || either { address_masks(world, headers.ip_version, headers.source) } else { None };
    if source {
        narrow(rules, at_source.map(|masks| &masks.source));
    }
    if destination || either {
        let at_destination = address_masks(world, headers.ip_version, headers.destination);
        if destination {
            narrow(rules, at_destination.map(|masks| &masks.destination));
        }
        if either {
            narrow_either(rules, at_source, at_destination);
        }
    }
}

/// Masks of an address.
#[inline(always)]
fn address_masks<W: World>(world: &W, ip_version: u8, address: [u64; 2]) -> Option<&ClassMasks> {
    world.address_masks(world.selector_class(ip_version, address))
}

/// Whether no rule is left.
#[inline(always)]
#[must_use]
pub fn is_empty<const WORDS: usize>(rules: &[u64; WORDS]) -> bool {
    rules.iter().fold(0, |any, word| any | word) == 0
}

#[inline(always)]
fn narrow<const WORDS: usize>(rules: &mut [u64; WORDS], satisfied: Option<&RuleMask>) {
    for (rule, satisfied) in rules.iter_mut().zip(satisfied.unwrap_or(&NONE)) {
        *rule &= satisfied;
    }
}

#[inline(always)]
fn narrow_either<const WORDS: usize>(
    rules: &mut [u64; WORDS],
    source: Option<&ClassMasks>,
    destination: Option<&ClassMasks>,
) {
    let (source, destination) = (source.unwrap_or(&NO_MASKS), destination.unwrap_or(&NO_MASKS));
    for (rule, (one, other)) in rules.iter_mut().zip(source.either.iter().zip(&destination.either)) {
        *rule &= one | other;
    }
}

/// Keeps of `rules` those with at least as many counted conditions as their measure asks: a second, independent look at what
/// the agent checked when it loaded the set. Rules are counted all at once, in three bit planes; a rule that is asked for no
/// condition is in no mask, and never kept. Nothing branches on a number: the verifier would follow each.
#[inline(always)]
fn enough_conditions<const WORDS: usize, W: World>(world: &W, rules: &mut [u64; WORDS]) {
    let policy = world.policy();
    for (word, rules) in rules.iter_mut().enumerate() {
        let mut planes = [0u64; 3];
        for masks in &policy.counted {
            add_one(&mut planes, masks.get(word).copied().unwrap_or(0));
        }
        let mut enough = 0;
        for (asked, at_least) in policy.asked.iter().zip(at_least(&planes)) {
            enough |= asked.get(word).copied().unwrap_or(0) & at_least;
        }
        *rules &= enough;
    }
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

/// Rules whose count is at least 1, 2, … 7.
#[inline(always)]
fn at_least(planes: &[u64; 3]) -> [u64; CONDITION_KINDS] {
    let [ones, twos, fours] = *planes;
    [
        ones | twos | fours,
        twos | fours,
        (ones & twos) | fours,
        fours,
        fours & (ones | twos),
        fours & twos,
        fours & twos & ones,
    ]
}

const _: () = assert!(CONDITION_KINDS == 7);
