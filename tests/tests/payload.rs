//! Payload conditions: packets whose payload is known by construction, against the naive evaluation of the rules; host and
//! kernel alike.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its report")]
#![allow(clippy::indexing_slicing, clippy::wildcard_enum_match_arm, reason = "a test's panic is its report")]

use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tap_common::limits::{SIGNATURE_BYTES_MAX, SIGNATURES_MAX};
use tap_common::path::verdict::Decision;
use tap_tests::need;
use tap_tests::oracle::{Fields, Rules};
use tap_tests::packet::{Layer, build};
use tap_tests::random::Random;
use tap_tests::world::WorldFile;
use tap_userspace::laboratory::cpu::stay_on_this_cpu;
use tap_userspace::laboratory::setup::Setup;
use tap_userspace::load::{HostWorld, KernelWorld, Laboratory};

const SOURCE4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const DESTINATION4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const SOURCE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 7);
const DESTINATION6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xd, 0, 0, 0, 0, 9);

/// A payload condition of the test's own.
#[derive(Clone)]
struct Signature {
    offset: usize,
    bytes: Vec<u8>,
    mask: Vec<u8>,
}

impl Signature {
    fn new(random: &mut Random, offset: usize, length: usize) -> Self {
        let mask = match random.below(0..3) {
            0 => vec![0xff; length],
            1 => (0..length).map(|_| random.byte() | 1).collect(),
            _ => (0..length).map(|place| if place == 0 || random.chance(50) { 0xff } else { 0 }).collect(),
        };
        Self { offset, bytes: random.bytes(length), mask }
    }

    /// The rule that has it, beside an address condition that every packet of the test satisfies.
    fn rule(&self, number: usize) -> Value {
        let mut payload = json!({
            "item": "command", "field": "payload", "offset": self.offset, "bytes": hex::encode(&self.bytes),
        });
        if self.mask.iter().any(|byte| *byte != 0xff) {
            payload["mask"] = json!(hex::encode(&self.mask));
        }
        let any = ["198.51.100.0/24", "2001:db8:f::/48"];
        json!({
            "id": format!("r{number:03}"), "act": "a-1", "reason": "test", "valid_until": "2199-01-01T00:00:00Z",
            "conditions": [{"item": "facility-address", "field": "source-address", "any": any}, payload],
        })
    }

    /// Writes it into a payload, so far as it reaches, with other bits where the mask does not look.
    fn plant(&self, random: &mut Random, payload: &mut [u8]) {
        for (place, (byte, mask)) in payload.iter_mut().skip(self.offset).zip(self.bytes.iter().zip(&self.mask)) {
            *place = (byte & mask) | (random.byte() & !mask);
        }
    }
}

fn world(signatures: &[Signature]) -> WorldFile {
    let rules: Vec<Value> = signatures.iter().enumerate().map(|(number, signature)| signature.rule(number)).collect();
    WorldFile {
        basis: "foreign-to-domestic".to_owned(),
        domestic: ["203.0.113.0/24", "2001:db8:d::/48"].map(|text| text.parse().unwrap()).to_vec(),
        foreign: ["198.51.100.0/24", "2001:db8:f::/48"].map(|text| text.parse().unwrap()).to_vec(),
        rest: "unlisted".to_owned(),
        set: json!({"measure": "m-laboratory", "version": 1, "standard": "s-laboratory", "rules": rules}),
        sampling_ppm: None,
        sampling_seed: 0,
        cap: None,
        lease: None,
        transport: None,
    }
}

/// A packet and what there is of its payload.
struct Packet {
    frame: Vec<u8>,
    fields: Fields,
    about: String,
}

/// A packet with this payload: either family, TCP with options, UDP, UDP-Lite or an upper layer whose payload is not
/// looked at, whole or a fragment, cut by its sender's length, by the mirror, or padded.
fn packet(random: &mut Random, payload: &[u8]) -> Packet {
    let is_ipv4 = random.chance(50);
    let fragment = if random.chance(75) { "none" } else { random.pick(["first", "later"]) };
    let transport = match random.below(0..10) {
        0..5 => Layer::Tcp {
            source_port: 443,
            destination_port: 80,
            flags: 24,
            header_words: Some(random.pick([5, 5, 6, 8, 15])),
        },
        5..8 => Layer::Ports { protocol: 17, source_port: 53, destination_port: 53 },
        8 => Layer::Ports { protocol: 136, source_port: 53, destination_port: 53 },
        _ => Layer::Ports { protocol: 132, source_port: 53, destination_port: 53 },
    };
    let protocol = match transport {
        Layer::Ports { protocol, .. } => protocol,
        _ => 6,
    };
    let header = build(std::slice::from_ref(&transport)).unwrap().len();
    let upper = header + payload.len();
    // The sender's length may end anywhere in the payload; later bytes of the frame are padding.
    let kept = if random.chance(20) { random.index(header..upper + 1) } else { upper };
    let (offset, more) = match fragment {
        "none" => (0, false),
        "first" => (0, true),
        _ => (4, random.chance(50)),
    };
    let mut layers = vec![Layer::Ethernet { ether_type: None }];
    for _ in 0..random.pick([0, 0, 1, 2]) {
        layers.push(Layer::Vlan { protocol: None, id: 5, ether_type: None });
    }
    let in_ip = if is_ipv4 {
        let option_words = random.pick([0, 0, 1, 10]);
        let length = 4 * (5 + usize::from(option_words)) + kept;
        layers.push(Layer::Ipv4 {
            source: SOURCE4,
            destination: DESTINATION4,
            version: None,
            option_words,
            header_words: None,
            total_length: Some(length.try_into().unwrap()),
            protocol: None,
            fragment_offset: offset,
            more_fragments: more,
        });
        length
    } else {
        let extension = random.chance(30).then_some(Layer::Extension { protocol: 60, units: 1, next_header: None });
        let headers = if extension.is_some() { 16 } else { 0 } + if fragment == "none" { 0 } else { 8 };
        layers.push(Layer::Ipv6 {
            source: SOURCE6,
            destination: DESTINATION6,
            version: None,
            payload_length: Some((headers + kept).try_into().unwrap()),
            next_header: None,
        });
        layers.extend(extension);
        if fragment != "none" {
            layers.push(Layer::Fragment { offset, more_fragments: more, next_header: None });
        }
        40 + headers + kept
    };
    layers.extend([transport, Layer::Hex { digits: hex::encode(payload) }]);
    let mut frame = build(&layers).unwrap();
    let start = frame.len() - payload.len();
    let mut present = kept - header;
    if random.chance(20) {
        let left = random.index(start..frame.len() + 1);
        frame.truncate(left);
        present = present.min(left - start);
    } else if random.chance(20) {
        frame.extend(random.bytes(40));
    }
    let has_payload = protocol != 132 && fragment != "later";
    let fields = Fields {
        ip_version: if is_ipv4 { 4 } else { 6 },
        source: if is_ipv4 { IpAddr::V4(SOURCE4) } else { IpAddr::V6(SOURCE6) },
        destination: if is_ipv4 { IpAddr::V4(DESTINATION4) } else { IpAddr::V6(DESTINATION6) },
        protocol,
        source_port: None,
        destination_port: None,
        tcp_flags: None,
        ip_length: in_ip.try_into().unwrap(),
        fragment,
        payload: if has_payload { payload[..present].to_vec() } else { Vec::new() },
    };
    let about = format!("{layers:?}, {present} of {} bytes", payload.len());
    Packet { frame, fields, about }
}

/// Which of the rules a decision names.
fn named(decision: &Decision, setup: &Setup) -> Vec<String> {
    setup.tables.rules_of(0, &decision.rules).map(|index| setup.rule_ids[index].clone()).collect()
}

/// Decides about many packets; returns how many rules matched.
fn compare(random: &mut Random, signatures: &[Signature], packets: usize, in_kernel: bool) -> usize {
    let world = world(signatures);
    let setup = world.setup().unwrap_or_else(|error| panic!("{error:#}"));
    let rules = Rules::of(world.set["rules"].clone()).unwrap();
    let mut host = HostWorld::new(&setup.tables, world.config());
    let mut kernel = in_kernel.then(|| KernelWorld::new(&setup.tables, world.config()).unwrap());
    let mut matched = 0;
    for number in 0..packets {
        let asked = &signatures[random.index(0..signatures.len())];
        let end = asked.offset + asked.bytes.len();
        // Often the signature ends where the payload does, or one byte behind it.
        let length = match random.below(0..4) {
            0 => end,
            1 => end - 1,
            _ => end + random.index(0..70),
        };
        let mut payload = random.bytes(length);
        asked.plant(random, &mut payload);
        if random.chance(20) && !payload.is_empty() {
            let place = random.index(asked.offset.min(length - 1)..length);
            payload[place] ^= 1 << random.below(0..8);
        }
        let Packet { frame, fields, about } = packet(random, &payload);
        let decision = host.decide(&frame, 0).unwrap();
        let expected = rules.matching(&fields).unwrap();
        assert_eq!(named(&decision, &setup), expected, "packet {number}: {about}\n{}", hex::encode(&frame));
        let verdict = if expected.is_empty() { "not_matched" } else { "selected" };
        assert_eq!(decision.outcome.name(), Some(verdict), "packet {number}: {about}");
        matched += expected.len();
        if let Some(kernel) = &mut kernel {
            assert_eq!(decision, kernel.decide(&frame, 0).unwrap(), "packet {number}: {about}");
        }
    }
    println!("{} signatures: {matched} rules matched by {packets} packets", signatures.len());
    assert!(matched > packets / 10, "too few match: {matched}");
    matched
}

fn is_kernel_there() -> bool {
    let is_root = need::root();
    if is_root {
        stay_on_this_cpu().unwrap();
    }
    is_root
}

/// Every length, at several offsets: one signature alone each.
#[test]
fn signatures_of_every_length_are_found_where_they_are() {
    let mut random = Random::printed("signatures_of_every_length_are_found_where_they_are");
    let in_kernel = is_kernel_there();
    for length in 1..=SIGNATURE_BYTES_MAX {
        let offset = random.pick([0, 0, 1, 5, 8, 16, 1_024]);
        let signature = Signature::new(&mut random, offset, length);
        compare(&mut random, &[signature], if need::long() { 5_000 } else { 300 }, in_kernel);
    }
}

/// As many as a generation holds, of every length, some of them about the same bytes.
#[test]
fn sixty_four_signatures_are_told_apart() {
    let mut random = Random::printed("sixty_four_signatures_are_told_apart");
    let in_kernel = is_kernel_there();
    let mut signatures: Vec<Signature> = (0..SIGNATURES_MAX)
        .map(|number| {
            let offset = random.pick([0, 0, 0, 3, 16, 700]);
            Signature::new(&mut random, offset, number % SIGNATURE_BYTES_MAX + 1)
        })
        .collect();
    // The second half begins as the first does, so that a packet satisfies several.
    let (first, second) = signatures.split_at_mut(SIGNATURES_MAX / 2);
    for (one, other) in first.iter().zip(second).step_by(2) {
        other.offset = one.offset;
        other.bytes[0] = one.bytes[0];
        other.mask.fill(0);
        other.mask[0] = one.mask[0];
    }
    compare(&mut random, &signatures, if need::long() { 100_000 } else { 4_000 }, in_kernel);
}

/// Rules with the same condition share a signature; one more than a generation holds is refused by name, and contents
/// stand nowhere in the refusal.
#[test]
fn more_signatures_than_a_generation_holds_are_refused() {
    let signature = |number: u8| Signature { offset: 0, bytes: vec![0xc4, number], mask: vec![0xff, 0xff] };
    let shared: Vec<Signature> = (0..128).map(|number| signature(number % 64)).collect();
    let setup = world(&shared).setup().unwrap();
    assert_eq!(setup.tables.signatures, 64);
    let many: Vec<Signature> = (0..65).map(signature).collect();
    let refused = format!("{:#}", world(&many).setup().unwrap_err());
    assert_eq!(refused, "the measures' sets have 65 different payload conditions together; a generation holds 64");
    let shown = format!("{:?} {:?} {:?}", setup, setup.tables, setup.tables.fixed.signatures[0]);
    assert!(!shown.contains("c4") && !shown.contains("196"), "{shown}");
}
