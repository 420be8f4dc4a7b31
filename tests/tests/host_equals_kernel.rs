//! The host build is the oracle of the kernel's: over real captures and generated packets, every field of every
//! decision is the same.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its report")]

use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tap_common::abi::counter::REASON_NAMES;
use tap_common::limits::SIGNATURES_MAX;
use tap_common::path::verdict::Decision;
use tap_tests::generate::{self, DOMESTIC, FOREIGN};
use tap_tests::need;
use tap_tests::oracle::RuleFile;
use tap_tests::random::Random;
use tap_tests::world::{CapFile, LeaseFile, WorldFile};
use tap_userspace::laboratory::capture::Capture;
use tap_userspace::laboratory::cpu::stay_on_this_cpu;
use tap_userspace::laboratory::setup::Setup;
use tap_userspace::load::{HostWorld, KernelWorld, Laboratory};

/// Frames that the kernel does not run a program over (net/bpf/test_run.c); the host alone decides about them.
const KERNEL_FRAME_BYTES_MIN: usize = 14;

/// Verdicts and reasons of a run, by name: a run that reaches few shows little.
type Tally = BTreeMap<&'static str, u64>;

/// Both worlds over the same tables.
struct Pair<'a> {
    name: String,
    host: HostWorld<'a>,
    kernel: KernelWorld<'a>,
    tally: Tally,
}

impl<'a> Pair<'a> {
    fn new(name: &str, world: &WorldFile, setup: &'a Setup) -> Self {
        let host = HostWorld::new(&setup.tables, world.config());
        let kernel = KernelWorld::new(&setup.tables, world.config()).unwrap();
        Self { name: name.to_owned(), host, kernel, tally: Tally::new() }
    }

    /// Decides on both sides and compares the decisions whole.
    fn compare(&mut self, frame: &[u8], now_ns: u64, what: &dyn std::fmt::Display) -> Decision {
        let host = self.host.decide(frame, now_ns).unwrap();
        *self.tally.entry(host.outcome.name().unwrap()).or_default() += 1;
        if let Some(reason) = host.reason_name() {
            *self.tally.entry(reason).or_default() += 1;
        }
        if frame.len() >= KERNEL_FRAME_BYTES_MIN {
            let kernel = self.kernel.decide(frame, now_ns).unwrap();
            assert!(host == kernel, "{}, {what}: {}\n{}", self.name, difference(&host, &kernel), hex::encode(frame));
        }
        host
    }
}

/// The fields that differ; the headers' own debug form shows no address.
fn difference(host: &Decision, kernel: &Decision) -> String {
    let headers = |decision: &Decision| {
        let h = decision.headers;
        format!(
            "{:x?} {:x?} {} {} {} {} {:x} {} {:x} {} {}",
            h.source,
            h.destination,
            h.ip_length,
            h.ip_offset,
            h.source_port,
            h.destination_port,
            h.flags,
            h.protocol,
            h.tcp_flags,
            h.ip_version,
            h.fragment
        )
    };
    format!("host {host:?} {} kernel {kernel:?} {}", headers(host), headers(kernel))
}

fn directory(name: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn captures() -> Vec<PathBuf> {
    let is_capture = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "pcap" || ext == "pcapng");
    directory("pcaps").into_iter().filter(is_capture).collect()
}

/// Every packet of every capture; with every rule file in the long run, with three of them otherwise.
#[test]
fn captures_decide_alike() {
    if !need::root() {
        return;
    }
    stay_on_this_cpu().unwrap();
    let short = ["web-answers.json", "extension-headers.json", "many.json"];
    let mut compared = 0;
    for path in directory("cases/rules") {
        let name = path.file_name().unwrap().display().to_string();
        if !need::long() && !short.contains(&name.as_str()) {
            continue;
        }
        let world = WorldFile::of_rules(&RuleFile::read(&path).unwrap());
        let setup = world.setup().unwrap();
        let mut pair = Pair::new(&name, &world, &setup);
        for capture in captures() {
            for packet in Capture::open(&capture).unwrap() {
                let packet = packet.unwrap();
                let what = format!("{}, packet {}", capture.display(), packet.number);
                pair.compare(&packet.frame, packet.time_ns, &what);
                compared += 1;
            }
        }
        assert!(pair.tally.get("selected").is_some_and(|count| *count > 0), "{name} selects nothing");
        println!("{name}: {:?}", pair.tally);
    }
    println!("{compared} packets of captures compared");
}

/// `common`: with the fields alone for which the brief way is open.
fn generated_world(random: &mut Random, rules: usize, common: bool) -> WorldFile {
    let set = if common { generate::common_selector_set(random, rules) } else { generate::selector_set(random, rules) };
    let prefixes = |texts: [&str; 3]| -> Vec<IpNetwork> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    WorldFile {
        basis: random.pick(["foreign-to-foreign", "foreign-to-domestic", "domestic-to-foreign"]).to_owned(),
        domestic: prefixes(DOMESTIC),
        foreign: prefixes(FOREIGN),
        rest: if rules == 12 { "foreign" } else { "unlisted" }.to_owned(),
        set: generate::with_payload(random, set, SIGNATURES_MAX),
        sampling_ppm: None,
        sampling_seed: random.bits(),
        cap: None,
        lease: None,
        transport: None,
    }
}

/// Generated packets over generated rule sets of every width of the mask.
#[test]
fn generated_packets_decide_alike() {
    if !need::root() {
        return;
    }
    stay_on_this_cpu().unwrap();
    let packets = if need::long() { 1_000_000 } else { 5_000 };
    let sizes = [1, 12, 64, 65, 200, 256, 3, 30, 64];
    let mut random = Random::printed("generated_packets_decide_alike");
    let mut tally = Tally::new();
    for (index, rules) in sizes.into_iter().enumerate() {
        let world = generated_world(&mut random, rules, index >= 6);
        let setup = world.setup().unwrap_or_else(|error| panic!("{error:#}"));
        let mut pair = Pair::new(&format!("{rules} generated rules"), &world, &setup);
        for number in 0..packets / sizes.len() + 1 {
            pair.compare(&generate::frame(&mut random), 0, &number);
        }
        for (verdict, count) in pair.tally {
            *tally.entry(verdict).or_default() += count;
        }
    }
    println!("{tally:?}");
    for verdict in ["malformed", "unsupported", "not_matched", "unlisted", "wrong_direction", "selected"] {
        assert!(tally.contains_key(verdict), "no packet was {verdict}: {tally:?}");
    }
    // Some take a rare packet: only the long run is sure to meet one. Those of transports have a test of their own.
    for reason in REASON_NAMES.iter().filter(|name| need::long() && !name.starts_with("transport_")) {
        assert!(tally.contains_key(reason), "no packet was {reason}: {tally:?}");
    }
}

/// Sampling, cap and lease on, a clock that wavers and then jumps both ways, and a cap of a few packets: the state
/// carries over from one packet to the next, so one difference would make many.
#[test]
fn state_carries_over_alike() {
    if !need::root() {
        return;
    }
    stay_on_this_cpu().unwrap();
    let (rounds, packets) = if need::long() { (10, 4_000) } else { (3, 800) };
    let mut random = Random::printed("state_carries_over_alike");
    let mut tally = Tally::new();
    for round in 0..rounds {
        let mut world = generated_world(&mut random, if round % 2 == 0 { 60 } else { 100 }, round % 2 == 0);
        world.sampling_ppm = Some(700_000);
        world.cap = Some(CapFile { epoch_credit_bytes: 800, chunk_bytes: random.pick([0, 64, 256, 800]) });
        world.lease = Some(LeaseFile { not_before_ns: 1_000_000_000, deadline_ns: 100_000_000_000 });
        let setup = world.setup().unwrap_or_else(|error| panic!("{error:#}"));
        let mut pair = Pair::new("state", &world, &setup);
        let mut now_ns = 1_000_000_000;
        for number in 0..packets {
            // The last quarter of a round jumps: behind a jump back the cap stays shut until the time it knew.
            let jumps = number > packets * 3 / 4 && random.chance(2);
            now_ns = match random.below(0..100) {
                _ if jumps && random.chance(50) => {
                    random.pick([999_999_999, 1_000_000_000, 99_999_999_999, 100_000_000_000])
                }
                _ if jumps => random.below(0..101_000_000_000),
                0..80 => now_ns + random.below(0..1_000_000),
                80..97 => now_ns + random.below(0..20_000_000),
                _ => now_ns.saturating_sub(random.below(0..2_000_000)),
            };
            pair.compare(&generate::frame(&mut random), now_ns, &format!("round {round}, packet {number}"));
        }
        for (verdict, count) in pair.tally {
            *tally.entry(verdict).or_default() += count;
        }
    }
    println!("{tally:?}");
    for verdict in ["no_lease", "not_sampled", "over_cap", "not_matched", "selected"] {
        assert!(tally.contains_key(verdict), "no packet was {verdict}: {tally:?}");
    }
}
