//! The bucket of the cap, every interleaving: on two and three CPUs every order of loads and exchanges of the shared word, for
//! every choice of late and exact clocks. In each epoch no more is admitted than its credit.
//!
//! The product's own code runs: between two accesses to the word a CPU is a function of what it read, so the model runs a
//! charge again from its beginning with what the word answered so far, and stops it at the first access that is new.

#![allow(clippy::indexing_slicing, reason = "helpers of a test")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use tap_common::abi::policy::{CapPolicy, FACILITY_BUCKET, Lease, Policy};
use tap_common::abi::rule::{ClassMasks, RuleMask, Signature};
use tap_common::abi::tables::{Exact4, Exact6};
use tap_common::limits::EPOCH_NS;
use tap_common::path::cap;
use tap_common::path::transport::MirrorTransport;
use tap_common::path::verdict::Decision;
use tap_common::path::world::{Credit, Exact, Trie, World};

/// Credit of an epoch, a CPU's chunk and a packet: three packets fit an epoch, and a chunk leaves half a packet over, so that a
/// remainder that outlives its epoch pays for a fourth.
const POLICY: CapPolicy = CapPolicy { epoch_credit_bytes: 390, chunk_bytes: 150 };
const PACKET_BYTES: u32 = 100;
/// A number of epochs that the word's tag can hold.
const FIRST_EPOCH: u64 = 1_000;

/// What the word answered an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Loaded(u64),
    Exchanged(bool),
}

/// An access that the word has not answered yet.
#[derive(Clone, Copy)]
enum Access {
    Load,
    Exchange { expected: u64, new: u64 },
}

/// One charge of one CPU, up to its first access without an answer.
struct Charge<'a> {
    answers: &'a [Answer],
    next: Cell<usize>,
    pending: RefCell<Option<Access>>,
    credit: Credit,
    cached_ns: u64,
    exact_ns: u64,
}

impl Charge<'_> {
    /// The next answer; without one the access is noted, and what the charge does from here on counts for nothing.
    fn answer(&self, access: Access) -> Option<Answer> {
        if self.pending.borrow().is_some() {
            return None;
        }
        let answer = self.answers.get(self.next.get()).copied();
        self.next.set(self.next.get() + 1);
        if answer.is_none() {
            self.pending.replace(Some(access));
        }
        answer
    }
}

impl World for Charge<'_> {
    fn bucket(&self, _bucket: u32) -> u64 {
        match self.answer(Access::Load) {
            Some(Answer::Loaded(word)) => word,
            _ => 0,
        }
    }
    fn bucket_exchange(&self, _bucket: u32, expected: u64, new: u64) -> bool {
        self.answer(Access::Exchange { expected, new }) == Some(Answer::Exchanged(true))
    }
    fn now_cached_ns(&mut self) -> u64 {
        self.cached_ns
    }
    fn now_exact_ns(&mut self) -> u64 {
        self.cached_ns = self.exact_ns;
        self.exact_ns
    }
    fn epoch_cached(&self) -> u64 {
        cap::epoch_of(self.cached_ns)
    }
    fn cap(&self, _bucket: u32) -> CapPolicy {
        POLICY
    }
    fn credit(&self, _bucket: u32) -> Credit {
        self.credit
    }
    fn set_credit(&mut self, _bucket: u32, credit: Credit) {
        self.credit = credit;
    }
    // Nothing else of the world is asked for by the cap.
    fn settle(&self, _decision: &mut Decision) {}
    fn transport(&self) -> Option<MirrorTransport> {
        None
    }
    fn tick_ns(&self) -> u64 {
        0
    }
    fn measures(&self) -> u32 {
        1
    }
    fn lease(&self, _slot: u32) -> Lease {
        Lease::default()
    }
    fn sampling_threshold(&self, _slot: u32) -> u64 {
        0
    }
    fn policy(&self) -> &Policy {
        unreachable!("the cap asks for no policy of rules")
    }
    fn is_shown(&self) -> bool {
        true
    }

    fn sampling_on(&self) -> bool {
        true
    }
    fn cap_on(&self) -> bool {
        true
    }
    fn dimensions(&self) -> u32 {
        0
    }
    fn rule_words(&self) -> usize {
        1
    }
    fn trie_root(&self, _trie: Trie, _index: u16) -> u32 {
        0
    }
    fn trie_word(&self, _trie: Trie, _node: u32, _index: u8) -> u32 {
        0
    }
    fn exact_mask(&self, _table: Exact) -> Option<u32> {
        None
    }
    fn prefilter_mask(&self, _table: Exact) -> u32 {
        0
    }
    fn prefilter_word(&self, _table: Exact, _index: u32) -> u64 {
        0
    }
    fn exact4(&self, _bucket: u32) -> Option<&Exact4> {
        None
    }
    fn exact6(&self, _bucket: u32) -> Option<&Exact6> {
        None
    }
    fn address_masks(&self, _class: u32) -> Option<&ClassMasks> {
        None
    }
    fn port_class(&self, _port: u16) -> u32 {
        0
    }
    fn port_masks(&self, _class: u32) -> Option<&ClassMasks> {
        None
    }
    fn protocol_mask(&self, _protocol: u8) -> Option<&RuleMask> {
        None
    }
    fn tcp_flags_mask(&self, _index: u32) -> Option<&RuleMask> {
        None
    }
    fn ip_length_class(&self, _length: u32) -> u32 {
        0
    }
    fn ip_length_mask(&self, _class: u32) -> Option<&RuleMask> {
        None
    }
    fn fragment_mask(&self, _fragment: u8) -> Option<&RuleMask> {
        None
    }
    fn signatures(&self) -> u32 {
        0
    }
    fn signature(&self, _index: u32) -> Option<&Signature> {
        None
    }
}

/// A packet's clocks in epochs after the first: as cached, and as read exactly.
type Clocks = (u64, u64);

/// One CPU between two accesses.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Cpu {
    packets_done: usize,
    credit: (u64, u64),
    answers: Vec<Answer>,
}

/// Everything that is shared or kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    word: u64,
    cpus: Vec<Cpu>,
    /// Bytes admitted by the epoch whose credit paid.
    admitted: BTreeMap<u64, u64>,
}

impl State {
    /// The state after CPU `number` made one access and went on to its next; `None` when all its packets are done.
    fn step(&self, number: usize, packets: &[Vec<Clocks>]) -> Option<Self> {
        let cpu = &self.cpus[number];
        let (cached, exact) = *packets[number].get(cpu.packets_done)?;
        let run = |answers: &[Answer]| {
            let mut charge = Charge {
                answers,
                next: Cell::new(0),
                pending: RefCell::new(None),
                credit: Credit { epoch: cpu.credit.0, bytes: cpu.credit.1 },
                cached_ns: (FIRST_EPOCH + cached) * EPOCH_NS,
                exact_ns: (FIRST_EPOCH + exact) * EPOCH_NS,
            };
            let admitted = cap::charge(&mut charge, FACILITY_BUCKET, PACKET_BYTES);
            (charge.pending.take(), admitted, charge.credit)
        };
        let mut next = self.clone();
        let mut answers = cpu.answers.clone();
        if let Some(access) = run(&answers).0 {
            answers.push(match access {
                Access::Load => Answer::Loaded(self.word),
                Access::Exchange { expected, new } => {
                    if self.word == expected {
                        next.word = new;
                    }
                    Answer::Exchanged(self.word == expected)
                }
            });
        }
        let (pending, admitted, credit) = run(&answers);
        let cpu = &mut next.cpus[number];
        if pending.is_some() {
            cpu.answers = answers;
            return Some(next);
        }
        *cpu = Cpu { packets_done: cpu.packets_done + 1, credit: (credit.epoch, credit.bytes), answers: Vec::new() };
        if admitted {
            assert!(credit.epoch >= FIRST_EPOCH + cached, "credit of an epoch that is gone for this CPU was spent");
            *next.admitted.entry(credit.epoch).or_default() += u64::from(PACKET_BYTES);
        }
        Some(next)
    }
}

/// Visits every state that any interleaving reaches; gives how many, and the most that an epoch admitted.
fn explore(packets: &[Vec<Clocks>]) -> (usize, u64) {
    let mut seen = BTreeSet::new();
    let mut most = 0;
    let mut open = vec![State { cpus: vec![Cpu::default(); packets.len()], ..State::default() }];
    while let Some(state) = open.pop() {
        for (epoch, bytes) in &state.admitted {
            let credit = POLICY.epoch_credit_bytes;
            assert!(*bytes <= credit, "{bytes} bytes of {credit} in epoch {epoch}, clocks {packets:?}: {state:?}");
            most = most.max(*bytes);
        }
        open.extend(
            (0..packets.len()).filter_map(|number| state.step(number, packets)).filter(|next| !seen.contains(next)),
        );
        seen.insert(state);
    }
    (seen.len(), most)
}

/// Every way in which a CPU's clocks may stand at `count` packets in turn: none goes back, and the exact is never behind.
fn clocks(count: usize, epochs: u64) -> Vec<Vec<Clocks>> {
    let mut all: Vec<Vec<Clocks>> = vec![Vec::new()];
    for _packet in 0..count {
        let longer = |before: &Vec<Clocks>| {
            let from = before.last().map_or(0, |clocks| clocks.0);
            let exact_from = before.last().map_or(0, |clocks| clocks.1);
            let pairs = (from..epochs)
                .flat_map(move |cached| (cached.max(exact_from)..epochs).map(move |exact| (cached, exact)));
            pairs.map(|pair| before.iter().copied().chain([pair]).collect()).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

/// Explores every choice of clocks of CPUs that see these numbers of packets.
fn explore_all(counts: &[usize], epochs: u64) {
    let mut choices: Vec<Vec<Vec<Clocks>>> = vec![Vec::new()];
    for count in counts {
        let of_cpu = clocks(*count, epochs);
        let with = |before: &Vec<Vec<Clocks>>| {
            of_cpu.iter().map(|one| before.iter().cloned().chain([one.clone()]).collect()).collect::<Vec<_>>()
        };
        choices = choices.iter().flat_map(with).collect();
    }
    let (mut states, mut most) = (0, 0);
    for packets in &choices {
        let (seen, admitted) = explore(packets);
        states += seen;
        most = most.max(admitted);
    }
    println!("{counts:?} packets, {epochs} epochs: {} choices of clocks, {states} states", choices.len());
    assert_eq!(most, 300, "three packets of an epoch's credit are admitted somewhere");
}

#[test]
fn no_interleaving_admits_more_than_an_epochs_credit() {
    explore_all(&[2, 2], 3);
    explore_all(&[3, 3], 2);
    explore_all(&[1, 1, 2], 2);
    if tap_tests::need::long() {
        explore_all(&[2, 2, 2], 2);
        explore_all(&[3, 2], 3);
    }
}
