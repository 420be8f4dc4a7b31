//! The hash tree of RFC 6962 (section 2.1): pure hashing.
//!
//! In: leaf hashes, or the hashes of whole subtrees. Out: the root, inclusion and consistency proofs, and whether a proof
//! holds. It reads nothing: whoever asks for a proof hands over the subtree hashes it needs. Bound: a proof has at most
//! [`PROOF_HASHES_MAX`] hashes, one for each level of a tree of 2^63 leaves.

use crate::limits::PROOF_HASHES_MAX;
use sha2::{Digest as _, Sha256};

/// A hash of the tree.
pub type Hash = [u8; 32];

/// What is hashed before a leaf's bytes, and before two nodes': a leaf can never be taken for a node.
const LEAF_PREFIX: u8 = 0;
const NODE_PREFIX: u8 = 1;

/// Hash of a leaf's bytes.
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Hash {
    Sha256::new().chain_update([LEAF_PREFIX]).chain_update(data).finalize().into()
}

/// Hash of a node over its two children.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([NODE_PREFIX]).chain_update(left).chain_update(right).finalize().into()
}

/// Root of the tree without leaves.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// A growing tree's largest whole subtrees, from the left: all that the root needs.
#[derive(Clone, Debug, Default)]
pub struct Range {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Range {
    /// Adds the next leaf, by its hash.
    pub fn push(&mut self, hash: Hash) {
        let mut hash = hash;
        let mut size = self.size;
        while size & 1 == 1 {
            let Some(left) = self.subtrees.pop() else { break };
            hash = node_hash(&left, &hash);
            size >>= 1;
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// What was pushed were hashes of subtrees of `2^levels` leaves; what follows is of one leaf each.
    pub fn descend(&mut self, levels: u32) {
        self.size = self.size.checked_shl(levels).unwrap_or(0);
    }

    /// Leaves so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root over all of them.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut subtrees = self.subtrees.iter().rev().copied();
        let last = subtrees.next().unwrap_or_else(empty_root);
        subtrees.fold(last, |right, left| node_hash(&left, &right))
    }
}

/// Root over leaf hashes.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    let mut range = Range::default();
    leaves.iter().for_each(|leaf| range.push(*leaf));
    range.root()
}

/// The hash of a whole subtree: `(level, index)` covers the leaves from `index * 2^level`, `2^level` of them.
pub trait Subtrees {
    /// Why a hash is not to be had.
    type Error;

    /// The hash of a whole subtree.
    ///
    /// # Errors
    /// It is not to be had.
    fn subtree(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Root over the leaves from 0 to `size`.
///
/// # Errors
/// A subtree is not to be had.
pub fn tree_root<S: Subtrees>(tree: &S, size: u64) -> Result<Hash, S::Error> {
    if size == 0 { Ok(empty_root()) } else { range_hash(tree, 0, size) }
}

/// Proof that leaf `index` is in the tree of `size` leaves: siblings from the leaf to the root. `index` must be below `size`.
///
/// # Errors
/// A subtree is not to be had.
pub fn prove_inclusion<S: Subtrees>(tree: &S, index: u64, size: u64) -> Result<Vec<Hash>, S::Error> {
    let (mut low, mut high) = (0, size);
    let mut proof = Vec::new();
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            proof.push(range_hash(tree, middle, high)?);
            high = middle;
        } else {
            proof.push(range_hash(tree, low, middle)?);
            low = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Proof that the tree of `new` leaves begins with the tree of `old` leaves. `old` must not be above `new`.
///
/// # Errors
/// A subtree is not to be had.
pub fn prove_consistency<S: Subtrees>(tree: &S, old: u64, new: u64) -> Result<Vec<Hash>, S::Error> {
    let mut proof = Vec::new();
    if old == 0 || old == new {
        return Ok(proof);
    }
    let (mut low, mut high) = (0, new);
    while high != old {
        let middle = low + split(high - low);
        if old <= middle {
            proof.push(range_hash(tree, middle, high)?);
            high = middle;
        } else {
            proof.push(range_hash(tree, low, middle)?);
            low = middle;
        }
    }
    // Without it, the old root is known already.
    if low != 0 {
        proof.push(range_hash(tree, low, high)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `proof` shows that `leaf` is number `index` of the tree of `size` leaves with this root (RFC 9162, 2.1.3.2).
#[must_use]
pub fn inclusion_holds(proof: &[Hash], leaf: &Hash, index: u64, size: u64, root: &Hash) -> bool {
    if index >= size || proof.len() > PROOF_HASHES_MAX {
        return false;
    }
    let mut walk = Walk { node: index, last: size - 1 };
    let mut hash = *leaf;
    for sibling in proof {
        hash = match walk.up() {
            Some(Side::Left) => node_hash(sibling, &hash),
            Some(Side::Right) => node_hash(&hash, sibling),
            None => return false,
        };
    }
    walk.last == 0 && hash == *root
}

/// Whether `proof` shows that the tree of `new` leaves with root `new_root` begins with that of `old` leaves and `old_root`
/// (RFC 9162, 2.1.4.2).
#[must_use]
pub fn consistency_holds(proof: &[Hash], (old, old_root): (u64, &Hash), (new, new_root): (u64, &Hash)) -> bool {
    if old > new || proof.len() > PROOF_HASHES_MAX {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    let mut rest = proof.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { rest.next() };
    let Some(first) = first else { return false };
    let mut walk = Walk { node: old - 1, last: new - 1 };
    while walk.node & 1 == 1 {
        walk.shift();
    }
    let (mut of_old, mut of_new) = (*first, *first);
    for sibling in rest {
        match walk.up() {
            Some(Side::Left) => {
                of_old = node_hash(sibling, &of_old);
                of_new = node_hash(sibling, &of_new);
            }
            Some(Side::Right) => of_new = node_hash(&of_new, sibling),
            None => return false,
        }
    }
    walk.last == 0 && of_old == *old_root && of_new == *new_root
}

/// Where a sibling stands.
enum Side {
    Left,
    Right,
}

/// The way from a node to the root: its index and the last index, on each level.
struct Walk {
    node: u64,
    last: u64,
}

impl Walk {
    /// The side of the next sibling, and one level up; `None` at the root.
    fn up(&mut self) -> Option<Side> {
        if self.last == 0 {
            return None;
        }
        let side = if self.node & 1 == 1 || self.node == self.last {
            // A last node without a sibling is its own parent, as far up as it takes.
            while self.node & 1 == 0 && self.node != 0 {
                self.shift();
            }
            Side::Left
        } else {
            Side::Right
        };
        self.shift();
        Some(side)
    }

    fn shift(&mut self) {
        self.node >>= 1;
        self.last >>= 1;
    }
}

/// Largest power of two below `size` (which is over 1).
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// Hash over the leaves from `low` to `high`, which a walk from the root arrives at.
fn range_hash<S: Subtrees>(tree: &S, low: u64, high: u64) -> Result<Hash, S::Error> {
    let size = high - low;
    if size.is_power_of_two() {
        let level = size.ilog2();
        return tree.subtree(level, low >> level);
    }
    let middle = low + split(size);
    Ok(node_hash(&range_hash(tree, low, middle)?, &range_hash(tree, middle, high)?))
}
