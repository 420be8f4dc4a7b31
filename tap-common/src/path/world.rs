//! World: everything a decision needs beside the packet: clock, leases, samples, buckets, rules, country table.
//!
//! There are two: maps in the kernel, plain memory on the host. Both hold the same words in the same layout, and the
//! look-ups in [`super::select`] and [`super::direction`] are written once over this trait.

use crate::abi::policy::{CapPolicy, Lease, Policy};
use crate::abi::rule::{ClassMasks, RuleMask, Signature};
use crate::abi::tables::{Exact4, Exact6};
use crate::path::brief;
use crate::path::transport::MirrorTransport;
use crate::path::trie;
use crate::path::verdict::Decision;

/// A trie (see [`super::trie`]).
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

/// A hashed table of full-length addresses (see [`super::exact`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exact {
    /// IPv4 addresses.
    Four,
    /// IPv6 addresses.
    Six,
}

/// A dimension of the conditions; a generation that does not use one never looks it up. Places of one field are dimensions
/// of their own, so that a set that only names sources never looks at a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Dimension {
    /// Source addresses.
    AddressSource = 1,
    /// Destination addresses.
    AddressDestination = 2,
    /// Addresses on either side.
    AddressEither = 4,
    /// Source ports.
    PortSource = 8,
    /// Destination ports.
    PortDestination = 16,
    /// Ports on either side.
    PortEither = 32,
    /// Protocol numbers.
    Protocol = 64,
    /// TCP flags.
    TcpFlags = 128,
    /// IP length.
    IpLength = 256,
    /// Fragment state.
    Fragment = 512,
    /// Payload bytes.
    Payload = 1_024,
}

/// A CPU's share of a bucket: bytes it may spend, and the epoch they belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Credit {
    /// Epoch (time / [`crate::limits::EPOCH_NS`]).
    pub epoch: u64,
    /// Bytes left.
    pub bytes: u64,
}

/// What [`World::repeat`] does again and again.
pub trait Step<W> {
    /// Step `index`.
    fn step(&mut self, world: &W, index: u32);
}

/// What the stages ask of the world. A look-up that finds nothing is `None` or 0, and the stages take the strict side.
pub trait World {
    /// Called between stages. The kernel's side makes the verifier forget by which way the fields were found, so that the
    /// later stages are verified once and not once for each way; on the host there is nothing to do.
    fn settle(&self, decision: &mut Decision);
    /// Takes steps 0, 1, … below `times`. In the kernel it is a helper's loop, whose step the verifier follows once and not
    /// `times` times.
    #[inline(always)]
    fn repeat<S: Step<Self>>(&self, times: u32, state: &mut S)
    where
        Self: Sized,
    {
        for index in 0..times {
            state.step(self, index);
        }
    }
    /// The mirror transport that frames come in, if one is configured.
    fn transport(&self) -> Option<MirrorTransport>;
    /// The time, possibly one tick late: a CPU's cached copy. Nanoseconds of the program's clock.
    fn now_cached_ns(&mut self) -> u64;
    /// Whether the brief way is open (see [`super::brief::is_open`]).
    #[inline(always)]
    fn is_brief(&self) -> bool {
        brief::is_open(self.measures(), self.rule_words() as u32, self.dimensions(), self.transport().is_some())
    }
    /// Called before the whole way: what only that one needs is looked up. `false`: it cannot be had.
    #[inline(always)]
    fn prepare(&mut self) -> bool {
        true
    }
    /// Sampling threshold of slot 0, if its lease is live at the cached time and that need not be read afresh: what was told by
    /// [`Self::set_ready`] in this tick. Only a world that is not shown is asked.
    #[inline(always)]
    fn ready(&mut self) -> Option<u64> {
        None
    }
    /// What [`Self::ready`] is to answer until the cached time moves on.
    #[inline(always)]
    fn set_ready(&mut self, threshold: Option<u64>) {
        let _ = threshold;
    }
    /// The time, exactly; it becomes the cached time, for the dearer part is done.
    fn now_exact_ns(&mut self) -> u64;
    /// Epoch of the cached time.
    fn epoch_cached(&self) -> u64;
    /// By how much [`Self::now_cached_ns`] may be late.
    fn tick_ns(&self) -> u64;
    /// Whether decisions are shown whole, those about packets that are not selected too: in the laboratory and on the host.
    fn is_shown(&self) -> bool;
    /// Measure slots in use: those from 0 up to this.
    fn measures(&self) -> u32;
    /// Lease of a measure slot.
    fn lease(&self, slot: u32) -> Lease;
    /// Sampling threshold of a measure slot, 0 to 2^32.
    fn sampling_threshold(&self, slot: u32) -> u64;
    /// Policy of this generation.
    fn policy(&self) -> &Policy;
    /// Whether the sampling stage is on; only a laboratory program has it off.
    fn sampling_on(&self) -> bool;
    /// Whether the cap stage is on; only a laboratory program has it off.
    fn cap_on(&self) -> bool;
    /// Parameters of a bucket: 0 is the facility's, 1 + slot a measure's.
    fn cap(&self, bucket: u32) -> CapPolicy;
    /// This CPU's credit of a bucket.
    fn credit(&self, bucket: u32) -> Credit;
    /// Sets this CPU's credit of a bucket.
    fn set_credit(&mut self, bucket: u32, credit: Credit);
    /// A bucket's word.
    fn bucket(&self, bucket: u32) -> u64;
    /// Replaces a bucket's word if it still is `expected`; whether it was.
    fn bucket_exchange(&self, bucket: u32, expected: u64, new: u64) -> bool;
    /// The dimensions in which rules of the generation have conditions, as bits.
    fn dimensions(&self) -> u32;
    /// Whether any rule of the generation has a condition in this dimension.
    #[inline(always)]
    fn uses(&self, dimension: Dimension) -> bool {
        self.dimensions() & dimension as u32 != 0
    }
    /// Words of the rule masks that are in use (1 to 4).
    fn rule_words(&self) -> usize;
    /// A word of a rule mask without a rule: 0. (In the kernel one that the compiler does not know to be 0: it would write several of
    /// them by calling a loop over bytes.)
    fn no_rules(&self) -> u64 {
        0
    }
    /// The root's word for an address's first sixteen bits.
    fn trie_root(&self, trie: Trie, index: u16) -> u32;
    /// Word `index` of node `node`.
    fn trie_word(&self, trie: Trie, node: u32, index: u8) -> u32;
    /// Buckets of a hashed table, a power of two, less one; `None` when the generation has no such table.
    fn exact_mask(&self, table: Exact) -> Option<u32>;
    /// Words of a table's prefilter, a power of two, less one.
    fn prefilter_mask(&self, table: Exact) -> u32;
    /// A word of a table's prefilter.
    fn prefilter_word(&self, table: Exact, index: u32) -> u64;
    /// A bucket of the IPv4 table.
    fn exact4(&self, bucket: u32) -> Option<&Exact4>;
    /// A bucket of the IPv6 table.
    fn exact6(&self, bucket: u32) -> Option<&Exact6>;
    /// Class of an address in conditions.
    #[inline(always)]
    fn selector_class(&self, ip_version: u8, address: [u64; 2]) -> u32
    where
        Self: Sized,
    {
        trie::find(self, Trie::Selector4, Trie::Selector6, ip_version, address)
    }
    /// Class of an address in the country table, as a number.
    #[inline(always)]
    fn country_class(&self, ip_version: u8, address: [u64; 2]) -> u32
    where
        Self: Sized,
    {
        trie::find(self, Trie::Country4, Trie::Country6, ip_version, address)
    }
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
    /// Payload signatures in use.
    fn signatures(&self) -> u32;
    /// A payload signature.
    fn signature(&self, index: u32) -> Option<&Signature>;
}

/// Called after each slot, where there are several: what the slot's bits became is forgotten by the verifier, which would
/// otherwise follow every combination of them.
#[inline(always)]
pub fn settle_slot<W: World>(world: &W, decision: &mut Decision) {
    if world.measures() > 1 {
        world.settle(decision);
    }
}
