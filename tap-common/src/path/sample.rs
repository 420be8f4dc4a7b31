//! Sample: keep whole flows, both directions together, chosen by a secret seed.
//!
//! In: header fields, seed, threshold. Out: in the sample or not. Fragments hash addresses and protocol only, because a
//! later fragment has no ports. None of the standard selector functions (RFC 5475, 6.2) is direction-independent, so
//! the export names this one `gwtap-flow-hash` and gives the probability.

use super::parse::{Fragment, Headers};
use crate::abi::record::FLAG_PORTS;

/// Odd 64-bit constants with well-mixed bits (fractional parts of the square roots of 2, 3 and 5).
const MIX_HIGH: u64 = 0x6a09_e667_f3bc_c909;
const MIX_END: u64 = 0xbb67_ae85_84ca_a73b;
const MIX_FLOW: u64 = 0x3c6e_f372_fe94_f82b;

/// 32-bit hash of the packet's flow; the same for both directions.
#[inline(always)]
#[must_use]
pub fn flow_hash(headers: &Headers, seed: u64) -> u32 {
    let whole = headers.fragment == Fragment::None as u8 && headers.flags & FLAG_PORTS != 0;
    let (source_port, destination_port) = if whole { (headers.source_port, headers.destination_port) } else { (0, 0) };
    let ends =
        end_hash(headers.source, source_port, seed).wrapping_add(end_hash(headers.destination, destination_port, seed));
    let flow = (ends ^ u64::from(headers.protocol)).wrapping_mul(MIX_FLOW);
    ((flow ^ (flow >> 29)).wrapping_mul(MIX_END) >> 32) as u32
}

/// Whether a flow of this hash is in the sample.
#[inline(always)]
#[must_use]
pub fn is_sampled(hash: u32, threshold: u64) -> bool {
    u64::from(hash) < threshold
}

#[inline(always)]
fn end_hash(address: [u64; 2], port: u16, seed: u64) -> u64 {
    let [high, low] = address;
    let folded = high.wrapping_mul(MIX_HIGH) ^ low ^ (u64::from(port) << 48) ^ seed;
    let mixed = folded.wrapping_mul(MIX_END);
    mixed ^ (mixed >> 32)
}
