//! The stages that need no tables: the bucket on many simulated CPUs, the flow hash, the truth table of directions.

use super::cap;
use super::direction::{AddressClass, Direction, from_classes, is_allowed};
use super::parse::Headers;
use super::sample::{flow_hash, is_sampled};
use super::transport::MirrorTransport;
use super::verdict::Decision;
use super::world::{Credit, Exact, Trie, World};
use crate::abi::policy::{CapPolicy, FACILITY_BUCKET, Lease, MeasurePolicy, Policy};
use crate::abi::record::FLAG_PORTS;
use crate::abi::rule::{ClassMasks, RuleMask, Signature};
use crate::abi::tables::{Exact4, Exact6};
use crate::limits::{CHUNK_BYTES_MAX, CHUNKS_PER_EPOCH, CREDIT_PPM, EPOCH_NS, MEASURES_MAX, PPM, TICK_NS_MAX};
use core::cell::Cell;
use proptest::prelude::*;

extern crate std;
use std::vec::Vec;

/// One CPU's view of a shared bucket; nothing else of the world is asked for by the cap.
struct Cpu<'a> {
    word: &'a Cell<u64>,
    policy: CapPolicy,
    credit: Credit,
    /// Exchanges that fail before one succeeds: other CPUs that come first.
    contenders: Cell<u32>,
    exact_ns: u64,
    cached_ns: u64,
}

impl World for Cpu<'_> {
    fn settle(&self, _decision: &mut Decision) {}
    fn transport(&self) -> Option<MirrorTransport> {
        None
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
        const { &Policy { counted: [[0; 4]; 7], asked: [[0; 4]; 7], measures: [NO_MEASURE; MEASURES_MAX], sampling_seed: 0 } }
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
    fn cap(&self, _bucket: u32) -> CapPolicy {
        self.policy
    }
    fn credit(&self, _bucket: u32) -> Credit {
        self.credit
    }
    fn set_credit(&mut self, _bucket: u32, credit: Credit) {
        self.credit = credit;
    }
    fn bucket(&self, _bucket: u32) -> u64 {
        self.word.get()
    }
    fn bucket_exchange(&self, _bucket: u32, expected: u64, new: u64) -> bool {
        if self.contenders.get() > 0 {
            self.contenders.set(self.contenders.get() - 1);
            return false;
        }
        let same = self.word.get() == expected;
        if same {
            self.word.set(new);
        }
        same
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

const NO_MEASURE: MeasurePolicy = MeasurePolicy { rules: [0; 4], directions: 0, reserved: 0 };

/// Charges at a CPU's cached time.
fn charge_at(cpu: &mut Cpu<'_>, cached_ns: u64, bytes: u32) -> bool {
    cpu.cached_ns = cached_ns;
    cap::charge(cpu, FACILITY_BUCKET, bytes)
}

/// A share in bytes per second, and the bucket's parameters for it.
fn policy(share_bytes_per_second: u64) -> CapPolicy {
    let epoch_credit_bytes = share_bytes_per_second * CREDIT_PPM / PPM * EPOCH_NS / 1_000_000_000;
    CapPolicy { epoch_credit_bytes, chunk_bytes: (epoch_credit_bytes / CHUNKS_PER_EPOCH).min(CHUNK_BYTES_MAX) }
}

/// Offers `load` times the share for `seconds` from `cpus` CPUs whose cached clocks are up to a tick late, each by its
/// own amount, the first CPU getting `skew` of ten packets. Returns (time, bytes) of what was admitted, in order.
fn offer(share: u64, cpus: usize, load: u64, seconds: u64, sizes: &[u32], skew: u64) -> Vec<(u64, u64)> {
    let word = Cell::new(0);
    let mut all: Vec<Cpu<'_>> = (0..cpus)
        .map(|_cpu| Cpu {
            word: &word,
            policy: policy(share),
            credit: Credit::default(),
            contenders: Cell::new(0),
            exact_ns: 0,
            cached_ns: 0,
        })
        .collect();
    let mut admitted = Vec::new();
    let mean: u64 = sizes.iter().map(|size| u64::from(*size)).sum::<u64>() / sizes.len() as u64;
    let step_ns = (mean * 1_000_000_000 / (share * load)).max(1);
    let mut random = 0x1234_5678_9abc_def1_u64;
    let mut now_ns = 1_000_000_000;
    let end_ns = now_ns + seconds * 1_000_000_000;
    while now_ns < end_ns {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let cpu = if random % 10 < skew { 0 } else { (random >> 8) as usize % cpus };
        let bytes = sizes[(random >> 32) as usize % sizes.len()];
        // Each CPU's cached clock: the time at its last tick, ticks of CPUs being spread over the tick's length.
        let phase = TICK_NS_MAX * cpu as u64 / cpus as u64;
        let cached_ns = (now_ns - phase) / TICK_NS_MAX * TICK_NS_MAX + phase;
        all[cpu].exact_ns = now_ns;
        if charge_at(&mut all[cpu], cached_ns, bytes) {
            admitted.push((now_ns, u64::from(bytes)));
        }
        now_ns += step_ns;
    }
    admitted
}

/// The largest sum in any window of `window_ns`, by two pointers.
fn largest(admitted: &[(u64, u64)], window_ns: u64) -> u64 {
    let (mut first, mut sum, mut largest) = (0, 0, 0);
    for (time, bytes) in admitted {
        sum += bytes;
        while admitted[first].0 + window_ns <= *time {
            sum -= admitted[first].1;
            first += 1;
        }
        largest = largest.max(sum);
    }
    largest
}

#[test]
fn the_cap_holds_in_every_window_on_1_to_128_cpus() {
    for (share, cpus, skew) in
        [(20_000_000, 1, 0), (20_000_000, 2, 0), (20_000_000, 2, 9), (40_000_000, 16, 5), (400_000_000, 128, 3)]
    {
        let admitted = offer(share, cpus, 3, 3, &[88, 600, 1_542], skew);
        for window_ms in [1, 10, 100, 1_000, 2_000] {
            let most = largest(&admitted, window_ms * 1_000_000);
            let bound = if window_ms >= 1_000 { share * window_ms / 1_000 } else { share * (window_ms + 20) / 1_000 };
            assert!(most <= bound, "{share} B/s, {cpus} CPUs, skew {skew}: {most} in {window_ms} ms, bound {bound}");
        }
        let total: u64 = admitted.iter().map(|(_, bytes)| bytes).sum();
        assert!(total * 100 >= share * 3 * 95, "{share} B/s, {cpus} CPUs, skew {skew}: only {total} of {}", share * 3);
    }
}

#[test]
fn a_frame_that_an_epoch_cannot_pay_for_is_never_admitted() {
    // 5 ms of 100 kB/s are 490 bytes.
    let admitted = offer(100_000, 1, 3, 1, &[600], 0);
    assert!(admitted.is_empty());
}

#[test]
fn contention_beyond_the_attempts_is_refused_not_admitted() {
    let word = Cell::new(0);
    let mut cpu = Cpu {
        word: &word,
        policy: policy(20_000_000),
        credit: Credit::default(),
        contenders: Cell::new(16),
        exact_ns: 0,
        cached_ns: 0,
    };
    assert!(!charge_at(&mut cpu, 50_000_000, 100));
    assert!(charge_at(&mut cpu, 50_000_000, 100));
}

#[test]
fn credit_of_an_old_epoch_is_void() {
    let word = Cell::new(0);
    let mut cpu = Cpu {
        word: &word,
        policy: policy(20_000_000),
        credit: Credit::default(),
        contenders: Cell::new(0),
        exact_ns: 0,
        cached_ns: 0,
    };
    assert!(charge_at(&mut cpu, 50_000_000, 100));
    let held = cpu.credit.bytes;
    assert!(held > 0);
    assert!(charge_at(&mut cpu, 50_000_000 + EPOCH_NS, 100));
    assert!(cpu.credit.bytes <= held, "what was left of the old epoch must not be added");
}

#[test]
fn a_late_clock_never_refills_an_epoch_that_is_gone() {
    let word = Cell::new(0);
    let make = || Cpu {
        word: &word,
        policy: policy(1_000_000),
        credit: Credit::default(),
        contenders: Cell::new(0),
        exact_ns: 0,
        cached_ns: 0,
    };
    let (mut early, mut late) = (make(), make());
    let mut admitted = 0;
    // One CPU a tick ahead of the other, both taking all they can within one epoch of the first.
    for _packet in 0..1_000 {
        admitted += u64::from(charge_at(&mut early, 100_000_000, 100)) * 100;
        admitted += u64::from(charge_at(&mut late, 100_000_000 - TICK_NS_MAX, 100)) * 100;
    }
    assert!(admitted <= policy(1_000_000).epoch_credit_bytes, "{admitted}");
}

#[test]
fn sampled_share_is_the_threshold_and_flows_go_both_ways() {
    for (ppm, seed) in [(100_000_u64, 1_u64), (10_000, 0xdead_beef), (500_000, u64::MAX)] {
        let threshold = (ppm << 32) / PPM;
        let mut sampled = 0_u64;
        let flows = 200_000_u64;
        for flow in 0..flows {
            let mut headers = Headers {
                source: [0, 0xffff_0000_0000 | (0xc633_6400 + flow % 256)],
                destination: [0, 0xffff_0000_0000 | (0xcb00_7100 + flow / 256 % 256)],
                source_port: (1_024 + flow / 65_536) as u16,
                destination_port: 443,
                flags: FLAG_PORTS,
                protocol: 6,
                ip_version: 4,
                ..Headers::default()
            };
            let there = is_sampled(flow_hash(&headers, seed), threshold);
            core::mem::swap(&mut headers.source, &mut headers.destination);
            core::mem::swap(&mut headers.source_port, &mut headers.destination_port);
            assert_eq!(there, is_sampled(flow_hash(&headers, seed), threshold));
            sampled += u64::from(there);
        }
        let difference = (sampled * PPM / flows).abs_diff(ppm);
        assert!(difference <= 4_000, "{ppm} ppm asked, {} sampled", sampled * PPM / flows);
    }
}

#[test]
fn direction_is_the_truth_table_of_the_act() {
    use AddressClass::{Domestic, Foreign, Unlisted};
    let table = [
        (Foreign, Foreign, Direction::ForeignToForeign),
        (Foreign, Domestic, Direction::ForeignToDomestic),
        (Domestic, Foreign, Direction::DomesticToForeign),
        (Domestic, Domestic, Direction::DomesticToDomestic),
        (Unlisted, Foreign, Direction::Unlisted),
        (Foreign, Unlisted, Direction::Unlisted),
        (Unlisted, Unlisted, Direction::Unlisted),
        (Domestic, Unlisted, Direction::Unlisted),
        (Unlisted, Domestic, Direction::Unlisted),
    ];
    for (source, destination, direction) in table {
        assert_eq!(from_classes(source as u32, destination as u32), direction);
        let never = matches!(direction, Direction::Unlisted | Direction::DomesticToDomestic);
        for directions in 0..32 {
            let asked = directions & (1 << direction as u32) != 0;
            assert_eq!(is_allowed(direction, directions), asked && !never);
        }
    }
    assert_eq!(from_classes(3, 2), Direction::Unlisted, "a number that is no class is unlisted");
}

proptest! {
    #[test]
    fn any_word_any_clock_any_credit_never_gives_more_than_an_epoch(
        word in any::<u64>(),
        now_ns in 0..u64::MAX / 2,
        held in 0..1_000_000_u64,
        ago in 0..4_u64,
        sizes in prop::collection::vec(64..9_018_u32, 1..200),
    ) {
        let cell = Cell::new(word);
        let epoch = now_ns / EPOCH_NS;
        let credit = Credit { epoch: epoch.saturating_sub(ago), bytes: held };
        let policy = policy(100_000_000);
        let mut cpu = Cpu { word: &cell, policy, credit, contenders: Cell::new(0), exact_ns: 0, cached_ns: 0 };
        let mut admitted = 0;
        for size in sizes {
            if charge_at(&mut cpu, now_ns, size) {
                admitted += u64::from(size);
            }
        }
        // What the word held (if its tag is current or ahead), or one refill, and what was held of this epoch.
        let most = (word & ((1 << 40) - 1)).max(policy.epoch_credit_bytes) + held;
        prop_assert!(admitted <= most);
    }
}

/// Flows of one pair of hosts that differ in the ports alone are sampled as if each were drawn by itself: neighbours no
/// oftener together than chance has it, and every half of them by a bit of the port like the other.
#[test]
fn flows_that_differ_in_ports_alone_are_sampled_independently() {
    const FLOWS: u16 = 60_000;
    let threshold = super::sample::threshold(100_000);
    for seed in [1_u64, 0x1234_5678_9abc_def0, 0xfeed_beef_0bad_cafe, 0x8000_0000_0000_0000] {
        for both in [false, true] {
            let sampled: Vec<bool> = (0..FLOWS)
                .map(|port| {
                    let headers = Headers {
                        source: [0, 0xffff_c000_0201],
                        destination: [0, 0xffff_c633_6407],
                        source_port: port,
                        destination_port: if both { port } else { 443 },
                        flags: FLAG_PORTS,
                        protocol: 6,
                        ..Headers::default()
                    };
                    is_sampled(flow_hash(&headers, seed), threshold)
                })
                .collect();
            let share = |some: &mut dyn Iterator<Item = bool>| {
                let (mut all, mut kept) = (0.0, 0.0);
                for one in some {
                    all += 1.0;
                    kept += if one { 1.0 } else { 0.0 };
                }
                kept / all
            };
            // Six standard deviations of 60,000 pairs with one in a hundred: 0.0024; of 30,000 flows with one in ten: 0.0104.
            let neighbours = share(&mut sampled.windows(2).map(|pair| pair[0] && pair[1]));
            assert!((neighbours - 0.01_f64).abs() < 0.0024, "seed {seed:x}, both {both}: neighbours {neighbours}");
            for bit in 0..16 {
                let half = share(
                    &mut (0..FLOWS).zip(&sampled).filter(|(port, _)| port >> bit & 1 == 0).map(|(_, kept)| *kept),
                );
                assert!((half - 0.1_f64).abs() < 0.0104, "seed {seed:x}, both {both}, bit {bit}: {half}");
            }
        }
    }
}
