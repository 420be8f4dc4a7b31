//! Payload: which of the rules that are still possible have their signature in the packet.
//!
//! In: the frame, where its upper layer's payload begins, the signatures of the generation. Out: the rules whose signature
//! is there. Only packets whose other conditions all match come here. Bytes are compared and forgotten: none is kept, none
//! leaves this file. Bounded by the number of signatures and their length (`SIGNATURES_MAX`, `SIGNATURE_BYTES_MAX`).

use super::frame::Frame;
use super::parse::Headers;
use super::select::is_empty;
use super::world::{Step, World};
use crate::abi::rule::{RuleMask, Signature};
use crate::limits::SIGNATURES_MAX;

/// What the search needs from one signature to the next.
struct Search<F, const WORDS: usize> {
    frame: F,
    payload_offset: u32,
    ip_end: u32,
    rules: [u64; WORDS],
}

/// Takes out of `rules` those whose signature is not in the packet.
#[inline(always)]
pub fn narrow<const WORDS: usize, F: Frame, W: World>(
    frame: &F,
    world: &W,
    headers: &Headers,
    rules: &mut [u64; WORDS],
) {
    let mut search = Search {
        frame: frame.afresh(),
        payload_offset: u32::from(headers.payload_offset),
        ip_end: headers.ip_offset.wrapping_add(headers.ip_length),
        rules: *rules,
    };
    world.repeat(world.signatures().min(SIGNATURES_MAX as u32), &mut search);
    *rules = search.rules;
}

impl<const WORDS: usize, F: Frame, W: World> Step<W> for Search<F, WORDS> {
    /// Takes out of the rules those that ask for signature `index`, if it is not there.
    #[inline(always)]
    fn step(&mut self, world: &W, index: u32) {
        let Some(signature) = world.signature(index) else { return };
        let asked = and(&self.rules, &signature.rules);
        if !is_empty(&asked) && !is_there(self, signature) {
            for (rule, without) in self.rules.iter_mut().zip(&signature.rules) {
                *rule &= !without;
            }
        }
    }
}

/// Whether all bytes of the signature are present within the IP packet, and are what it asks for.
#[inline(always)]
fn is_there<F: Frame, const WORDS: usize>(search: &Search<F, WORDS>, signature: &Signature) -> bool {
    let payload = search.payload_offset;
    let end = payload.wrapping_add(signature.end);
    if payload == 0 || signature.words_used == 0 || end > search.ip_end {
        return false;
    }
    let frame = search.frame.afresh();
    let mut differs = 0;
    for (word, (asked, offset)) in signature.words.iter().zip(&signature.offsets).enumerate() {
        if (word as u32) < signature.words_used {
            let Some(found) = frame.load_u64(payload.wrapping_add_signed(*offset)) else { return false };
            differs |= (found & asked.mask) ^ asked.value;
        }
    }
    differs == 0
}

#[inline(always)]
fn and<const WORDS: usize>(one: &[u64; WORDS], other: &RuleMask) -> [u64; WORDS] {
    let mut both = *one;
    for (both, other) in both.iter_mut().zip(other) {
        *both &= other;
    }
    both
}
