//! Properties of the decision core on the host: whatever the bytes, it decides, and always alike.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its report")]

use proptest::prelude::*;
use std::sync::LazyLock;
use tap_common::abi::counter::{FacilityVerdict, Verdict};
use tap_common::abi::record::{FLAG_PORTS, FLAG_SLICED, FLAG_TCP_FLAGS};
use tap_common::limits::{LINE_OVERHEAD_BYTES, SIGNATURES_MAX};
use tap_common::path::frame::{Bytes, Frame};
use tap_common::path::parse::{Headers, parse};
use tap_common::path::verdict::{Decision, Outcome};
use tap_tests::generate::{self, DOMESTIC, FOREIGN};
use tap_tests::need;
use tap_tests::random::Random;
use tap_tests::world::WorldFile;
use tap_userspace::laboratory::setup::Setup;
use tap_userspace::load::{HostWorld, Laboratory, LaboratoryConfig};

/// A world with rules of every kind over the generator's addresses.
static SETUP: LazyLock<Setup> = LazyLock::new(|| {
    let set = generate::selector_set(&mut Random::from_seed(7), 100);
    world(set).setup().unwrap_or_else(|error| panic!("{error:#}"))
});

fn world(set: serde_json::Value) -> WorldFile {
    let prefixes = |texts: [&str; 3]| texts.iter().map(|text| text.parse().unwrap()).collect();
    WorldFile {
        basis: "foreign-to-domestic".to_owned(),
        domestic: prefixes(DOMESTIC),
        foreign: prefixes(FOREIGN),
        rest: "unlisted".to_owned(),
        set,
        sampling_ppm: None,
        sampling_seed: 0,
        cap: None,
        lease: None,
        transport: None,
    }
}

fn decide(frame: &[u8]) -> Decision {
    HostWorld::new(&SETUP.tables, LaboratoryConfig::default()).decide(frame, 0).unwrap()
}

/// What holds of every decision, whatever the packet.
fn check(frame: &[u8]) {
    let decision = decide(frame);
    let length = u32::try_from(frame.len()).unwrap();
    assert_eq!(decision, decide(frame), "the same packet decides alike");
    assert!(decision.line_bytes >= length + LINE_OVERHEAD_BYTES, "no byte on the line goes uncharged");
    assert!(decision.outcome.name().is_some());
    let refused = [FacilityVerdict::Malformed, FacilityVerdict::Unsupported].map(Outcome::facility);
    assert_eq!(decision.parsed == 1, decision.reason_name().is_none());
    assert_eq!(decision.parsed == 0, refused.contains(&decision.outcome));
    if decision.outcome == Outcome::measure(Verdict::Selected) {
        assert!(decision.rules.iter().any(|word| *word != 0), "no record without a rule");
        assert_eq!(decision.direction, 2, "no record in another direction than the measure's");
    }
    if decision.parsed == 1 {
        let headers = decision.headers;
        let flag = |flag: u16| headers.flags & flag != 0;
        assert!(flag(FLAG_PORTS) || (headers.source_port, headers.destination_port) == (0, 0));
        assert!(flag(FLAG_TCP_FLAGS) || headers.tcp_flags == 0);
        assert!(!flag(FLAG_TCP_FLAGS) || (flag(FLAG_PORTS) && headers.protocol == 6));
        assert_eq!(flag(FLAG_SLICED), headers.ip_offset + headers.ip_length > length);
        assert!(headers.fragment != 2 || !flag(FLAG_PORTS), "a later fragment has no ports");
    }
}

proptest! {
    // A failing case is printed with its bytes; it then becomes a case of `cases/`, not a file of seeds.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_decided(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&frame);
    }

    /// The same behind an EtherType that leads somewhere.
    #[test]
    fn arbitrary_bytes_behind_ethernet_are_decided(
        ether_type in proptest::sample::select(vec![0x0800_u16, 0x86dd, 0x8100, 0x88a8, 0x8847, 0x8864]),
        version in proptest::sample::select(vec![0x45_u8, 0x4f, 0x60, 0x11]),
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        check(&[&[0; 12][..], &ether_type.to_be_bytes(), &[version], &rest].concat());
    }
}

#[test]
fn generated_packets_are_decided() {
    let mut random = Random::printed("generated_packets_are_decided");
    for _ in 0..if need::long() { 1_000_000 } else { 20_000 } {
        check(&generate::frame(&mut random));
    }
}

/// No payload byte has a say: packets whose headers are true, with other payloads, are decided alike.
#[test]
fn payload_changes_nothing() {
    let mut random = Random::printed("payload_changes_nothing");
    for _ in 0..if need::long() { 200_000 } else { 10_000 } {
        let (mut frame, payload) = generate::honest_frame(&mut random);
        let before = decide(&frame);
        for byte in frame.iter_mut().skip(payload) {
            *byte = random.byte();
        }
        assert_eq!(before, decide(&frame), "{}", hex::encode(&frame));
    }
}

/// With payload conditions, payload bytes say whether there is a record and which rules it names; nothing else.
#[test]
fn payload_changes_only_which_rules_match() {
    let mut random = Random::printed("payload_changes_only_which_rules_match");
    let mut world = world(generate::payload_selector_set(&mut random, 100, SIGNATURES_MAX));
    let with = world.setup().unwrap_or_else(|error| panic!("{error:#}"));
    for rule in world.set["rules"].as_array_mut().unwrap() {
        rule["conditions"].as_array_mut().unwrap().retain(|condition| condition["field"] != "payload");
    }
    let without = world.setup().unwrap_or_else(|error| panic!("{error:#}"));
    let decide = |setup: &Setup, frame: &[u8]| {
        HostWorld::new(&setup.tables, LaboratoryConfig::default()).decide(frame, 0).unwrap()
    };
    let (mut fewer, mut none) = (0, 0);
    for _ in 0..if need::long() { 200_000 } else { 10_000 } {
        let (mut frame, payload) = generate::honest_frame(&mut random);
        if random.chance(50) {
            frame.iter_mut().skip(payload).filter(|_| random.chance(5)).for_each(|byte| *byte ^= 0x10);
        }
        let (found, all) = (decide(&with, &frame), decide(&without, &frame));
        assert!(found.rules.iter().zip(&all.rules).all(|(found, all)| found & !all == 0), "a rule of its own");
        let expected = if found.rules == [0; 4] && all.matched != 0 {
            none += 1;
            let outcome = Outcome::measure(Verdict::NotMatched);
            Decision { rules: found.rules, matched: 0, selected: 0, direction: 0, outcome, ..all }
        } else {
            fewer += usize::from(found.rules != all.rules);
            Decision { rules: found.rules, ..all }
        };
        assert_eq!(found, expected, "{}", hex::encode(&frame));
    }
    println!("{fewer} packets with fewer rules, {none} with none");
    assert!(fewer > 10 && none > 10, "{fewer} {none}");
}

/// The generated packets have teeth: a frame that gives one byte too many is noticed.
#[test]
fn a_bound_that_is_off_by_one_is_noticed() {
    let mut random = Random::printed("a_bound_that_is_off_by_one_is_noticed");
    let noticed = (0..5_000).filter(|_| {
        let frame = generate::frame(&mut random);
        let read = |frame: &dyn Fn(&mut Headers) -> bool| {
            let mut headers = Headers::default();
            (frame(&mut headers), headers)
        };
        let right = read(&|headers| parse(&Bytes::new(&frame), headers).is_ok());
        let wrong = read(&|headers| parse(&Careless { bytes: &frame }, headers).is_ok());
        right != wrong
    });
    let noticed = noticed.count();
    println!("noticed by {noticed} of 5000 packets");
    assert!(noticed > 0);
}

/// A frame whose bound is off by one: the byte behind its end reads as 0.
#[derive(Clone, Copy)]
struct Careless<'a> {
    bytes: &'a [u8],
}

impl Frame for Careless<'_> {
    fn afresh(&self) -> Self {
        *self
    }

    fn length(&self) -> u32 {
        Bytes::new(self.bytes).length()
    }

    fn first_buffer_length(&self) -> u32 {
        self.length()
    }

    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        Bytes::new(&[self.bytes, &[0]].concat()).load(offset)
    }

    fn advance(&mut self, bytes: u32) {
        self.bytes = self.bytes.get(bytes as usize..).unwrap_or_default();
    }
}
