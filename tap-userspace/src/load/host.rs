//! The host's world: the same tables in plain memory. It is the oracle of the kernel's world.

use super::tables::Tables;
use super::trie::TrieTable;
use super::{Laboratory, Observation};
use std::cell::Cell;
use tap_common::abi::policy::{BUCKETS, CapPolicy, FACILITY_BUCKET, Lease, Policy};
use tap_common::abi::rule::{ClassMasks, RuleMask, Signature};
use tap_common::abi::tables::{Exact4, Exact6};
use tap_common::limits::MEASURES_MAX;
use tap_common::path::cap::epoch_of;
use tap_common::path::decide;
use tap_common::path::frame::Bytes;
use tap_common::path::transport::MirrorTransport;
use tap_common::path::verdict::Decision;
use tap_common::path::world::{Credit, Exact, Trie, World};

/// How a laboratory world is set up; the kernel's takes the same.
#[derive(Clone, Copy, Debug)]
pub struct LaboratoryConfig {
    /// Whether the sampling stage is on.
    pub sampling: bool,
    /// Whether the cap stage is on.
    pub cap: bool,
    /// Parameters of the facility's bucket.
    pub cap_policy: CapPolicy,
    /// Parameters of each measure's own bucket; they count when there are several measures.
    pub measure_cap_policy: CapPolicy,
    /// The lease of every slot, in the injected clock.
    pub lease: Lease,
    /// Mirror transport that is removed; none takes the frames as they are.
    pub transport: Option<MirrorTransport>,
}

impl Default for LaboratoryConfig {
    /// Always live, sampling and cap off.
    fn default() -> Self {
        Self {
            sampling: false,
            cap: false,
            cap_policy: CapPolicy::default(),
            measure_cap_policy: CapPolicy::default(),
            lease: Lease { not_before_ns: 0, deadline_ns: u64::MAX },
            transport: None,
        }
    }
}

/// A world in memory, with one CPU.
pub struct HostWorld<'a> {
    tables: &'a Tables,
    config: LaboratoryConfig,
    leases: [Lease; MEASURES_MAX],
    measure_caps: [CapPolicy; MEASURES_MAX],
    now_ns: u64,
    credits: [Credit; BUCKETS],
    buckets: [Cell<u64>; BUCKETS],
}

impl<'a> HostWorld<'a> {
    /// A world over `tables`.
    #[must_use]
    pub fn new(tables: &'a Tables, config: LaboratoryConfig) -> Self {
        Self {
            tables,
            config,
            leases: [config.lease; MEASURES_MAX],
            measure_caps: [config.measure_cap_policy; MEASURES_MAX],
            now_ns: 0,
            credits: [Credit::default(); BUCKETS],
            buckets: Default::default(),
        }
    }

    /// Goes on with another generation's tables; leases, buckets and credits carry over, as in the shared maps.
    pub fn replace(&mut self, tables: &'a Tables) {
        self.tables = tables;
    }

    /// Sets the injected clock; [`Laboratory::decide`] does it for each frame.
    pub fn set_now(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// Sets the parameters of a measure's own bucket.
    pub fn set_slot_cap(&mut self, slot: u32, policy: CapPolicy) {
        if let Some(place) = self.measure_caps.get_mut(slot as usize) {
            *place = policy;
        }
    }
}

impl Laboratory for HostWorld<'_> {
    fn decide(&mut self, frame: &[u8], now_ns: u64) -> Result<Observation, super::LoadError> {
        self.now_ns = now_ns;
        let mut decision = Decision::new();
        decide(&mut Bytes::new(frame), self, &mut decision);
        Ok(decision)
    }

    fn set_slot_lease(&mut self, slot: u32, lease: Lease) -> Result<(), super::LoadError> {
        if let Some(place) = self.leases.get_mut(slot as usize) {
            *place = lease;
        }
        Ok(())
    }
}

fn at<T>(table: &[T], index: u32) -> Option<&T> {
    table.get(index as usize)
}

impl World for HostWorld<'_> {
    fn settle(&self, _decision: &mut Decision) {}

    fn transport(&self) -> Option<MirrorTransport> {
        self.config.transport
    }

    fn now_cached_ns(&mut self) -> u64 {
        self.now_ns
    }

    fn now_exact_ns(&mut self) -> u64 {
        self.now_ns
    }

    fn epoch_cached(&self) -> u64 {
        epoch_of(self.now_ns)
    }

    fn tick_ns(&self) -> u64 {
        0
    }

    fn measures(&self) -> u32 {
        self.tables.measures
    }

    fn lease(&self, slot: u32) -> Lease {
        at(&self.leases, slot).copied().unwrap_or_default()
    }

    fn sampling_threshold(&self, slot: u32) -> u64 {
        at(&self.tables.sampling_thresholds, slot).copied().unwrap_or(0)
    }

    fn policy(&self) -> &Policy {
        &self.tables.fixed.policy
    }

    fn is_shown(&self) -> bool {
        true
    }

    fn sampling_on(&self) -> bool {
        self.config.sampling
    }

    fn cap_on(&self) -> bool {
        self.config.cap
    }

    fn cap(&self, bucket: u32) -> CapPolicy {
        match bucket.checked_sub(FACILITY_BUCKET + 1) {
            None => self.config.cap_policy,
            Some(slot) => at(&self.measure_caps, slot).copied().unwrap_or_default(),
        }
    }

    fn credit(&self, bucket: u32) -> Credit {
        at(&self.credits, bucket).copied().unwrap_or_default()
    }

    fn set_credit(&mut self, bucket: u32, credit: Credit) {
        if let Some(place) = self.credits.get_mut(bucket as usize) {
            *place = credit;
        }
    }

    fn bucket(&self, bucket: u32) -> u64 {
        at(&self.buckets, bucket).map_or(0, Cell::get)
    }

    fn bucket_exchange(&self, bucket: u32, expected: u64, new: u64) -> bool {
        let Some(word) = at(&self.buckets, bucket) else { return false };
        let same = word.get() == expected;
        if same {
            word.set(new);
        }
        same
    }

    fn dimensions(&self) -> u32 {
        self.tables.dimensions
    }

    fn rule_words(&self) -> usize {
        self.tables.rule_words as usize
    }

    fn trie_root(&self, trie: Trie, index: u16) -> u32 {
        at(&*self.trie(trie).root, u32::from(index)).copied().unwrap_or(0)
    }

    fn trie_word(&self, trie: Trie, node: u32, index: u8) -> u32 {
        at(&self.trie(trie).nodes, node).and_then(|words| words.get(usize::from(index))).copied().unwrap_or(0)
    }

    fn exact_mask(&self, table: Exact) -> Option<u32> {
        match table {
            Exact::Four => self.tables.exact4.bucket_count(),
            Exact::Six => self.tables.exact6.bucket_count(),
        }
        .checked_sub(1)
    }

    fn prefilter_mask(&self, table: Exact) -> u32 {
        let words = match table {
            Exact::Four => self.tables.exact4.prefilter_words(),
            Exact::Six => self.tables.exact6.prefilter_words(),
        };
        words - 1
    }

    fn prefilter_word(&self, table: Exact, index: u32) -> u64 {
        match table {
            Exact::Four => at(&self.tables.exact4.prefilter, index),
            Exact::Six => at(&self.tables.exact6.prefilter, index),
        }
        .copied()
        .unwrap_or(0)
    }

    fn exact4(&self, bucket: u32) -> Option<&Exact4> {
        at(&self.tables.exact4.buckets, bucket)
    }

    fn exact6(&self, bucket: u32) -> Option<&Exact6> {
        at(&self.tables.exact6.buckets, bucket)
    }

    fn address_masks(&self, class: u32) -> Option<&ClassMasks> {
        at(&self.tables.address_masks, class)
    }

    fn port_class(&self, port: u16) -> u32 {
        at(&self.tables.fixed.port_class, u32::from(port)).copied().map_or(0, u32::from)
    }

    fn port_masks(&self, class: u32) -> Option<&ClassMasks> {
        at(&self.tables.port_masks, class)
    }

    fn protocol_mask(&self, protocol: u8) -> Option<&RuleMask> {
        at(&self.tables.fixed.protocol_mask, u32::from(protocol))
    }

    fn tcp_flags_mask(&self, index: u32) -> Option<&RuleMask> {
        at(&self.tables.fixed.tcp_flags_mask, index)
    }

    fn ip_length_class(&self, length: u32) -> u32 {
        at(&self.tables.fixed.ip_length_class, length).copied().map_or(0, u32::from)
    }

    fn ip_length_mask(&self, class: u32) -> Option<&RuleMask> {
        at(&self.tables.ip_length_mask, class)
    }

    fn fragment_mask(&self, fragment: u8) -> Option<&RuleMask> {
        at(&self.tables.fixed.fragment_mask, u32::from(fragment))
    }

    fn signatures(&self) -> u32 {
        self.tables.signatures
    }

    fn signature(&self, index: u32) -> Option<&Signature> {
        at(&self.tables.fixed.signatures, index)
    }
}

impl HostWorld<'_> {
    fn trie(&self, trie: Trie) -> &TrieTable {
        match trie {
            Trie::Selector4 => &self.tables.selector4,
            Trie::Selector6 => &self.tables.selector6,
            Trie::Country4 => &self.tables.country4,
            Trie::Country6 => &self.tables.country6,
        }
    }
}
