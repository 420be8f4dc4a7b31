//! Sets with very many scattered full-length addresses: hashed tables, tries around them, against a naive set; host and
//! kernel alike, and their memory as the formula says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its report")]
#![allow(clippy::indexing_slicing, reason = "indices are drawn below the length")]

use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tap_common::path::exact::places;
use tap_tests::need;
use tap_tests::packet::{Layer, build};
use tap_tests::random::Random;
use tap_tests::world::WorldFile;
use tap_userspace::laboratory::cpu::stay_on_this_cpu;
use tap_userspace::load::{HostWorld, KernelWorld, Laboratory};

/// Places an address condition stands in, by rule.
const FIELDS: [&str; 5] = ["source-address", "destination-address", "address", "source-address", "address"];
/// What the kernel needs for a map beside its elements: the map itself and the rounding to whole pages.
const MAP_OVERHEAD_BYTES: u64 = 2 * 4_096;

/// The naive side: each rule's addresses and prefixes.
struct Naive {
    field: &'static str,
    addresses: HashSet<IpAddr>,
    prefixes: Vec<IpNetwork>,
}

impl Naive {
    fn holds(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || self.prefixes.iter().any(|prefix| prefix.contains(address))
    }

    fn matches(&self, source: IpAddr, destination: IpAddr) -> bool {
        match self.field {
            "source-address" => self.holds(source),
            "destination-address" => self.holds(destination),
            _ => self.holds(source) || self.holds(destination),
        }
    }

    fn rule(&self, number: usize) -> Value {
        let singles = self.addresses.iter().map(IpAddr::to_string);
        let any: Vec<String> = singles.chain(self.prefixes.iter().map(IpNetwork::to_string)).collect();
        json!({
            "id": format!("r{number}"), "act": "a-1", "reason": "test", "valid_until": "2199-01-01T00:00:00Z",
            "conditions": [
                {"item": "facility-address", "field": self.field, "any": any},
                {"item": "aid", "field": "destination-port", "any": ["443"]},
            ],
        })
    }
}

/// Addresses scattered over 10/8 and over the interface identifiers of 64 sites.
fn scattered(random: &mut Random, is_ipv4: bool) -> IpAddr {
    if is_ipv4 {
        let low = u32::try_from(random.below(0..1 << 24)).unwrap();
        IpAddr::V4(Ipv4Addr::from(10 << 24 | low))
    } else {
        let site = u128::from(random.below(0..64));
        IpAddr::V6(Ipv6Addr::from(0x2001_0db8 << 96 | site << 80 | u128::from(random.bits())))
    }
}

fn prefix(address: IpAddr, length: u8) -> IpNetwork {
    let host = IpNetwork::new(address, length).unwrap();
    IpNetwork::new(host.network(), length).unwrap()
}

/// `count` addresses of each family in all, shared out over the rules, some in two; prefixes around some of them, so that
/// they lie inside, and prefixes next to others.
fn rules(random: &mut Random, count: usize) -> Vec<Naive> {
    let empty = |field| Naive { field, addresses: HashSet::new(), prefixes: Vec::new() };
    let mut rules: Vec<Naive> = FIELDS.into_iter().map(empty).collect();
    for number in 0..2 * count {
        let address = scattered(random, number % 2 == 0);
        for _ in 0..random.pick([1, 1, 1, 2]) {
            let rule = random.index(0..FIELDS.len());
            rules[rule].addresses.insert(address);
        }
        if number % (count / 50) == 0 {
            let length =
                if address.is_ipv4() { random.pick([24, 28, 30, 31]) } else { random.pick([64, 100, 120, 127]) };
            let rule = random.index(0..FIELDS.len());
            rules[rule].prefixes.push(prefix(address, length));
        }
    }
    rules
}

fn world(rules: &[Naive]) -> WorldFile {
    let rules: Vec<Value> = rules.iter().enumerate().map(|(number, rule)| rule.rule(number)).collect();
    WorldFile {
        basis: "foreign-to-foreign".to_owned(),
        domestic: Vec::new(),
        foreign: Vec::new(),
        rest: "foreign".to_owned(),
        set: json!({"measure": "m-laboratory", "version": 1, "standard": "s-laboratory", "rules": rules}),
        sampling_ppm: None,
        sampling_seed: 0,
        cap: None,
        lease: None,
        transport: None,
    }
}

fn frame(source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let ip = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Layer::Ipv4 {
            source,
            destination,
            version: None,
            option_words: 0,
            header_words: None,
            total_length: None,
            protocol: None,
            fragment_offset: 0,
            more_fragments: false,
        },
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Layer::Ipv6 { source, destination, version: None, payload_length: None, next_header: None }
        }
        _ => panic!("two families"),
    };
    let udp = Layer::Ports { protocol: 17, source_port: 1, destination_port: 443 };
    build(&[Layer::Ethernet { ether_type: None }, ip, udp]).unwrap()
}

/// An address to ask for: listed, its neighbour, or any.
fn asked(random: &mut Random, listed: &[IpAddr], is_ipv4: bool) -> IpAddr {
    let neighbour = |address: IpAddr, change: u128| match address {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from(u32::from(address) ^ u32::try_from(change).unwrap())),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) ^ change)),
    };
    match random.below(0..10) {
        0..4 => listed[random.index(0..listed.len())],
        4..7 => neighbour(listed[random.index(0..listed.len())], 1 << random.below(0..7)),
        _ => scattered(random, is_ipv4),
    }
}

fn compare(random: &mut Random, count: usize, packets: usize) {
    let is_root = need::root();
    if is_root {
        stay_on_this_cpu().unwrap();
    }
    let rules = rules(random, count);
    let world = world(&rules);
    let setup = world.setup().unwrap_or_else(|error| panic!("{error:#}"));
    let mut host = HostWorld::new(&setup.tables, world.config());
    let mut kernel = is_root.then(|| KernelWorld::new(&setup.tables, world.config()).unwrap());
    let listed = |is_ipv4| -> Vec<IpAddr> {
        let all = rules.iter().flat_map(|rule| &rule.addresses).copied();
        let mut all: Vec<IpAddr> = all.filter(|address| address.is_ipv4() == is_ipv4).collect();
        all.sort_unstable();
        all
    };
    let (four, six) = (listed(true), listed(false));
    let mut matched = 0;
    for number in 0..packets {
        let (all, is_ipv4) = if number % 2 == 0 { (&four, true) } else { (&six, false) };
        let (source, destination) = (asked(random, all, is_ipv4), asked(random, all, is_ipv4));
        let frame = frame(source, destination);
        let expected: Vec<usize> = (0..rules.len()).filter(|rule| rules[*rule].matches(source, destination)).collect();
        let decision = host.decide(&frame, 0).unwrap();
        let found: Vec<usize> = setup.tables.rules_of(0, &decision.rules).collect();
        assert_eq!(found, expected, "packet {number}: {source} {destination}");
        matched += usize::from(!expected.is_empty());
        if let Some(kernel) = &mut kernel {
            assert_eq!(decision, kernel.decide(&frame, 0).unwrap(), "packet {number}: {source} {destination}");
        }
    }
    let (bytes, classes) = (setup.tables.bytes(), setup.tables.address_masks.len());
    println!(
        "{count} addresses of each family: {bytes} bytes, {classes} classes, {matched} of {packets} packets match"
    );
    assert!(matched > packets / 4 && matched < packets * 9 / 10, "{matched}");
    assert!(!setup.tables.exact4.buckets.is_empty() && !setup.tables.exact6.buckets.is_empty(), "no hashed table");
    if let Some(kernel) = &kernel {
        let (in_kernel, maps) = kernel.table_memory().unwrap();
        let bytes = u64::try_from(bytes).unwrap();
        println!("{in_kernel} bytes in the kernel's {maps} maps");
        assert!(in_kernel >= bytes && in_kernel <= bytes + maps * MAP_OVERHEAD_BYTES, "{in_kernel} of {bytes}");
    }
}

#[test]
fn scattered_addresses_are_told_apart() {
    let mut random = Random::printed("scattered_addresses_are_told_apart");
    compare(&mut random, 5_000, 4_000);
    compare(&mut random, 50_000, 4_000);
    if need::long() {
        compare(&mut random, 500_000, 40_000);
    }
}

/// Addresses whose two buckets are one and the same, more than a bucket holds: those without a place are found all the same.
#[test]
fn addresses_that_overflow_their_buckets_are_still_found() {
    /// Buckets of a table of some 4,200 addresses, less one.
    const EXACT_MASK: u32 = 1_023;
    let mut random = Random::printed("addresses_that_overflow_their_buckets_are_still_found");
    let places_of = |address: u32| places([0, 0xffff << 32 | u64::from(address)], EXACT_MASK, 0);
    let collide = |address: &u32| {
        let places = places_of(*address);
        places.first == 5 && places.second == 5
    };
    let colliding: Vec<u32> = (11 << 24..13 << 24).filter(collide).collect();
    let others = (0..4_200).map(|_| scattered(&mut random, true));
    let colliding: HashSet<IpAddr> = colliding.into_iter().map(|address| IpAddr::V4(Ipv4Addr::from(address))).collect();
    let addresses: HashSet<IpAddr> = others.chain(colliding.iter().copied()).collect();
    let count = addresses.len();
    let rules = [Naive { field: "source-address", addresses, prefixes: Vec::new() }];
    let world = world(&rules);
    let setup = world.setup().unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(setup.tables.exact4.buckets.len(), EXACT_MASK as usize + 1);
    let held = setup.tables.exact4.buckets.iter().flat_map(|bucket| bucket.classes).filter(|class| *class != 0).count();
    println!("{count} addresses, {held} in buckets, {} share one", colliding.len());
    assert!(held < count && colliding.len() > 10, "nothing overflowed");
    let mut host = HostWorld::new(&setup.tables, world.config());
    for address in rules[0].addresses.iter().copied().chain((0..5_000).map(|_| scattered(&mut random, true))) {
        let decision = host.decide(&frame(address, IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1))), 0).unwrap();
        assert_eq!(decision.matched != 0, rules[0].addresses.contains(&address), "{address}");
    }
}

/// A hundred thousand scattered prefixes of a family stand in tries, within the memory a generation may take.
#[test]
fn a_hundred_thousand_prefixes_are_told_apart() {
    let mut random = Random::printed("a_hundred_thousand_prefixes_are_told_apart");
    let mut rules: Vec<Naive> = Vec::new();
    let all: HashSet<IpNetwork> = (0..100_000)
        .map(|_| {
            let length = random.pick([26, 27, 28, 28, 30]);
            prefix(IpAddr::V4(Ipv4Addr::from(u32::try_from(random.below(1 << 24..1 << 30)).unwrap())), length)
        })
        .collect();
    let mut sorted: Vec<IpNetwork> = all.iter().copied().collect();
    sorted.sort_unstable();
    rules.push(Naive { field: "source-address", addresses: HashSet::new(), prefixes: sorted.clone() });
    let world = world(&rules);
    let setup = world.setup().unwrap_or_else(|error| panic!("{error:#}"));
    let mut host = HostWorld::new(&setup.tables, world.config());
    let mut matched = 0;
    for _ in 0..2_000 {
        let low = u32::try_from(random.below(0..1 << 6)).unwrap();
        let listed = sorted[random.index(0..sorted.len())].network();
        let IpAddr::V4(listed) = listed else { panic!("another family") };
        let source = IpAddr::V4(Ipv4Addr::from(u32::from(listed) ^ low));
        let decision = host.decide(&frame(source, IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1))), 0).unwrap();
        let expected = [26, 27, 28, 30].iter().any(|length| all.contains(&prefix(source, *length)));
        assert_eq!(decision.matched != 0, expected, "{source}");
        matched += u32::from(expected);
    }
    println!("{} prefixes: {} bytes, {matched} of 2000 packets match", sorted.len(), setup.tables.bytes());
    assert!(matched > 200 && matched < 1_999, "{matched}");
}

/// Prefixes so long and so scattered that their tries would be too large: refused, by name, before anything is loaded.
#[test]
fn more_memory_than_a_generation_may_take_is_refused() {
    let mut random = Random::from_seed(3);
    let prefixes = (0..60_000).map(|_| {
        let address = 0x2000_u128 << 112 | (u128::from(random.bits()) << 64 | u128::from(random.bits())) >> 4;
        prefix(IpAddr::V6(Ipv6Addr::from(address)), 127)
    });
    let rule = Naive { field: "source-address", addresses: HashSet::new(), prefixes: prefixes.collect() };
    let refused = format!("{:#}", world(&[rule]).setup().unwrap_err());
    assert!(refused.contains("a generation may take 268435456: use fewer or shorter prefixes"), "{refused}");
}
