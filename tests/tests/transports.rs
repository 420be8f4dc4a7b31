//! Mirror transports: the kernel takes off what the host takes off, and what is left is what tshark finds inside.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's panic is its report")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tap_common::path::frame::Bytes;
use tap_common::path::transport::removable;
use tap_tests::generate::{self, DOMESTIC, FOREIGN};
use tap_tests::oracle;
use tap_tests::packet::capture as capture_file;
use tap_tests::random::Random;
use tap_tests::world::WorldFile;
use tap_tests::{mirrored, need};
use tap_userspace::config::transport::Transport;
use tap_userspace::laboratory::capture::Capture;
use tap_userspace::laboratory::cpu::stay_on_this_cpu;
use tap_userspace::laboratory::replay::{Show, replay};
use tap_userspace::load::{HostWorld, KernelWorld, Laboratory};

fn world(random: &mut Random, transport: &Transport) -> WorldFile {
    let prefixes = |texts: [&str; 3]| texts.iter().map(|text| text.parse().unwrap()).collect();
    WorldFile {
        basis: "foreign-to-domestic".to_owned(),
        domestic: prefixes(DOMESTIC),
        foreign: prefixes(FOREIGN),
        rest: "unlisted".to_owned(),
        set: generate::selector_set(random, 60),
        sampling_ppm: None,
        sampling_seed: 0,
        cap: None,
        lease: None,
        transport: Some(transport.clone()),
    }
}

/// Generated frames in every transport, damaged ones among them, and true ones cut at every byte.
#[test]
fn mirrored_packets_decide_alike() {
    if !need::root() {
        return;
    }
    stay_on_this_cpu().unwrap();
    let packets = if need::long() { 30_000 } else { 2_500 };
    let mut random = Random::printed("mirrored_packets_decide_alike");
    for (transport, _) in mirrored::configurations().unwrap() {
        let world = world(&mut random, &transport);
        let setup = world.setup().unwrap_or_else(|error| panic!("{error:#}"));
        let mut host = HostWorld::new(&setup.tables, world.config());
        let mut kernel = KernelWorld::new(&setup.tables, world.config()).unwrap();
        let mut tally = BTreeMap::new();
        let mut compare = |frame: &[u8]| {
            let (host, kernel) = (host.decide(frame, 0).unwrap(), kernel.decide(frame, 0).unwrap());
            assert!(host == kernel, "{transport}: host {host:?} kernel {kernel:?}\n{}", hex::encode(frame));
            *tally.entry(host.reason_name().or(host.outcome.name()).unwrap()).or_insert(0) += 1;
        };
        for _ in 0..packets {
            compare(&mirrored::frame(&mut random, &transport));
        }
        for _ in 0..packets / 500 {
            let frame = mirrored::honest_frame(&mut random, &transport);
            (0..frame.len().min(400)).for_each(|cut| compare(&frame[..cut]));
        }
        println!("{transport}: {:?} instructions verified, {tally:?}", kernel.verified_instructions().unwrap());
        for name in ["transport_short", "transport_other", "transport_address", "transport_fragment", "selected"] {
            assert!(tally.contains_key(name), "{transport}: no packet was {name}: {tally:?}");
        }
    }
}

/// Replays `capture` through the host build, behind `transport`.
fn lines(random: &mut Random, capture: &Path, transport: &Transport) -> Vec<Value> {
    let world = world(random, transport);
    let setup = world.setup().unwrap_or_else(|error| panic!("{error:#}"));
    let mut host = HostWorld::new(&setup.tables, world.config());
    let mut out = Vec::new();
    replay(Capture::open(capture).unwrap(), &mut host, &setup.labels(), Show::default(), &mut out).unwrap();
    out.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// tshark says the same of a frame inside its transport as of what is left when the transport is taken off.
#[test]
fn what_is_inside_is_what_tshark_says() {
    let Some(tshark) = need::tool("tshark") else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::printed("what_is_inside_is_what_tshark_says");
    let packets = if need::long() { 20_000 } else { 1_000 };
    let dissect = |frames: &[&[u8]], outer| {
        let file = directory.path().join("frames.pcap");
        std::fs::write(&file, capture_file(frames.iter().copied())).unwrap();
        oracle::dissect_behind(&tshark, &file, outer).unwrap()
    };
    for (transport, outer) in mirrored::configurations().unwrap() {
        let constants = transport.constants().unwrap();
        let frames: Vec<Vec<u8>> = (0..packets).map(|_| mirrored::honest_frame(&mut random, &transport)).collect();
        let whole: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let inside: Vec<&[u8]> =
            whole.iter().map(|frame| &frame[removable(&Bytes::new(frame), &constants).unwrap() as usize..]).collect();
        let (expected, found) = (dissect(&whole, Some(outer)), dissect(&inside, None));
        assert_eq!((expected.len(), found.len()), (packets, packets));
        for ((expected, found), frame) in expected.iter().zip(&found).zip(&frames) {
            assert_eq!(expected, found, "{transport}: {}", hex::encode(frame));
        }
        let parsed = found.iter().filter(|fields| fields.is_some()).count();
        assert!(parsed > packets * 4 / 5, "{transport}: only {parsed} have an IP header inside");
    }
}

/// Other people's frames: a switch's ERSPAN type II, and a VXLAN tunnel within.
#[test]
fn real_captures_behind_their_transport() {
    let here = |name: &str| -> PathBuf { Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps").join(name) };
    let mut random = Random::from_seed(1);
    let Some(tshark) = need::tool("tshark") else { return };
    for (file, transport, outer) in [
        ("tcpdump__erspan-type-ii-1.pcap", "erspan,local=192.168.255.5,key=666", "erspan"),
        ("arkime__gre-erspan-vxlan.pcap", "erspan,local=100.20.9.1,key=20", "erspan"),
    ] {
        let dissected = oracle::dissect_behind(&tshark, &here(file), Some(outer)).unwrap();
        let lines = lines(&mut random, &here(file), &transport.parse().unwrap());
        assert_eq!(lines.len(), dissected.len());
        for (line, fields) in lines.iter().zip(&dissected) {
            assert!(fields.is_some() && oracle::agree(line, fields.as_ref()), "{file}: {line} {fields:?}");
        }
    }
}
