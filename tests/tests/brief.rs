//! The brief way against the whole way, on the host: the same decisions, and the same credit left, packet after packet.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its report")]

use std::collections::BTreeMap;

use tap_common::path::brief::{self, Brief};
use tap_common::path::frame::Bytes;
use tap_common::path::verdict::Decision;
use tap_common::path::whole;
use tap_tests::generate::{self, DOMESTIC, FOREIGN};
use tap_tests::need;
use tap_tests::random::Random;
use tap_tests::world::{CapFile, LeaseFile, WorldFile};
use tap_userspace::load::{HostWorld, Laboratory as _};

fn world(random: &mut Random) -> WorldFile {
    let prefixes = |texts: [&str; 3]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let rules = random.pick([1, 5, 20, 64]);
    let set = generate::common_selector_set(random, rules);
    let signatures = random.pick([0, 0, 8]);
    WorldFile {
        basis: random.pick(["foreign-to-foreign", "foreign-to-domestic", "domestic-to-foreign"]).to_owned(),
        domestic: prefixes(DOMESTIC),
        foreign: prefixes(FOREIGN),
        rest: "unlisted".to_owned(),
        set: generate::with_payload(random, set, signatures),
        sampling_ppm: Some(random.pick([300_000, 900_000, 1_000_000])),
        sampling_seed: random.bits(),
        cap: Some(CapFile {
            epoch_credit_bytes: random.pick([2_000, 100_000]),
            chunk_bytes: random.pick([0, 300, 2_000]),
        }),
        lease: Some(LeaseFile { not_before_ns: 1_000_000_000, deadline_ns: 2_000_000_000 }),
        transport: None,
    }
}

#[test]
fn what_the_brief_way_decides_the_whole_way_decides() {
    let (rounds, packets) = if need::long() { (2_000, 2_000) } else { (60, 1_000) };
    let mut random = Random::printed("what_the_brief_way_decides_the_whole_way_decides");
    let mut tally = BTreeMap::<(&str, &str), u64>::new();
    for round in 0..rounds {
        let file = world(&mut random);
        let setup = file.setup().unwrap_or_else(|error| panic!("{error:#}"));
        let mut quick = HostWorld::new(&setup.tables, file.config());
        let mut slow = HostWorld::new(&setup.tables, file.config());
        // A third world tells which way a packet takes: asking spends credit.
        let mut asked = HostWorld::new(&setup.tables, file.config());
        let mut now_ns = 990_000_000;
        for number in 0..packets {
            now_ns += random.below(0..1_100_000_000 / packets);
            let frame =
                if random.chance(70) { generate::honest_frame(&mut random).0 } else { generate::frame(&mut random) };
            asked.set_now(now_ns);
            let way = match brief::decide(&Bytes::new(&frame), &mut asked, &mut Decision::new()) {
                Brief::Settled => "settled",
                Brief::Possible => "possible",
                Brief::Other => {
                    whole(&mut Bytes::new(&frame), &mut asked, &mut Decision::new());
                    "other"
                }
            };
            let decided = quick.decide(&frame, now_ns).unwrap();
            slow.set_now(now_ns);
            let mut decision = Decision::new();
            whole(&mut Bytes::new(&frame), &mut slow, &mut decision);
            assert!(
                decided == decision,
                "round {round}, packet {number}, {way}: {decided:?}, {decision:?}, {}",
                hex::encode(&frame)
            );
            *tally.entry((way, decision.outcome.name().unwrap())).or_default() += 1;
        }
    }
    println!("{tally:?}");
    for met in [
        ("settled", "not_sampled"),
        ("settled", "not_matched"),
        ("possible", "selected"),
        ("possible", "wrong_direction"),
        ("possible", "not_matched"),
        ("other", "over_cap"),
        ("other", "selected"),
        ("other", "no_lease"),
        ("other", "malformed"),
    ] {
        assert!(tally.contains_key(&met), "none was {met:?}: {tally:?}");
    }
}
