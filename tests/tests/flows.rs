//! The sample: of flows as networks have them (a subnet to one server, ports in sequence, EUI-64 identifiers) the share that
//! was asked for, whole flows, both directions together, and another sample with another seed; host and kernel alike.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a test's panic is its report")]
#![allow(clippy::type_complexity, reason = "a table of named shapes")]

use std::net::{Ipv4Addr, Ipv6Addr};
use tap_common::abi::record::FLAG_PORTS;
use tap_common::limits::PPM;
use tap_common::path::parse::Headers;
use tap_common::path::sample::{flow_hash, is_sampled, threshold};
use tap_tests::need;
use tap_tests::packet::{Layer, build};
use tap_tests::random::Random;
use tap_userspace::laboratory::cpu::stay_on_this_cpu;
use tap_userspace::load::{HostWorld, KernelWorld, Laboratory};

/// The share that is asked for.
const SHARE_PPM: u32 = 100_000;
/// How far from it the share of 100,000 flows may be, in parts per million.
const DEVIATION_PPM_MAX: u64 = 4_000;
const FLOWS: u32 = 100_000;

/// One end of a flow.
type End = ([u64; 2], u16);

fn four(address: u32, port: u16) -> End {
    ([0, 0xffff_0000_0000 | u64::from(address)], port)
}

fn low(number: u32) -> u16 {
    (number & 0xffff) as u16
}

/// Flow `n` of each structure: protocol, source, destination.
fn structures() -> Vec<(&'static str, fn(u32) -> (u8, End, End))> {
    const SUBNET: u32 = 0xc633_6400;
    const SERVER: u32 = 0xcb00_7107;
    const SITE: u64 = 0x2001_0db8_000d_0000;
    const SERVER6: End = ([0x2001_0db8_000f_0000, 1], 443);
    vec![
        ("a /24 to one server, ports in sequence", |n| {
            (6, four(SUBNET + n % 256, low(1_024 + n / 256)), four(SERVER, 443))
        }),
        ("one source, ports in sequence, two servers", |n| {
            (6, four(SUBNET, low(10_000 + n % 50_000)), four(SERVER + n / 50_000, 443))
        }),
        ("sequential sources, one port", |n| (17, four(0x0a00_0000 + n, 40_000), four(SERVER, 53))),
        ("sequential sources and destinations", |n| (17, four(0x0a00_0000 + n, 123), four(0xcb00_0000 + n, 123))),
        ("sources 256 apart, no ports", |n| (1, four(0x0a00_0001 + (n << 8), 0), four(SERVER, 0))),
        ("a grid of sources and destinations", |n| {
            (50, four(0x0a00_0000 + n % 316, 0), four(0xcb00_0000 + n / 316, 0))
        }),
        ("a scan of ports", |n| (6, four(SUBNET + n / 65_536, 40_000), four(SERVER, low(n)))),
        ("one /64, sequential identifiers", |n| (6, ([SITE, u64::from(n)], 40_000), SERVER6)),
        ("sequential /64s", |n| (6, ([SITE | u64::from(n & 0xffff), u64::from(n >> 16)], 40_000), SERVER6)),
        ("EUI-64 identifiers of one maker", |n| (6, ([SITE, 0x0250_56ff_fe00_0000 | u64::from(n)], 40_000), SERVER6)),
        ("EUI-64 identifiers of many makers", |n| {
            (6, ([SITE, 0x0200_00ff_fe12_3456 | (u64::from(n) << 40)], 40_000), SERVER6)
        }),
        ("IPv6, ports in sequence", |n| (6, ([SITE | u64::from(n >> 16), 1], low(n)), SERVER6)),
    ]
}

fn headers((protocol, source, destination): (u8, End, End)) -> Headers {
    let ip_version = if source.0[0] == 0 { 4 } else { 6 };
    let flags = if matches!(protocol, 6 | 17) { FLAG_PORTS } else { 0 };
    Headers {
        source: source.0,
        destination: destination.0,
        source_port: source.1,
        destination_port: destination.1,
        protocol,
        ip_version,
        flags,
        ..Headers::default()
    }
}

#[test]
fn the_share_holds_for_flows_of_every_structure() {
    let mut random = Random::from_seed(3);
    let drawn: usize = if need::long() { 60 } else { 8 };
    let seeds = [0, 1, 7, u64::MAX].into_iter().chain((0..drawn).map(|_| random.bits())).collect::<Vec<_>>();
    let threshold = threshold(SHARE_PPM);
    for (name, flow) in structures() {
        let (mut worst, mut worst_half, mut same) = (0, 0.0_f64, 0_u64);
        let mut before: Vec<bool> = Vec::new();
        for seed in &seeds {
            let sample = |n| {
                let (protocol, source, destination) = flow(n);
                let there = flow_hash(&headers((protocol, source, destination)), *seed);
                let back = flow_hash(&headers((protocol, destination, source)), *seed);
                assert_eq!(there, back, "{name}, seed {seed}: the two directions of flow {n} go apart");
                is_sampled(there, threshold)
            };
            let sampled: Vec<bool> = (0..FLOWS).map(sample).collect();
            let count =
                |step: usize, from: usize| sampled.iter().skip(from).step_by(step).filter(|is| **is).count() as u64;
            let found_ppm = count(1, 0) * PPM / u64::from(FLOWS);
            let deviation = found_ppm.abs_diff(SHARE_PPM.into());
            assert!(deviation <= DEVIATION_PPM_MAX, "{name}, seed {seed}: {found_ppm} ppm sampled");
            worst = worst.max(deviation);
            // Halves by the lowest bit of what runs: parity of the port or address must not decide.
            for from in [0, 1] {
                let share = count(2, from) as f64 / f64::from(FLOWS / 2);
                worst_half = worst_half.max((share - 0.1).abs());
            }
            same += before.iter().zip(&sampled).filter(|(before, now)| **before && **now).count() as u64;
            before = sampled;
        }
        println!("{name}: at most {worst} ppm off, halves by parity {worst_half:.4}");
        assert!(worst_half <= 0.008, "{name}: {worst_half} off in a half by parity");
        // Samples of two seeds have a tenth of a tenth in common.
        let common = same as f64 / (f64::from(FLOWS) * (seeds.len() - 1) as f64);
        assert!((0.007..=0.013).contains(&common), "{name}: samples of two seeds have {common} in common");
    }
}

/// A frame of a flow: TCP or UDP of `payload` bytes.
fn frame((protocol, source, destination): (u8, End, End), flags: u8, payload: usize) -> Vec<u8> {
    let address4 = |end: End| Ipv4Addr::from((end.0[1] & 0xffff_ffff) as u32);
    let address6 = |end: End| Ipv6Addr::from((u128::from(end.0[0]) << 64) | u128::from(end.0[1]));
    let network = if source.0[0] == 0 {
        Layer::Ipv4 {
            source: address4(source),
            destination: address4(destination),
            version: None,
            option_words: 0,
            header_words: None,
            total_length: None,
            protocol: None,
            fragment_offset: 0,
            more_fragments: false,
        }
    } else {
        Layer::Ipv6 {
            source: address6(source),
            destination: address6(destination),
            version: None,
            payload_length: None,
            next_header: None,
        }
    };
    let (source_port, destination_port) = (source.1, destination.1);
    let transport = match protocol {
        6 => Layer::Tcp { source_port, destination_port, flags, header_words: None },
        17 => Layer::Ports { protocol, source_port, destination_port },
        other => Layer::Other { protocol: other },
    };
    build(&[Layer::Ethernet { ether_type: None }, network, transport, Layer::Payload { bytes: payload }]).unwrap()
}

#[test]
fn every_packet_of_a_sampled_flow_is_sampled_in_both_builds() {
    if !need::root() {
        return;
    }
    stay_on_this_cpu().unwrap();
    let flows = if need::long() { 10_000 } else { 200 };
    let tables = tap_tests::kernel::tables_sampled(SHARE_PPM, 0x5eed).unwrap();
    let config = tap_userspace::load::LaboratoryConfig { sampling: true, ..Default::default() };
    let mut host = HostWorld::new(&tables, config);
    let mut kernel = KernelWorld::new(&tables, config).unwrap();
    let (mut sampled, mut all) = (0, 0);
    for (name, flow) in structures() {
        for number in 0..flows {
            let (protocol, source, destination) = flow(number);
            let (there, back) = ((protocol, source, destination), (protocol, destination, source));
            let mut first = None;
            for (way, flags, payload) in [(there, 2, 0), (back, 18, 0), (there, 24, 700), (back, 17, 1_400)] {
                let frame = frame(way, flags, payload);
                let decision = host.decide(&frame, 0).unwrap();
                assert!(decision == kernel.decide(&frame, 0).unwrap(), "{name}, flow {number}: host and kernel differ");
                let outcome = decision.outcome.name().unwrap();
                assert!(
                    !["malformed", "unsupported", "no_lease"].contains(&outcome),
                    "{name}, flow {number}: {outcome}"
                );
                let is = outcome != "not_sampled";
                assert_eq!(*first.get_or_insert(is), is, "{name}, flow {number} is not whole");
            }
            sampled += u32::from(first == Some(true));
            all += 1;
        }
    }
    println!("{sampled} of {all} flows sampled, four packets each");
    assert!(sampled * 20 > all && sampled * 7 < all, "{sampled} of {all} flows sampled");
}
