//! A world that notes what the stages ask of it and what it answers, and is the host's world in everything.

use crate::load::HostWorld;
use std::cell::RefCell;
use tap_common::abi::policy::{CapPolicy, Lease, Policy};
use tap_common::abi::rule::{ClassMasks, RuleMask, Signature};
use tap_common::abi::tables::{Exact4, Exact6};
use tap_common::path::transport::MirrorTransport;
use tap_common::path::verdict::Decision;
use tap_common::path::world::{Credit, Exact, Trie, World};

/// Something that a stage asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A slot's lease, and the answer.
    Lease(u32, Lease),
    /// A slot's sampling threshold, and the answer.
    Threshold(u32, u64),
    /// A bucket's parameters, and the answer.
    Cap(u32, CapPolicy),
    /// The CPU's credit of a bucket, and the answer.
    Credit(u32, Credit),
    /// The exact time.
    ExactClock,
    /// An address in a trie.
    Trie(Trie),
    /// The rules that a field's value satisfies, by the field's name.
    Table(&'static str),
}

/// The recording world.
pub(super) struct Recorder<'a> {
    world: HostWorld<'a>,
    asked: RefCell<Vec<Asked>>,
}

impl<'a> Recorder<'a> {
    /// Notes what is asked of `world`.
    #[must_use]
    pub(super) fn new(world: HostWorld<'a>) -> Self {
        Self { world, asked: RefCell::new(Vec::new()) }
    }

    /// What was asked, in order.
    #[must_use]
    pub(super) fn into_asked(self) -> Vec<Asked> {
        self.asked.into_inner()
    }

    fn note(&self, asked: Asked) {
        self.asked.borrow_mut().push(asked);
    }
}

impl World for Recorder<'_> {
    fn settle(&self, decision: &mut Decision) {
        self.world.settle(decision)
    }

    fn transport(&self) -> Option<MirrorTransport> {
        self.world.transport()
    }

    fn now_cached_ns(&mut self) -> u64 {
        self.world.now_cached_ns()
    }

    fn now_exact_ns(&mut self) -> u64 {
        let answer = self.world.now_exact_ns();
        self.note(Asked::ExactClock);
        answer
    }

    fn epoch_cached(&self) -> u64 {
        self.world.epoch_cached()
    }

    fn tick_ns(&self) -> u64 {
        self.world.tick_ns()
    }

    fn measures(&self) -> u32 {
        self.world.measures()
    }

    fn lease(&self, slot: u32) -> Lease {
        let answer = self.world.lease(slot);
        self.note(Asked::Lease(slot, answer));
        answer
    }

    fn sampling_threshold(&self, slot: u32) -> u64 {
        let answer = self.world.sampling_threshold(slot);
        self.note(Asked::Threshold(slot, answer));
        answer
    }

    fn policy(&self) -> &Policy {
        self.world.policy()
    }

    fn is_shown(&self) -> bool {
        true
    }

    fn sampling_on(&self) -> bool {
        self.world.sampling_on()
    }

    fn cap_on(&self) -> bool {
        self.world.cap_on()
    }

    fn cap(&self, bucket: u32) -> CapPolicy {
        let answer = self.world.cap(bucket);
        self.note(Asked::Cap(bucket, answer));
        answer
    }

    fn credit(&self, bucket: u32) -> Credit {
        let answer = self.world.credit(bucket);
        self.note(Asked::Credit(bucket, answer));
        answer
    }

    fn set_credit(&mut self, bucket: u32, credit: Credit) {
        self.world.set_credit(bucket, credit)
    }

    fn bucket(&self, bucket: u32) -> u64 {
        self.world.bucket(bucket)
    }

    fn bucket_exchange(&self, bucket: u32, expected: u64, new: u64) -> bool {
        self.world.bucket_exchange(bucket, expected, new)
    }

    fn dimensions(&self) -> u32 {
        self.world.dimensions()
    }

    fn rule_words(&self) -> usize {
        self.world.rule_words()
    }

    fn trie_root(&self, trie: Trie, index: u16) -> u32 {
        self.note(Asked::Trie(trie));
        self.world.trie_root(trie, index)
    }

    fn trie_word(&self, trie: Trie, node: u32, index: u8) -> u32 {
        self.world.trie_word(trie, node, index)
    }

    fn exact_mask(&self, table: Exact) -> Option<u32> {
        self.world.exact_mask(table)
    }

    fn prefilter_mask(&self, table: Exact) -> u32 {
        self.world.prefilter_mask(table)
    }

    fn prefilter_word(&self, table: Exact, index: u32) -> u64 {
        self.world.prefilter_word(table, index)
    }

    fn exact4(&self, bucket: u32) -> Option<&Exact4> {
        self.world.exact4(bucket)
    }

    fn exact6(&self, bucket: u32) -> Option<&Exact6> {
        self.world.exact6(bucket)
    }

    fn address_masks(&self, class: u32) -> Option<&ClassMasks> {
        self.note(Asked::Table("address"));
        self.world.address_masks(class)
    }

    fn port_class(&self, port: u16) -> u32 {
        self.world.port_class(port)
    }

    fn port_masks(&self, class: u32) -> Option<&ClassMasks> {
        self.note(Asked::Table("port"));
        self.world.port_masks(class)
    }

    fn protocol_mask(&self, protocol: u8) -> Option<&RuleMask> {
        self.note(Asked::Table("protocol"));
        self.world.protocol_mask(protocol)
    }

    fn tcp_flags_mask(&self, index: u32) -> Option<&RuleMask> {
        self.note(Asked::Table("tcp-flags"));
        self.world.tcp_flags_mask(index)
    }

    fn ip_length_class(&self, length: u32) -> u32 {
        self.world.ip_length_class(length)
    }

    fn ip_length_mask(&self, class: u32) -> Option<&RuleMask> {
        self.note(Asked::Table("ip-length"));
        self.world.ip_length_mask(class)
    }

    fn fragment_mask(&self, fragment: u8) -> Option<&RuleMask> {
        self.note(Asked::Table("fragment"));
        self.world.fragment_mask(fragment)
    }

    fn signatures(&self) -> u32 {
        self.world.signatures()
    }

    fn signature(&self, index: u32) -> Option<&Signature> {
        self.note(Asked::Table("payload"));
        self.world.signature(index)
    }
}
