//! Sample: keep whole flows, both directions together, chosen by a secret seed.
//!
//! In: header fields, seed, thresholds. Out: in which measures' samples the packet is. Fragments hash addresses and protocol
//! only, because a later fragment has no ports. None of the standard selector functions (RFC 5475, 6.2) is
//! direction-independent, so the export names this one `gwtap-flow-hash` and gives the probability.
//!
//! Each end of the flow becomes an odd number; their product is the same in both directions, and is mixed twice more. One hash serves all measures: their samples are nested, the smaller inside the larger.

use super::parse::{Fragment, Headers};
use super::verdict::Decision;
use super::world::{World, settle_slot};
use crate::abi::record::FLAG_PORTS;
use crate::limits::{MEASURES_MAX, PPM};

/// Odd 64-bit constants with well-mixed bits (fractional parts of the square roots of 2 and 5).
const MIX_HIGH: u64 = 0x6a09_e667_f3bc_c909;
const MIX_FLOW: u64 = 0x3c6e_f372_fe94_f82b;

/// 32-bit hash of the packet's flow; the same for both directions.
#[inline(always)]
#[must_use]
pub fn flow_hash(headers: &Headers, seed: u64) -> u32 {
    let whole = headers.fragment == Fragment::None as u8 && headers.flags & FLAG_PORTS != 0;
    let (source_port, destination_port) = if whole { (headers.source_port, headers.destination_port) } else { (0, 0) };
    let ends = end(headers.source, source_port, seed).wrapping_mul(end(headers.destination, destination_port, seed));
    let flow = (ends ^ (ends >> 32) ^ u64::from(headers.protocol)).wrapping_mul(MIX_FLOW);
    // Once more: what stands at the top of a factor, a port, reaches only the top of the product.
    let flow = (flow ^ (flow >> 32)).wrapping_mul(MIX_HIGH);
    (flow >> 32) as u32
}

/// Sets in `out.sampled` the live slots whose sample the flow is in, as bits.
#[inline(always)]
pub fn among<W: World>(world: &W, hash: u32, out: &mut Decision) {
    out.sampled = 0;
    let mut slot = 0;
    while slot < MEASURES_MAX as u32 && slot < world.measures() {
        if is_sampled(hash, world.sampling_threshold(slot)) {
            out.sampled |= out.live & (1 << slot);
        }
        settle_slot(world, out);
        slot += 1;
    }
}

/// Whether a flow of this hash is in the sample.
#[inline(always)]
#[must_use]
pub fn is_sampled(hash: u32, threshold: u64) -> bool {
    u64::from(hash) < threshold
}

/// The threshold that keeps `ppm` parts per million of the flows, rounded down; more than a whole is a whole.
#[must_use]
pub fn threshold(ppm: u32) -> u64 {
    let ppm = u64::from(ppm);
    (if ppm < PPM { ppm } else { PPM } << 32) / PPM
}

/// An odd number for one end of a flow: seed, address and port, moved up by a bit. The uppermost bit of an IPv6 address's lower
/// half is lost by that: two addresses that differ in it alone are one flow to the sample.
#[inline(always)]
fn end(address: [u64; 2], port: u16, seed: u64) -> u64 {
    let [high, low] = address;
    let folded = low ^ high.wrapping_mul(MIX_HIGH) ^ (u64::from(port) << 32) ^ seed;
    (folded << 1) | 1
}
