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

/// Set in a value: full-length addresses that lead to this word stand in the hashed table, which is asked first. Most values do not
/// have it, and most packets are spared the second table.
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
    if word & NODE != 0 {
        word = world.trie_word(trie, word & !NODE, (low >> 8) as u8);
        if word & NODE != 0 {
            word = world.trie_word(trie, word & !NODE, low as u8);
        }
    }
    leaf(world, Exact::Four, address, word)
}

#[inline(always)]
fn find6<W: World>(world: &W, trie: Trie, address: [u64; 2]) -> u32 {
    let [high, low] = address;
    let word = world.trie_root(trie, (high >> 48) as u16);
    let word = descend(world, trie, word, high, 48);
    let word = descend(world, trie, word, low, 64);
    leaf(world, Exact::Six, address, word)
}

/// Goes on from `word` by the bytes of `half` below its bit `bits`, until there is a value or no byte is left.
#[inline(always)]
fn descend<W: World>(world: &W, trie: Trie, mut word: u32, half: u64, mut bits: u32) -> u32 {
    while bits > 0 && word & NODE != 0 {
        bits -= 8;
        word = world.trie_word(trie, word & !NODE, (half >> bits) as u8);
    }
    word
}

/// The value that the last word gives. A word that still names a node behind the last byte is no value: nothing is known of the
/// address.
#[inline(always)]
fn leaf<W: World>(world: &W, table: Exact, address: [u64; 2], word: u32) -> u32 {
    if word & (NODE | EXACT_BELOW) == 0 {
        return word;
    }
    if word & NODE != 0 {
        return 0;
    }
    match exact::find(world, table, address) {
        0 => word & !EXACT_BELOW,
        class => class,
    }
}
