//! Builds the tries of [`tap_common::path::trie`]: disjoint ranges in, nodes out, every value pushed down to the leaves.

use tap_common::abi::tables::{Node, TRIE_ROOT_WORDS};
use tap_common::path::trie::{EXACT_BELOW, NODE};

/// A trie: its root, and the nodes below by number.
#[derive(Clone, PartialEq, Eq)]
pub struct TrieTable {
    /// A word for each value of the first sixteen bits.
    pub root: Box<[u32; TRIE_ROOT_WORDS]>,
    /// The nodes.
    pub nodes: Vec<Node>,
}

impl TrieTable {
    /// Marks the value that an address of `bits` bits leads to: the hashed table has the address.
    pub(super) fn mark(&mut self, bits: u32, address: u128) {
        let mut shift = bits - 16;
        let mut node = None;
        loop {
            let index = (address >> shift) as usize;
            let word = match node {
                None => self.root.get_mut(index & 0xffff),
                Some(node) => self.nodes.get_mut(node).and_then(|words: &mut Node| words.get_mut(index & 0xff)),
            };
            let Some(word) = word else { return };
            if *word & NODE == 0 {
                *word |= EXACT_BELOW;
                return;
            }
            node = Some((*word & !NODE) as usize);
            let Some(below) = shift.checked_sub(8) else { return };
            shift = below;
        }
    }
}

/// A trie under construction, of one address family.
pub struct TrieBuilder {
    root: Box<[u32; TRIE_ROOT_WORDS]>,
    nodes: Vec<Node>,
    bits: u32,
    nodes_max: usize,
}

/// The trie would need more nodes than allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct TooManyNodes;

impl TrieBuilder {
    /// An empty trie for addresses of `bits` bits (32 or 128), with at most `nodes_max` nodes of 1 KiB.
    #[must_use]
    pub fn new(bits: u32, nodes_max: usize) -> Self {
        // Made in place: it is large for a thread's stack.
        // SAFETY: all zero is a value of every word.
        let root = unsafe { Box::<[u32; TRIE_ROOT_WORDS]>::new_zeroed().assume_init() };
        Self { root, nodes: Vec::new(), bits, nodes_max }
    }

    /// Gives the addresses `first..=last` the value `value` (below 2^31). Ranges must not overlap.
    ///
    /// # Errors
    /// [`TooManyNodes`].
    pub fn insert(&mut self, first: u128, last: u128, value: u32) -> Result<(), TooManyNodes> {
        // The root is 65,536 words: walk those the range touches.
        let shift = self.bits - 16;
        let (from, to) = (first >> shift, last >> shift);
        for slot in from..=to {
            let start = slot << shift;
            let end = start + ((1u128 << shift) - 1);
            let word = (slot & 0xffff) as usize;
            self.cover(Place { node: None, word, start, end, depth_bits: 16 }, first.max(start), last.min(end), value)?;
        }
        Ok(())
    }

    /// The trie.
    #[must_use]
    pub fn finish(self) -> TrieTable {
        TrieTable { root: self.root, nodes: self.nodes }
    }

    fn cover(&mut self, place: Place, first: u128, last: u128, value: u32) -> Result<(), TooManyNodes> {
        if first == place.start && last == place.end {
            self.set(place.node, place.word, value);
            return Ok(());
        }
        let child = self.child(place)?;
        let depth_bits = place.depth_bits + 8;
        let shift = self.bits - depth_bits;
        let step = 1u128 << shift;
        for word in ((first - place.start) >> shift)..=((last - place.start) >> shift) {
            let start = place.start + word * step;
            let end = start + (step - 1);
            let below = Place { node: Some(child), word: (word & 0xff) as usize, start, end, depth_bits };
            self.cover(below, first.max(start), last.min(end), value)?;
        }
        Ok(())
    }

    /// The node below a word; made, with the word's value everywhere, if there is none.
    fn child(&mut self, place: Place) -> Result<usize, TooManyNodes> {
        let word = self.get(place.node, place.word);
        if word & NODE != 0 {
            return Ok((word & !NODE) as usize);
        }
        if self.nodes.len() >= self.nodes_max {
            return Err(TooManyNodes);
        }
        let child = self.nodes.len();
        self.nodes.push([word; 256]);
        let number = u32::try_from(child).map_err(|_too_large| TooManyNodes)?;
        self.set(place.node, place.word, NODE | number);
        Ok(child)
    }

    fn get(&self, node: Option<usize>, word: usize) -> u32 {
        match node {
            None => self.root.get(word),
            Some(node) => self.nodes.get(node).and_then(|words| words.get(word)),
        }
        .copied()
        .unwrap_or(0)
    }

    fn set(&mut self, node: Option<usize>, word: usize, value: u32) {
        let place = match node {
            None => self.root.get_mut(word),
            Some(node) => self.nodes.get_mut(node).and_then(|words| words.get_mut(word)),
        };
        if let Some(place) = place {
            *place = value;
        }
    }
}

/// A word of a node, and the addresses it stands for.
#[derive(Clone, Copy)]
struct Place {
    /// `None`: the root.
    node: Option<usize>,
    word: usize,
    start: u128,
    end: u128,
    depth_bits: u32,
}
