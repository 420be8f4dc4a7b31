//! World: everything a decision needs beside the packet: clock, lease, sample, bucket, rules, country table.
//!
//! There are two: maps in the kernel, plain memory on the host. Both hold the same words in the same layout, and the
//! look-ups in [`super::select`] and [`super::direction`] are written once over this trait.

use crate::abi::policy::{CapPolicy, Lease, MeasurePolicy};
use crate::abi::rule::{ClassMasks, RuleMask};
use crate::path::transport::MirrorTransport;
use crate::path::verdict::Decision;

/// A trie's table: nodes of 256 words (see [`super::trie`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trie {
    /// IPv4 addresses named by conditions; values are address classes.
    Selector4,
    /// IPv6 addresses named by conditions.
    Selector6,
    /// IPv4 country table; values are [`super::direction::AddressClass`] numbers.
    Country4,
    /// IPv6 country table.
    Country6,
}

/// A dimension of the conditions; a generation that does not use one never looks it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Dimension {
    /// Addresses.
    Address = 1,
    /// Ports.
    Port = 2,
    /// Protocol numbers.
    Protocol = 4,
    /// TCP flags.
    TcpFlags = 8,
    /// IP length.
    IpLength = 16,
    /// Fragment state.
    Fragment = 32,
}

/// A CPU's share of the bucket: bytes it may spend, and the epoch they belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Credit {
    /// Epoch (time / [`crate::limits::EPOCH_NS`]).
    pub epoch: u64,
    /// Bytes left.
    pub bytes: u64,
}

/// What the stages ask of the world. A look-up that finds nothing is `None`, and the stages take the strict side.
pub trait World {
    /// Called between stages. The kernel's side makes the verifier forget by which way the fields were found, so that the
    /// later stages are verified once and not once for each way; on the host there is nothing to do.
    fn settle(&self, decision: &mut Decision);
    /// The mirror transport that frames come in, if one is configured.
    fn transport(&self) -> Option<MirrorTransport>;
    /// The time, possibly one tick late: a CPU's cached copy. Nanoseconds of the program's clock.
    fn now_cached_ns(&mut self) -> u64;
    /// The time, exactly; it becomes the cached time, for the dearer part is done.
    fn now_exact_ns(&mut self) -> u64;
    /// By how much [`Self::now_cached_ns`] may be late.
    fn tick_ns(&self) -> u64;
    /// Lease of a measure slot.
    fn lease(&self, slot: u32) -> Option<Lease>;
    /// Policy of a measure slot in this generation.
    fn policy(&self, slot: u32) -> Option<&MeasurePolicy>;
    /// Whether the sampling stage is on; only a laboratory program has it off.
    fn sampling_on(&self) -> bool;
    /// Whether the cap stage is on; only a laboratory program has it off.
    fn cap_on(&self) -> bool;
    /// Parameters of the facility's bucket.
    fn cap(&self) -> Option<CapPolicy>;
    /// This CPU's credit.
    fn credit(&self) -> Credit;
    /// Sets this CPU's credit.
    fn set_credit(&mut self, credit: Credit);
    /// The bucket's word.
    fn bucket(&self) -> Option<u64>;
    /// Replaces the bucket's word if it still is `expected`; whether it was.
    fn bucket_exchange(&self, expected: u64, new: u64) -> bool;
    /// Whether any rule of the generation has a condition in this dimension.
    fn uses(&self, dimension: Dimension) -> bool;
    /// Words of the rule masks that are in use (1 to 4).
    fn rule_words(&self) -> usize;
    /// Word `index` of node `node`.
    fn trie_word(&self, trie: Trie, node: u32, index: u8) -> u32;
    /// Masks of an address class.
    fn address_masks(&self, class: u32) -> Option<&ClassMasks>;
    /// Class of a port.
    fn port_class(&self, port: u16) -> u32;
    /// Masks of a port class.
    fn port_masks(&self, class: u32) -> Option<&ClassMasks>;
    /// Rules satisfied by a protocol number.
    fn protocol_mask(&self, protocol: u8) -> Option<&RuleMask>;
    /// Rules satisfied by TCP flags: 0 to 255, 256 when there are none.
    fn tcp_flags_mask(&self, index: u32) -> Option<&RuleMask>;
    /// Class of an IP length (0 to 65,575).
    fn ip_length_class(&self, length: u32) -> u32;
    /// Rules satisfied by a length class.
    fn ip_length_mask(&self, class: u32) -> Option<&RuleMask>;
    /// Rules satisfied by a fragment state.
    fn fragment_mask(&self, fragment: u8) -> Option<&RuleMask>;
}
