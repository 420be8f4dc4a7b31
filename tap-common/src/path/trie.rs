//! Trie: from an address to a small number, exact to the last bit, in an array of nodes.
//!
//! The first sixteen bits of an address choose a word of the root, every further byte one of the 256 words of a node. A word
//! is a value, or, with its top bit set, the number of the node to go on with.
//! The compiler of a generation pushes every prefix's value down to the leaves, so that the first value met is the
//! answer.

use super::exact;
use super::world::{Exact, Trie, World};

/// Set in a word that names a node.
pub const NODE: u32 = 1 << 31;

/// Set in a word of a root: full-length addresses that begin with these sixteen bits stand in the hashed table, which is asked
/// before the trie. Most roots' words do not have it, and most packets are spared the second table.
pub const EXACT_BELOW: u32 = 1 << 30;

/// The value of an address, given as two 64-bit halves (IPv4 as `::ffff:a.b.c.d`).
#[inline(always)]
pub fn find<W: World>(world: &W, four: Trie, six: Trie, ip_version: u8, address: [u64; 2]) -> u32 {
    if ip_version == 4 { find4(world, four, address) } else { find6(world, six, address) }
}

#[inline(always)]
fn find4<W: World>(world: &W, trie: Trie, address: [u64; 2]) -> u32 {
    let low = address[1] as u32;
    let mut word = world.trie_root(trie, (low >> 16) as u16);
    if word & EXACT_BELOW != 0 {
        let class = exact::find(world, Exact::Four, address);
        if class != 0 {
            return class;
        }
        word &= !EXACT_BELOW;
    }
    if word & NODE != 0 {
        word = world.trie_word(trie, word & !NODE, (low >> 8) as u8);
        if word & NODE != 0 {
            word = world.trie_word(trie, word & !NODE, low as u8);
        }
    }
    leaf(word)
}

#[inline(always)]
fn find6<W: World>(world: &W, trie: Trie, address: [u64; 2]) -> u32 {
    let [high, low] = address;
    let mut word = world.trie_root(trie, (high >> 48) as u16);
    if word & EXACT_BELOW != 0 {
        let class = exact::find(world, Exact::Six, address);
        if class != 0 {
            return class;
        }
        word &= !EXACT_BELOW;
    }
    // The rest of the address, next byte on top.
    let mut rest_high = (high << 16) | (low >> 48);
    let mut rest_low = low << 16;
    let mut depth = 0;
    while depth < 14 && word & NODE != 0 {
        word = world.trie_word(trie, word & !NODE, (rest_high >> 56) as u8);
        rest_high = (rest_high << 8) | (rest_low >> 56);
        rest_low <<= 8;
        depth += 1;
    }
    leaf(word)
}

/// A word that still names a node behind the last byte is no value: nothing is known of the address.
#[inline(always)]
fn leaf(word: u32) -> u32 {
    if word & NODE == 0 { word } else { 0 }
}
