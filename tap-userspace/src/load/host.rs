//! The host's world: the same tables in plain memory. It is the oracle of the kernel's world.

use super::tables::Tables;
use super::{Laboratory, Observation};
use tap_common::abi::policy::{CapPolicy, Lease, MeasurePolicy};
use tap_common::abi::rule::{ClassMasks, RuleMask};
use tap_common::path::decide;
use tap_common::path::frame::Bytes;
use tap_common::path::transport::MirrorTransport;
use tap_common::path::verdict::Decision;
use tap_common::path::world::{Credit, Dimension, Trie, World};

/// How a laboratory world is set up; the kernel's takes the same.
#[derive(Clone, Copy, Debug)]
pub struct LaboratoryConfig {
    /// Whether the sampling stage is on.
    pub sampling: bool,
    /// Whether the cap stage is on.
    pub cap: bool,
    /// The bucket's parameters.
    pub cap_policy: CapPolicy,
    /// The lease of slot 0, in the injected clock.
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
            lease: Lease { not_before_ns: 0, deadline_ns: u64::MAX },
            transport: None,
        }
    }
}

/// A world in memory, with one CPU.
pub struct HostWorld<'a> {
    tables: &'a Tables,
    config: LaboratoryConfig,
    now_ns: u64,
    credit: Credit,
    bucket: std::cell::Cell<u64>,
}

impl<'a> HostWorld<'a> {
    /// A world over `tables`.
    #[must_use]
    pub fn new(tables: &'a Tables, config: LaboratoryConfig) -> Self {
        Self { tables, config, now_ns: 0, credit: Credit::default(), bucket: std::cell::Cell::new(0) }
    }
}

impl Laboratory for HostWorld<'_> {
    fn decide(&mut self, frame: &[u8], now_ns: u64) -> Result<Observation, super::LoadError> {
        self.now_ns = now_ns;
        let mut decision = Decision::new();
        decide(&mut Bytes::new(frame), self, &mut decision);
        Ok(decision)
    }

    fn set_lease(&mut self, lease: Lease) -> Result<(), super::LoadError> {
        self.config.lease = lease;
        Ok(())
    }
}

fn at<T>(table: &[T], index: u32) -> Option<&T> {
    table.get(usize::try_from(index).ok()?)
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

    fn tick_ns(&self) -> u64 {
        0
    }

    fn lease(&self, slot: u32) -> Option<Lease> {
        (slot == 0).then_some(self.config.lease)
    }

    fn policy(&self, slot: u32) -> Option<&MeasurePolicy> {
        (slot == 0).then_some(&self.tables.policy)
    }

    fn sampling_on(&self) -> bool {
        self.config.sampling
    }

    fn cap_on(&self) -> bool {
        self.config.cap
    }

    fn cap(&self) -> Option<CapPolicy> {
        Some(self.config.cap_policy)
    }

    fn credit(&self) -> Credit {
        self.credit
    }

    fn set_credit(&mut self, credit: Credit) {
        self.credit = credit;
    }

    fn bucket(&self) -> Option<u64> {
        Some(self.bucket.get())
    }

    fn bucket_exchange(&self, expected: u64, new: u64) -> bool {
        let same = self.bucket.get() == expected;
        if same {
            self.bucket.set(new);
        }
        same
    }

    fn uses(&self, dimension: Dimension) -> bool {
        self.tables.dimensions & dimension as u32 != 0
    }

    fn rule_words(&self) -> usize {
        self.tables.rule_words as usize
    }

    fn trie_word(&self, trie: Trie, node: u32, index: u8) -> u32 {
        let nodes = match trie {
            Trie::Selector4 => &self.tables.selector4,
            Trie::Selector6 => &self.tables.selector6,
            Trie::Country4 => &self.tables.country4,
            Trie::Country6 => &self.tables.country6,
        };
        at(nodes, node).and_then(|words| words.get(usize::from(index))).copied().unwrap_or(0)
    }

    fn address_masks(&self, class: u32) -> Option<&ClassMasks> {
        at(&self.tables.address_masks, class)
    }

    fn port_class(&self, port: u16) -> u32 {
        at(&self.tables.port_class, u32::from(port)).copied().map_or(0, u32::from)
    }

    fn port_masks(&self, class: u32) -> Option<&ClassMasks> {
        at(&self.tables.port_masks, class)
    }

    fn protocol_mask(&self, protocol: u8) -> Option<&RuleMask> {
        at(&self.tables.protocol_mask, u32::from(protocol))
    }

    fn tcp_flags_mask(&self, index: u32) -> Option<&RuleMask> {
        at(&self.tables.tcp_flags_mask, index)
    }

    fn ip_length_class(&self, length: u32) -> u32 {
        at(&self.tables.ip_length_class, length).copied().map_or(0, u32::from)
    }

    fn ip_length_mask(&self, class: u32) -> Option<&RuleMask> {
        at(&self.tables.ip_length_mask, class)
    }

    fn fragment_mask(&self, fragment: u8) -> Option<&RuleMask> {
        at(&self.tables.fragment_mask, u32::from(fragment))
    }
}
