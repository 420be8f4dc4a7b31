//! Target `bytes`: the first byte chooses a world, the others are a frame.
//!
//! Checked: it decides, always alike, as the model does; and bytes that are no header's (no payload condition being used)
//! have no say in any field of the decision. A record is made of the decision alone, so none can hold such a byte.

use super::model::{Model, found};
use super::planted::decided;
use super::world::{Measure, World};
use crate::generate::rule;
use crate::random::Random;
use anyhow::{Result, anyhow, ensure};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use tap_common::abi::counter::Verdict;
use tap_common::abi::policy::Lease;
use tap_common::path::verdict::{Decision, Outcome};
use tap_userspace::load::{HostWorld, LaboratoryConfig};
use tap_userspace::selectors::PayloadValues;

/// The lawful directions.
pub const BASES: [&str; 3] = ["foreign-to-foreign", "foreign-to-domestic", "domestic-to-foreign"];

/// A measure with `rules` generated rules; every fourth looks at the payload when `payload` says so.
#[must_use]
pub fn measure(random: &mut Random, rules: usize, sampling_ppm: u32, payload: bool) -> Measure {
    let values = |random: &mut Random| PayloadValues {
        offset: random.pick([0, 0, 1, 4, 9]),
        bytes: vec![0; random.pick([1, 2, 7, 8, 9, 16, 32])],
        mask: Vec::new(),
    };
    let mut conditions = BTreeMap::new();
    for place in (0..rules).step_by(4).filter(|_| payload).take(16) {
        let mut values = values(random);
        let mask = random.pick([0xff, 0x0f, 0x80]);
        let byte = random.pick([0, b'G', 0xff]) & mask;
        values.bytes.fill(byte);
        values.mask = vec![mask; values.bytes.len()];
        conditions.insert(place, values);
    }
    Measure {
        basis: random.pick(BASES),
        sampling_ppm,
        rules: (0..rules).map(|number| rule(random, number)).collect(),
        payload: conditions,
    }
}

/// The worlds that the first byte chooses among: one measure and several, every width of the mask, with payload and without.
///
/// # Errors
/// When one does not compile; the generator is at fault then.
pub fn worlds() -> Result<&'static [World]> {
    static WORLDS: OnceLock<Result<Vec<World>, String>> = OnceLock::new();
    let made = WORLDS.get_or_init(|| {
        let mut random = Random::from_seed(3);
        let shapes: [&[(usize, u32, bool)]; 8] = [
            &[(100, 1_000_000, false)],
            &[(256, 1_000_000, false)],
            &[(20, 1_000_000, true)],
            &[(1, 500_000, false)],
            &[(64, 1_000_000, false), (65, 300_000, false)],
            &[(30, 1_000_000, true), (30, 0, false), (30, 700_000, true)],
            &[(32, 1_000_000, false); 8],
            &[(12, 900_000, false), (1, 1_000_000, false), (70, 100_000, false), (40, 1_000_000, false)],
        ];
        let world = |shape: &[(usize, u32, bool)]| {
            let measures: Vec<Measure> =
                shape.iter().map(|(rules, ppm, payload)| measure(&mut random, *rules, *ppm, *payload)).collect();
            World::new(&measures).map_err(|error| format!("{error:#}"))
        };
        shapes.into_iter().map(world).collect()
    });
    made.as_deref().map_err(|error| anyhow!("{error}"))
}

/// Sampling on, cap off, always live: nothing carries over from one packet to the next.
#[must_use]
pub fn config() -> LaboratoryConfig {
    LaboratoryConfig { sampling: true, ..LaboratoryConfig::default() }
}

/// The world and the frame that `input` means; none for no bytes.
///
/// # Errors
/// As [`worlds`].
pub fn parts(input: &[u8]) -> Result<Option<(&'static World, &[u8])>> {
    let Some((choice, frame)) = input.split_first() else { return Ok(None) };
    let worlds = worlds()?;
    Ok(worlds.get(usize::from(*choice) % worlds.len()).map(|world| (world, frame)))
}

/// Holds the decision about one frame against the model.
///
/// # Errors
/// What was wrong.
pub fn check(input: &[u8]) -> Result<()> {
    let Some((world, frame)) = parts(input)? else { return Ok(()) };
    let always = Lease { not_before_ns: 0, deadline_ns: u64::MAX };
    let decide = |frame: &[u8]| decided(&mut HostWorld::new(&world.tables, config()), frame, 0);
    let decision = decide(frame)?;
    ensure!(decision == decide(frame)?, "the same packet is decided in two ways");
    let (expected, reading) = Model::new(always, None).expect(world, frame, 0)?;
    let found = found(world, &decision);
    ensure!(found == expected, "decided {found:?}, expected {expected:?}");
    lawful(world, &decision)?;
    if !world.looks_at_payload() {
        let mut other = frame.to_vec();
        for (byte, looked_at) in other.iter_mut().zip(&reading.looked_at) {
            *byte ^= if *looked_at { 0 } else { 0xff };
        }
        ensure!(decision == decide(&other)?, "a byte that is no header's has a say");
    }
    Ok(())
}

/// What holds of every decision, whatever the model says of it.
///
/// # Errors
/// What does not hold.
pub fn lawful(world: &World, decision: &Decision) -> Result<()> {
    let mut first = None;
    for slot in 0..8 {
        let verdict = decision.verdict(slot);
        first = first.or(verdict);
        ensure!(verdict.is_none() || (slot as usize) < world.measures.len(), "a slot without a measure has a verdict");
        let selected = decision.selected >> slot & 1 == 1;
        ensure!(selected == (verdict == Some(Verdict::Selected)), "slot {slot}: a record and a verdict that differ");
        if selected {
            ensure!(decision.live >> slot & 1 == 1, "slot {slot} selects without a lease");
            ensure!(decision.admitted >> slot & 1 == 1, "slot {slot} selects beyond the cap");
            ensure!((1..=3).contains(&decision.direction), "slot {slot} selects what is unlisted or domestic");
            ensure!(decision.parsed == 1, "slot {slot} selects what could not be read");
        }
    }
    let facility = (decision.outcome.0 as usize) < tap_common::abi::counter::FACILITY_VERDICTS;
    ensure!(facility == first.is_none(), "a packet has a facility's verdict and a measure's, or neither");
    ensure!(first.is_none_or(|verdict| decision.outcome == Outcome::measure(verdict)), "another outcome than slot 0's");
    Ok(())
}
