//! Several measures on one facility: host and kernel decide alike, and each measure gets what it would get alone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its report")]
#![allow(clippy::needless_range_loop, reason = "the slot is what the loop is about")]

use std::collections::BTreeMap;
use tap_common::abi::policy::{CapPolicy, Lease};
use tap_common::limits::{MEASURES_MAX, RULES_MAX, SIGNATURES_MAX};
use tap_common::path::direction::AddressClass;
use tap_tests::generate::{self, DOMESTIC, FOREIGN};
use tap_tests::need;
use tap_tests::random::Random;
use tap_userspace::laboratory::cpu::stay_on_this_cpu;
use tap_userspace::load::{
    HostWorld, KernelWorld, Laboratory, LaboratoryConfig, MeasureParameters, MeasureSet, Tables,
};
use tap_userspace::order::Basis;
use tap_userspace::prefixes::country::CountryTable;
use tap_userspace::selectors::check::{CheckContext, check};
use tap_userspace::selectors::{CheckedSet, SelectorSet};

/// Instructions that the verifier may process (kernel/bpf/verifier.c, `BPF_COMPLEXITY_LIMIT_INSNS`).
const VERIFIED_MAX: u32 = 1_000_000;
const SEED: u64 = 0x5eed;
const START_NS: u64 = 1_000_000_000;

/// One measure as the test makes it.
struct Measure {
    set: CheckedSet,
    parameters: MeasureParameters,
    lease: Lease,
    cap: CapPolicy,
}

fn measure(random: &mut Random, of: usize) -> Measure {
    let basis = random.pick([Basis::ForeignToForeign, Basis::ForeignToDomestic, Basis::DomesticToForeign]);
    // Laboratory orders ask for what the basis asks; some measures ask for more.
    let mut context = CheckContext::laboratory(basis);
    context.conditions_min = 2;
    let json = generate::payload_selector_set(random, RULES_MAX / of, SIGNATURES_MAX / of);
    let set = check(&SelectorSet::from_json(json.to_string().as_bytes()).unwrap(), &context).unwrap();
    let parameters = MeasureParameters {
        directions: basis.directions(),
        conditions_min: random.pick([1, 2, 2, 3]),
        sampling_ppm: random.pick([1_000_000, 700_000, 300_000]),
        sampling_seed: SEED,
    };
    let lapses_ms = random.pick([40, 100, 300, 1_000_000]);
    let lease = Lease {
        not_before_ns: START_NS + random.pick([0, 0, 20_000_000]),
        deadline_ns: START_NS + lapses_ms * 1_000_000,
    };
    let cap =
        CapPolicy { epoch_credit_bytes: random.pick([300, 1_500, 40_000]), chunk_bytes: random.pick([0, 64, 256]) };
    Measure { set, parameters, lease, cap }
}

fn country() -> CountryTable {
    let prefixes = |texts: [&str; 3]| -> Vec<_> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    CountryTable::from_flags(&prefixes(DOMESTIC), &prefixes(FOREIGN), AddressClass::Unlisted).unwrap()
}

fn tables(measures: &[Measure]) -> Tables {
    let sets: Vec<MeasureSet<'_>> =
        measures.iter().map(|measure| MeasureSet { set: &measure.set, parameters: measure.parameters }).collect();
    Tables::compile_measures(&sets, SEED, &country()).unwrap()
}

fn config(cap: bool) -> LaboratoryConfig {
    let cap_policy = CapPolicy { epoch_credit_bytes: 4_000, chunk_bytes: 256 };
    LaboratoryConfig { sampling: true, cap, cap_policy, ..LaboratoryConfig::default() }
}

fn slots(count: usize) -> std::ops::Range<u32> {
    0..u32::try_from(count).unwrap()
}

/// Decisions whole, leases lapsing one after the other, a bucket for each measure; and every measure's counters tell where
/// each packet went.
#[test]
fn host_and_kernel_decide_alike_for_several_measures() {
    if !need::root() {
        return;
    }
    stay_on_this_cpu().unwrap();
    let mut random = Random::printed("host_and_kernel_decide_alike_for_several_measures");
    let packets = if need::long() { 40_000 } else { 2_500 };
    for count in [1, 2, 3, MEASURES_MAX] {
        let measures: Vec<Measure> = (0..count).map(|_| measure(&mut random, count)).collect();
        let tables = tables(&measures);
        let mut host = HostWorld::new(&tables, config(true));
        let mut kernel = KernelWorld::new(&tables, config(true)).unwrap();
        for (slot, measure) in (0..).zip(&measures) {
            host.set_slot_lease(slot, measure.lease).unwrap();
            kernel.set_slot_lease(slot, measure.lease).unwrap();
            host.set_slot_cap(slot, measure.cap);
            kernel.set_slot_cap(slot, measure.cap);
        }
        let mut given = vec![BTreeMap::<String, u64>::new(); count];
        let (mut now_ns, mut in_kernel) = (START_NS, 0);
        for number in 0..packets {
            now_ns += random.below(0..500_000);
            let frame = generate::frame(&mut random);
            let decision = host.decide(&frame, now_ns).unwrap();
            if frame.len() < 14 {
                continue;
            }
            in_kernel += 1;
            let found = kernel.decide(&frame, now_ns).unwrap();
            assert_eq!(decision, found, "{count} measures, packet {number}: {}", hex::encode(&frame));
            for (slot, given) in slots(count).zip(&mut given) {
                *given.entry(format!("{:?}", decision.verdict(slot))).or_default() += 1;
            }
        }
        let counters = kernel.counters().unwrap();
        assert_eq!(counters.observed_packets, in_kernel);
        for slot in 0..count {
            assert_eq!(counters.judged_packets_of(slot), in_kernel, "slot {slot} of {count}");
            let of_slot = &counters.measures[slot];
            let judged: u64 = of_slot.verdicts.iter().sum();
            let none = given[slot].get("None").copied().unwrap_or(0);
            assert_eq!(judged, in_kernel - none, "slot {slot} of {count}: {:?}", given[slot]);
        }
        let verified = kernel.verified_instructions().unwrap();
        println!("{count} measures, {verified:?} instructions verified: {given:?}");
        if count == MEASURES_MAX {
            assert_eq!(tables.rule_words, 4);
            let all: std::collections::BTreeSet<&str> =
                given.iter().flat_map(|of| of.keys().map(String::as_str)).collect();
            for verdict in ["NotSampled", "OverCap", "NotMatched", "WrongDirection", "Selected"] {
                assert!(all.contains(format!("Some({verdict})").as_str()), "{verdict}: {all:?}");
            }
        }
    }
}

/// None sees another's: beside others a measure has the verdicts and the rules that it has alone.
#[test]
fn each_measure_gets_what_it_gets_alone() {
    let mut random = Random::printed("each_measure_gets_what_it_gets_alone");
    let packets = if need::long() { 100_000 } else { 4_000 };
    for count in [2, 3, MEASURES_MAX] {
        // Some worlds select hardly anything: as many are made as it takes to have compared matches, too.
        let (mut worlds, mut matched) = (0, 0);
        while matched < 1_000 {
            worlds += 1;
            assert!(worlds <= 20, "{matched} matches in 20 worlds");
            matched += beside_others_as_alone(&mut random, count, packets);
        }
        println!("{count} measures, {worlds} worlds: {matched} rules matched");
    }
}

/// One world of `count` measures, and how many rules matched in it.
fn beside_others_as_alone(random: &mut Random, count: usize, packets: u32) -> usize {
    let measures: Vec<Measure> = (0..count).map(|_| measure(random, count)).collect();
    let all = tables(&measures);
    let alone: Vec<Tables> = measures.iter().map(|measure| tables(std::slice::from_ref(measure))).collect();
    let mut together = HostWorld::new(&all, config(false));
    let mut worlds: Vec<HostWorld<'_>> = alone.iter().map(|own| HostWorld::new(own, config(false))).collect();
    for ((slot, measure), world) in (0..).zip(&measures).zip(&mut worlds) {
        together.set_slot_lease(slot, measure.lease).unwrap();
        world.set_slot_lease(0, measure.lease).unwrap();
    }
    let (mut now_ns, mut matched) = (START_NS, 0);
    for number in 0..packets {
        now_ns += random.below(0..500_000);
        let frame = generate::frame(random);
        let decision = together.decide(&frame, now_ns).unwrap();
        for ((slot, own), world) in slots(count).zip(&alone).zip(&mut worlds) {
            let single = world.decide(&frame, now_ns).unwrap();
            let about = format!("slot {slot} of {count}, packet {number}");
            assert_eq!(decision.verdict(slot), single.verdict(0), "{about}");
            let rules: Vec<usize> = all.rules_of(slot, &decision.rules).collect();
            assert_eq!(rules, own.rules_of(0, &single.rules).collect::<Vec<_>>(), "{about}");
            matched += rules.len();
        }
    }
    matched
}

/// The largest program there is: eight measures, 256 rules, every dimension, 64 signatures, sampling and cap.
#[test]
fn the_largest_program_is_within_the_verifiers_bound() {
    if !need::root() {
        return;
    }
    let mut random = Random::from_seed(11);
    let measures: Vec<Measure> = (0..MEASURES_MAX).map(|_| measure(&mut random, MEASURES_MAX)).collect();
    let mut tables = tables(&measures);
    // Every dimension and as many signatures as there are places: those that are not filled match nothing.
    tables.dimensions = 2_047;
    tables.signatures = u32::try_from(SIGNATURES_MAX).unwrap();
    let mut kernel = KernelWorld::new(&tables, config(true)).unwrap();
    let verified = kernel.verified_instructions().unwrap().unwrap_or(0);
    println!("{verified} instructions verified");
    assert!(verified > 0 && verified < VERIFIED_MAX, "{verified}");
}
