//! Exact: from a full-length address to its class, for sets with many of them, where tries would take too much memory.
//!
//! A bitmap answers for most addresses that they are in no rule; the others are compared with what lies in one of two
//! buckets, each a cache line. Nothing is probable about the answer: whole addresses are compared. An address for which the
//! compiler of the generation found no place in its two buckets stands in the trie, like every prefix.

use super::world::{Exact, World};

/// Odd constants with well-mixed bits (fractional parts of the square roots of 7 and 11).
const MIX_LOW: u64 = 0xa54f_f53a_5f1d_36f1;
const MIX_HIGH: u64 = 0x510e_527f_ade6_82d1;

/// Where an address's class may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Its bit of the prefilter: in which word.
    pub prefilter_word: u32,
    /// Its bit of the prefilter: which bit of the word.
    pub prefilter_bit: u32,
    /// The bucket to look into first.
    pub first: u32,
    /// The bucket to look into second.
    pub second: u32,
}

/// The places of an address, given as two 64-bit halves, in a table of these sizes.
#[inline(always)]
#[must_use]
pub fn places(address: [u64; 2], exact_mask: u32, prefilter_mask: u32) -> Places {
    let [high, low] = address;
    let mixed = (low ^ high.wrapping_mul(MIX_HIGH)).wrapping_mul(MIX_LOW);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(MIX_HIGH);
    Places {
        prefilter_word: (mixed >> 38) as u32 & prefilter_mask,
        prefilter_bit: (mixed >> 32) as u32 & 63,
        first: (mixed >> 8) as u32 & exact_mask,
        second: ((mixed >> 40) ^ mixed) as u32 & exact_mask,
    }
}

/// The class of an address (IPv4 as `::ffff:a.b.c.d`), or 0 when no entry of its family's hashed table is this address.
#[inline(always)]
pub fn find<W: World>(world: &W, table: Exact, address: [u64; 2]) -> u32 {
    let Some(exact_mask) = world.exact_mask(table) else { return 0 };
    let places = places(address, exact_mask, world.prefilter_mask(table));
    if (world.prefilter_word(table, places.prefilter_word) >> places.prefilter_bit) & 1 == 0 {
        return 0;
    }
    let class = in_bucket(world, table, places.first, address);
    if class != 0 { class } else { in_bucket(world, table, places.second, address) }
}

#[inline(always)]
fn in_bucket<W: World>(world: &W, table: Exact, bucket: u32, address: [u64; 2]) -> u32 {
    let [high, low] = address;
    let mut class = 0;
    match table {
        Exact::Four => {
            let Some(bucket) = world.exact4(bucket) else { return 0 };
            for (key, found) in bucket.keys.iter().zip(&bucket.classes) {
                class |= if *key == low as u32 { u32::from(*found) } else { 0 };
            }
        }
        Exact::Six => {
            let Some(bucket) = world.exact6(bucket) else { return 0 };
            for ([key_high, key_low], found) in bucket.keys.iter().zip(&bucket.classes) {
                class |= if *key_high == high && *key_low == low { *found } else { 0 };
            }
        }
    }
    class
}
