//! Trie: from an address to a small number, exact to the last bit, in an array of nodes.
//!
//! The first sixteen bits of an address choose a word of the root, every further byte one of the 256 words of a node. A word
//! is a value, or, with its top bit set, the number of the node to go on with.
//! The compiler of a generation pushes every prefix's value down to the leaves, so that the first value met is the
//! answer.

use super::world::{Trie, World};

/// Set in a word that names a node.
pub const NODE: u32 = 1 << 31;

/// The value of an address, given as two 64-bit halves (IPv4 as `::ffff:a.b.c.d`).
#[inline(always)]
pub fn find<W: World>(world: &W, four: Trie, six: Trie, ip_version: u8, address: [u64; 2]) -> u32 {
    let [high, low] = address;
    if ip_version == 4 { find4(world, four, low as u32) } else { find6(world, six, high, low) }
}

#[inline(always)]
fn find4<W: World>(world: &W, trie: Trie, address: u32) -> u32 {
    let mut word = world.trie_root(trie, (address >> 16) as u16);
    if word & NODE != 0 {
        word = world.trie_word(trie, word & !NODE, (address >> 8) as u8);
        if word & NODE != 0 {
            word = world.trie_word(trie, word & !NODE, address as u8);
        }
    }
    leaf(word)
}

#[inline(always)]
fn find6<W: World>(world: &W, trie: Trie, high: u64, low: u64) -> u32 {
    let mut word = world.trie_root(trie, (high >> 48) as u16);
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
