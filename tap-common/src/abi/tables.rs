//! The tables of a generation as the program reads them: one value of fixed layout that is reached without a look-up, and
//! the element types of the maps that grow with the set.

use super::policy::Policy;
use super::rule::{ClassMasks, RuleMask, Signature};
use crate::limits::{CLASSES_NEAR, IP_LENGTHS, SIGNATURES_MAX};

/// Words of a trie's root: one for each value of an address's first sixteen bits.
pub const TRIE_ROOT_WORDS: usize = 65_536;
/// A node of a trie below its root: see [`crate::path::trie`].
pub type Node = [u32; 256];

/// Everything of a generation that has a fixed size. It is the program's own data section (a map of one value), so that
/// reading it costs no look-up; measured: each look-up in an array map costs 2 ns.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct FixedTables {
    /// The measures.
    pub policy: Policy,
    /// Rules satisfied by each protocol number.
    pub protocol_mask: [RuleMask; 256],
    /// Rules satisfied by each value of the TCP flags, and by their absence.
    pub tcp_flags_mask: [RuleMask; 257],
    /// Rules satisfied by each fragment state.
    pub fragment_mask: [RuleMask; 3],
    /// Masks of the first port classes; all stand in a map.
    pub port_masks: [ClassMasks; CLASSES_NEAR],
    /// Masks of the first address classes; all stand in a map.
    pub address_masks: [ClassMasks; CLASSES_NEAR],
    /// Payload signatures.
    pub signatures: [Signature; SIGNATURES_MAX],
    /// Class of each port.
    pub port_class: [u16; 65_536],
    /// Class of each IP length.
    pub ip_length_class: [u16; IP_LENGTHS],
    /// Root of the trie of IPv4 addresses in conditions.
    pub selector4_root: [u32; TRIE_ROOT_WORDS],
    /// Root of the trie of IPv6 addresses in conditions.
    pub selector6_root: [u32; TRIE_ROOT_WORDS],
    /// Root of the IPv4 country table.
    pub country4_root: [u32; TRIE_ROOT_WORDS],
    /// Root of the IPv6 country table.
    pub country6_root: [u32; TRIE_ROOT_WORDS],
}

/// Ten full-length IPv4 addresses and their classes: one cache line. An entry of class 0 is none.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Exact4 {
    /// Addresses, in host byte order.
    pub keys: [u32; 10],
    /// Address classes.
    pub classes: [u16; 10],
    /// Always 0.
    pub reserved: [u16; 2],
}

/// Three full-length IPv6 addresses and their classes: one cache line. An entry of class 0 is none.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Exact6 {
    /// Addresses as two 64-bit halves, high first.
    pub keys: [[u64; 2]; 3],
    /// Address classes.
    pub classes: [u32; 3],
    /// Always 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Exact4>() == 64);
const _: () = assert!(size_of::<Exact6>() == 64);
const _: () = assert!(size_of::<FixedTables>().is_multiple_of(8));
const _: () = assert!(
    size_of::<FixedTables>()
        == size_of::<Policy>()
            + 32 * (256 + 257 + 3)
            + 96 * 2 * CLASSES_NEAR
            + size_of::<Signature>() * SIGNATURES_MAX
            + 2 * (65_536 + IP_LENGTHS)
            + 4 * 4 * TRIE_ROOT_WORDS
);
