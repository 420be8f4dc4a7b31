//! The packet's way, a stage a file, in this order: lease, transport, parse, sample, cap, select, direction.
//!
//! [`decide`] is the only control flow. It is generic over the frame and the world, so the kernel build and the host
//! build are the same source, and one is held against the other. Nothing here knows whether it runs in a kernel.
#![allow(
    clippy::cast_possible_truncation,
    reason = "header fields are cut out of wider words; a checked conversion would be a branch for each"
)]

pub mod cap;
pub mod direction;
pub mod frame;
pub mod lease;
pub mod parse;
pub mod sample;
pub mod select;
pub mod transport;
pub mod trie;
pub mod verdict;
pub mod world;

#[cfg(test)]
mod tests;

use crate::abi::counter::{FacilityVerdict, Verdict};
use direction::Direction;
use frame::Frame;
use verdict::{Decision, Outcome};
use world::World;

/// The measure slot that is in use.
pub const SLOT: u32 = 0;

/// Decides about one packet. The verdict is in `out.outcome`; a record may be made when it is `selected`, and only then.
#[inline(always)]
pub fn decide<F: Frame, W: World>(frame: &mut F, world: &mut W, out: &mut Decision) {
    let now_ns = world.now_cached_ns();
    out.time_ns = now_ns;
    out.line_bytes = frame.length().wrapping_add(crate::limits::LINE_OVERHEAD_BYTES);
    if !lease::is_live(world, SLOT, now_ns) {
        out.outcome = Outcome::facility(FacilityVerdict::NoLease);
        return;
    }
    if let Err(reason) = transport::remove(frame, world, out).and_then(|()| parse::parse(frame, &mut out.headers)) {
        out.outcome = Outcome::facility(verdict::verdict_of(reason));
        out.reason = reason as u8;
        return;
    }
    out.parsed = 1;
    world.settle(out);
    out.line_bytes = parse::line_bytes(frame.length(), &out.headers);
    out.outcome = match decide_measure(world, now_ns, out) {
        Some(verdict) => Outcome::measure(verdict),
        None => Outcome::facility(FacilityVerdict::NoLease),
    };
}

/// The stages of one live measure. `None` when the lease ended between the cached and the exact time.
#[inline(always)]
fn decide_measure<W: World>(world: &mut W, now_ns: u64, out: &mut Decision) -> Option<Verdict> {
    let (seed, threshold, directions) = {
        let policy = world.policy(SLOT)?;
        (policy.sampling_seed, policy.sampling_threshold, policy.directions)
    };
    if world.sampling_on() && !sample::is_sampled(sample::flow_hash(&out.headers, seed), threshold) {
        return Some(Verdict::NotSampled);
    }
    if world.cap_on() && !cap::charge(world, now_ns, out.line_bytes) {
        return Some(Verdict::OverCap);
    }
    out.rules = select::select(world, SLOT, &out.headers);
    if select::is_empty(&out.rules) {
        return Some(Verdict::NotMatched);
    }
    let direction = direction::direction(world, &out.headers);
    out.direction = direction as u8;
    match direction {
        Direction::Unlisted => return Some(Verdict::Unlisted),
        Direction::DomesticToDomestic => return Some(Verdict::DomesticToDomestic),
        Direction::ForeignToForeign | Direction::ForeignToDomestic | Direction::DomesticToForeign => {
            if !direction::is_allowed(direction, directions) {
                return Some(Verdict::WrongDirection);
            }
        }
    }
    out.time_ns = world.now_exact_ns();
    let lease = world.lease(SLOT)?;
    lease::is_live_exactly(&lease, out.time_ns).then_some(Verdict::Selected)
}
