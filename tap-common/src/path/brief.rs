//! Brief: the whole way of the packets that are almost all packets, without a word of memory in between.
//!
//! In: the frame, the world, the time. Out: that the packet is settled, that a rule is possible, or that this is none of
//! its packets and nothing was touched. Its packets are of the commonest shape, under the one measure of a facility without a
//! mirror transport, and paid for with credit at hand. What it decides is what the whole way decides (tests hold them against
//! each other); headers stay in registers, while the whole way keeps them in a map for the verifier's sake.

use super::cap;
use super::frame::Frame;
use super::lease;
use super::parse::{self, Headers, common};
use super::sample;
use super::select;
use super::verdict::{Decision, Outcome};
use super::world::World;
use crate::abi::counter::Verdict;
use crate::abi::policy::FACILITY_BUCKET;
use crate::limits::LINE_OVERHEAD_BYTES;

/// What became of a packet here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brief {
    /// It has its verdict: not sampled, or no rule matches.
    Settled,
    /// It is paid for, and a rule's fields match: [`Decision::rules`] has those rules, and the headers are there too.
    Possible,
    /// Not a packet of this way.
    Other,
}

/// The only slot, as a bit.
const ALONE: u8 = 1;

/// Whether a generation's packets may go this way: what most generations have, so that nothing of it is asked packet by packet.
#[inline(always)]
#[must_use]
pub const fn is_open(measures: u32, rule_words: u32, dimensions: u32, has_transport: bool) -> bool {
    measures == 1 && rule_words == 1 && dimensions & select::RARE == 0 && !has_transport
}

/// Decides about a packet of the commonest shape.
#[inline(always)]
pub fn decide<F: Frame, W: World>(frame: &F, world: &mut W, out: &mut Decision) -> Brief {
    if !world.is_brief() {
        Brief::Other
    } else if world.is_shown() {
        decide_in::<true, F, W>(frame, world, out)
    } else {
        decide_in::<false, F, W>(frame, world, out)
    }
}

/// `SHOWN`: the decision is shown whole, and the stages may be off. Otherwise nothing is asked about either.
#[inline(always)]
#[expect(clippy::if_same_then_else, reason = "each family's way is compiled by itself, and so knows which it is")]
fn decide_in<const SHOWN: bool, F: Frame, W: World>(frame: &F, world: &mut W, out: &mut Decision) -> Brief {
    let threshold = if SHOWN { looked_up(world) } else { world.ready() };
    let Some(threshold) = threshold else { return Brief::Other };
    // First, because it may be a call, before which registers are emptied. The IP length is inside the frame: that is of the
    // shape.
    let frame_bytes = parse::captured_bytes(frame);
    (out.frame_bytes, out.line_bytes) = (frame_bytes, frame_bytes.wrapping_add(LINE_OVERHEAD_BYTES));
    let mut headers = Headers::default();
    if common::ipv4(frame, &mut headers) {
        judge::<SHOWN, F, W>(frame, world, threshold, &headers, out)
    } else if common::ipv6(frame, &mut headers) {
        judge::<SHOWN, F, W>(frame, world, threshold, &headers, out)
    } else {
        Brief::Other
    }
}

/// What [`World::ready`] answers, looked up.
#[inline(always)]
fn looked_up<W: World>(world: &mut W) -> Option<u64> {
    if !world.prepare() {
        return None;
    }
    let now_ns = world.now_cached_ns();
    lease::is_live(world, 0, now_ns).then(|| world.sampling_threshold(0))
}

/// Sample, cap and rules' fields.
#[inline(always)]
fn judge<const SHOWN: bool, F: Frame, W: World>(
    frame: &F,
    world: &mut W,
    threshold: u64,
    headers: &Headers,
    out: &mut Decision,
) -> Brief {
    if (!SHOWN || world.sampling_on())
        && !sample::is_sampled(sample::flow_hash(headers, world.policy().sampling_seed), threshold)
    {
        return settled::<SHOWN, F, W>(frame, world, Verdict::NotSampled, out);
    }
    if (!SHOWN || world.cap_on()) && !cap::charge_at_hand(world, FACILITY_BUCKET, out.line_bytes) {
        return Brief::Other;
    }
    let rules = select::common(world, headers);
    if rules == 0 {
        return settled::<SHOWN, F, W>(frame, world, Verdict::NotMatched, out);
    }
    write(frame, world, ALONE, out);
    select::keep(world, &[rules], &mut out.rules);
    Brief::Possible
}

#[inline(always)]
fn settled<const SHOWN: bool, F: Frame, W: World>(
    frame: &F,
    world: &mut W,
    verdict: Verdict,
    out: &mut Decision,
) -> Brief {
    if SHOWN {
        write(frame, world, if verdict as u8 == Verdict::NotMatched as u8 { ALONE } else { 0 }, out);
    }
    out.outcome = Outcome::measure(verdict);
    Brief::Settled
}

/// Writes down what was found out before the rules, as the whole way does.
#[inline(always)]
fn write<F: Frame, W: World>(frame: &F, world: &mut W, sampled: u8, out: &mut Decision) {
    out.clear_verdicts();
    out.time_ns = world.now_cached_ns();
    // Read again: to keep what few packets need would cost every packet.
    out.parsed = u8::from(common::ipv4(frame, &mut out.headers) || common::ipv6(frame, &mut out.headers));
    out.live = ALONE;
    out.sampled = sampled;
    out.admitted = sampled;
}
