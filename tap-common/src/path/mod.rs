//! The packet's way, a stage a file, in this order: lease, transport, parse, sample, cap, select, direction.
//!
//! [`decide`] is the only control flow. It is generic over the frame and the world, so the kernel build and the host
//! build are the same source, and one is held against the other. Nothing here knows whether it runs in a kernel.
#![allow(
    clippy::cast_possible_truncation,
    reason = "header fields are cut out of wider words; a checked conversion would be a branch for each"
)]

pub mod brief;
pub mod cap;
pub mod direction;
pub mod exact;
pub mod frame;
pub mod lease;
pub mod parse;
pub mod payload;
pub mod sample;
pub mod select;
pub mod transport;
pub mod trie;
pub mod verdict;
pub mod world;

#[cfg(test)]
mod common_shape_tests;
#[cfg(test)]
mod tests;

use crate::abi::counter::{FacilityVerdict, Verdict};
use crate::limits::{LINE_OVERHEAD_BYTES, MEASURES_MAX};
use brief::Brief;
use direction::Direction;
use frame::Frame;
use verdict::{Decision, Outcome};
use world::{World, settle_slot};

/// Decides about one packet. Verdicts stand in `out`; a record may be made for each slot in `out.selected`, and only then.
/// Returns whether the brief way settled it: then `out` has its outcome and bytes, and the rest only if the world is shown.
#[inline(always)]
pub fn decide<F: Frame, W: World>(frame: &mut F, world: &mut W, out: &mut Decision) -> bool {
    let brief = brief::decide(frame, world, out);
    if brief == Brief::Settled {
        return true;
    }
    if !world.prepare() {
        out.clear_verdicts();
        facility(frame, out, FacilityVerdict::NoLease);
        return false;
    }
    match brief {
        Brief::Settled => return true,
        Brief::Possible => {
            let verdict = matching(frame, world, out);
            conclude(world, out, verdict);
        }
        Brief::Other => whole(frame, world, out),
    }
    world.settle(out);
    false
}

/// The same for any packet.
#[inline(always)]
pub fn whole<F: Frame, W: World>(frame: &mut F, world: &mut W, out: &mut Decision) {
    let now_ns = world.now_cached_ns();
    out.time_ns = now_ns;
    out.clear_verdicts();
    lease::live(world, now_ns, out);
    if world.measures() == 1 {
        let threshold = world.sampling_threshold(0);
        world.set_ready((out.live != 0).then_some(threshold));
    }
    if out.live == 0 {
        facility(frame, out, FacilityVerdict::NoLease);
        return;
    }
    if let Err(reason) = transport::remove(frame, world, out).and_then(|()| parse::parse(frame, &mut out.headers)) {
        out.reason = reason as u8;
        facility(frame, out, verdict::verdict_of(reason));
        return;
    }
    out.parsed = 1;
    world.settle(out);
    (out.frame_bytes, out.line_bytes) = parse::line_bytes(frame, &out.headers);
    let verdict = stages(frame, world, out);
    conclude(world, out, verdict);
}

/// The outcome, by the verdict of the measure that came furthest.
#[inline(always)]
fn conclude<W: World>(world: &W, out: &mut Decision, verdict: Verdict) {
    out.outcome = Outcome::measure(verdict);
    if world.measures() > 1 || out.live == 0 {
        out.outcome = of_first_live(out);
    }
}

/// A verdict of the facility: no measure has one.
#[inline(always)]
fn facility<F: Frame>(frame: &F, out: &mut Decision, verdict: FacilityVerdict) {
    out.outcome = Outcome::facility(verdict);
    out.frame_bytes = frame.length();
    out.line_bytes = out.frame_bytes.wrapping_add(LINE_OVERHEAD_BYTES);
}

/// The stages of the live measures, all at once: a bit for each slot goes on from stage to stage. Returns the verdict of
/// the measure that came furthest.
#[inline(always)]
fn stages<F: Frame, W: World>(frame: &F, world: &mut W, out: &mut Decision) -> Verdict {
    out.sampled = out.live;
    if world.sampling_on() {
        let hash = sample::flow_hash(&out.headers, world.policy().sampling_seed);
        sample::among(world, hash, out);
    }
    if out.sampled == 0 {
        return Verdict::NotSampled;
    }
    out.admitted = out.sampled;
    if world.cap_on() {
        cap::admit(world, out);
    }
    if out.admitted == 0 {
        return Verdict::OverCap;
    }
    world.settle(out);
    if !select::fields(world, out.admitted, &out.headers, &mut out.rules) {
        return Verdict::NotMatched;
    }
    matching(frame, world, out)
}

/// The stages of a packet whose fields match a rule.
#[inline(always)]
fn matching<F: Frame, W: World>(frame: &F, world: &mut W, out: &mut Decision) -> Verdict {
    world.settle(out);
    if !select::certain(frame, world, &out.headers, &mut out.rules) {
        return Verdict::NotMatched;
    }
    world.settle(out);
    let direction = direction::direction(world, &out.headers);
    out.direction = direction as u8;
    lawful(world, out, direction);
    match direction {
        Direction::Unlisted => return Verdict::Unlisted,
        Direction::DomesticToDomestic => return Verdict::DomesticToDomestic,
        _ if out.selected == 0 => return Verdict::WrongDirection,
        Direction::ForeignToForeign | Direction::ForeignToDomestic | Direction::DomesticToForeign => {}
    }
    out.time_ns = world.now_exact_ns();
    drop_lapsed(world, out);
    Verdict::Selected
}

/// Which slots have a rule that matched, and which of them select in this direction.
#[inline(always)]
fn lawful<W: World>(world: &W, out: &mut Decision, direction: Direction) {
    for (slot, measure) in world.policy().measures.iter().enumerate() {
        if slot as u32 >= world.measures() {
            break;
        }
        let own = out.rules.iter().zip(&measure.rules).fold(0, |any, (rule, own)| any | (rule & own));
        if own != 0 {
            out.matched |= 1 << slot;
            if direction::is_allowed(direction, measure.directions) {
                out.selected |= 1 << slot;
            }
        }
        settle_slot(world, out);
    }
}

/// Takes out the slots whose lease ended between the cached and the exact time.
#[inline(always)]
fn drop_lapsed<W: World>(world: &W, out: &mut Decision) {
    let mut slot = 0;
    while slot < MEASURES_MAX as u32 && slot < world.measures() {
        if !lease::is_live_exactly(&world.lease(slot), out.time_ns) {
            out.live &= !(1 << slot);
            out.selected &= !(1 << slot);
        }
        settle_slot(world, out);
        slot += 1;
    }
}

/// The verdict of the first slot that is live; none is when the last lease ended just now.
#[inline(always)]
fn of_first_live(out: &Decision) -> Outcome {
    let mut slot = 0;
    while slot < MEASURES_MAX as u32 {
        if let Some(verdict) = out.verdict(slot) {
            return Outcome::measure(verdict);
        }
        slot += 1;
    }
    Outcome::facility(FacilityVerdict::NoLease)
}
