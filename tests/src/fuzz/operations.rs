//! Target `operations`: the bytes are a list of things that happen to a facility with one to four measures.
//!
//! A rule is added or removed and the tables are compiled anew; the clock jumps; a lease is lost or given again; the bucket
//! is emptied; a frame is decided. State carries over, as it does in the shared maps. Checked after every frame: the model's
//! verdicts, for every slot; over a clock that only went forward: no epoch's credit is exceeded; at the end: every packet
//! is accounted for from every slot, and the same list gives the same decisions.

use super::bytes::{lawful, measure};
use super::model::{Model, found};
use super::planted::decided;
use super::world::{Measure, World};
use crate::generate::{frame, rule};
use crate::random::Random;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use tap_common::abi::counter::{Counters, FACILITY_VERDICTS};
use tap_common::abi::policy::{CapPolicy, Lease};
use tap_common::limits::{EPOCH_NS, MEASURES_MAX};
use tap_common::path::verdict::Decision;
use tap_userspace::load::{HostWorld, Laboratory as _, LaboratoryConfig};

/// Operations that are read of one input.
const OPERATIONS_MAX: usize = 64;
/// Recompilations of one input: each takes a millisecond.
const GENERATIONS_MAX: usize = 6;
/// Frames that are sent to empty a bucket: enough for the largest credit here.
const FLOOD_FRAMES: usize = 16;
/// The clock goes up to a day less a bit: a bucket's tag comes round after 23 hours, and the model knows no tags.
const CLOCK_NS_MAX: u64 = 80_000_000_000_000;

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Operation {
    /// A new generation's tables, by their place in [`Script::generations`].
    Generation(usize),
    /// The clock shows this time.
    Clock(u64),
    /// A slot's lease.
    Lease(u32, Lease),
    /// A frame is decided.
    Frame(Vec<u8>),
}

/// What an input means.
pub struct Script {
    /// The generations' tables; the first is there from the beginning.
    pub generations: Vec<World>,
    /// What happens, in order.
    pub operations: Vec<Operation>,
    /// Stages, buckets, the leases of the beginning.
    pub config: LaboratoryConfig,
}

/// Bytes as they are asked for; 0 when there are no more.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        u64::from(u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()]))
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(self.0.len().min(length));
        self.0 = rest;
        taken.to_vec()
    }
}

impl Script {
    /// Reads `input`.
    ///
    /// # Errors
    /// When generated rules do not compile; the generator is at fault then.
    pub fn read(input: &[u8]) -> Result<Self> {
        let mut input = Input(input);
        let count = 1 + usize::from(input.byte() % 4);
        let options = input.byte();
        let mut random = Random::from_seed(u64::from(input.byte()));
        let ppm = |bits: u8| match bits & 3 {
            1 => 700_000,
            3 => 0,
            _ => 1_000_000,
        };
        let mut measures: Vec<Measure> = (0..count)
            .map(|slot| measure(&mut random, 4, ppm(options >> (slot % 2 * 2)), options & 0x10 != 0 && slot == 0))
            .collect();
        let policy = |credit| CapPolicy { epoch_credit_bytes: credit, chunk_bytes: credit / 4 };
        let always = Lease { not_before_ns: 0, deadline_ns: u64::MAX };
        let config = LaboratoryConfig {
            sampling: true,
            cap: options & 0x20 == 0,
            cap_policy: policy(if options & 0x40 == 0 { 4_000 } else { 100_000 }),
            measure_cap_policy: policy(3_000),
            lease: always,
            transport: None,
        };
        let mut script = Self { generations: vec![World::new(&measures)?], operations: Vec::new(), config };
        let mut now_ns = EPOCH_NS;
        let mut operations = 0;
        while !input.0.is_empty() && operations < OPERATIONS_MAX {
            operations += 1;
            match input.byte() % 10 {
                0 => script.recompile(&mut measures, input.byte(), input.number(), true)?,
                1 => script.recompile(&mut measures, input.byte(), input.number(), false)?,
                2 | 3 => {
                    now_ns = jump(now_ns, input.byte(), input.number());
                    script.operations.push(Operation::Clock(now_ns));
                }
                4 => {
                    let slot = u32::from(input.byte()) % u32::try_from(count)?;
                    script.operations.push(Operation::Lease(slot, lease(now_ns, input.byte())));
                }
                5 => {
                    let flood = frame(&mut Random::from_seed(input.number()));
                    script.operations.extend(vec![Operation::Frame(flood); FLOOD_FRAMES]);
                }
                6 => {
                    let length = usize::from(input.byte());
                    script.operations.push(Operation::Frame(input.take(length)));
                }
                _ => script.operations.push(Operation::Frame(frame(&mut Random::from_seed(input.number())))),
            }
        }
        Ok(script)
    }

    /// A rule is added to a measure or taken from it; one always stays.
    fn recompile(&mut self, measures: &mut [Measure], slot: u8, seed: u64, add: bool) -> Result<()> {
        let count = measures.len();
        let Some(measure) = measures.get_mut(usize::from(slot) % count) else { return Ok(()) };
        if self.generations.len() >= GENERATIONS_MAX {
            return Ok(());
        }
        if add {
            // A number that no rule of the measure has, nor had.
            let number = 1_000 + self.generations.len();
            measure.rules.push(rule(&mut Random::from_seed(seed), number));
        } else if measure.rules.len() > 1 {
            measure.rules.pop();
            let left = measure.rules.len();
            measure.payload.retain(|place, _| *place < left);
        }
        self.operations.push(Operation::Generation(self.generations.len()));
        self.generations.push(World::new(measures)?);
        Ok(())
    }

    /// Lets everything happen and holds each decision against the model. Returns the decisions.
    ///
    /// # Errors
    /// What was wrong.
    pub fn run(&self) -> Result<Vec<Decision>> {
        let Some(first) = self.generations.first() else { return Ok(Vec::new()) };
        let credits = self.config.cap_policy.epoch_credit_bytes;
        let credits = self.config.cap.then_some((credits, self.config.measure_cap_policy.epoch_credit_bytes));
        let mut world = first;
        let mut host = HostWorld::new(&world.tables, self.config);
        let mut model = Model::new(self.config.lease, credits);
        let mut ledger = Ledger::default();
        let mut decisions = Vec::new();
        let mut now_ns = EPOCH_NS;
        for (number, operation) in self.operations.iter().enumerate() {
            match operation {
                Operation::Generation(place) => {
                    let Some(next) = self.generations.get(*place) else { continue };
                    world = next;
                    host.replace(&world.tables);
                }
                Operation::Clock(to) => {
                    ledger.stepped_back |= *to < now_ns;
                    now_ns = *to;
                }
                Operation::Lease(slot, lease) => {
                    host.set_slot_lease(*slot, *lease)?;
                    if let Some(place) = model.leases.get_mut(*slot as usize) {
                        *place = *lease;
                    }
                }
                Operation::Frame(frame) => {
                    let decision = decided(&mut host, frame, now_ns)?;
                    let (expected, _) = model.expect(world, frame, now_ns)?;
                    let found = found(world, &decision);
                    ensure!(found == expected, "operation {number}: decided {found:?}, expected {expected:?}");
                    lawful(world, &decision)?;
                    ledger.book(&decision, world.measures.len(), now_ns, credits)?;
                    decisions.push(decision);
                }
            }
        }
        ledger.balance(first.measures.len())?;
        Ok(decisions)
    }
}

/// What was counted and admitted.
#[derive(Default)]
struct Ledger {
    counters: Counters,
    /// Bytes admitted by epoch: the facility's, then each slot's.
    admitted: BTreeMap<u64, [u64; 1 + MEASURES_MAX]>,
    stepped_back: bool,
}

impl Ledger {
    fn book(&mut self, decision: &Decision, measures: usize, now_ns: u64, credits: Option<(u64, u64)>) -> Result<()> {
        self.counters.observed_packets += 1;
        let facility = usize::from(decision.outcome.0);
        if facility < FACILITY_VERDICTS {
            self.counters.facility_verdicts.iter_mut().skip(facility).take(1).for_each(|count| *count += 1);
            return Ok(());
        }
        let admitted = self.admitted.entry(now_ns / EPOCH_NS).or_default();
        let bytes = u64::from(decision.line_bytes);
        let of_facility = if decision.admitted == 0 { 0 } else { bytes };
        for (slot, counters) in (0..).zip(&mut self.counters.measures).take(measures) {
            match decision.verdict(slot) {
                Some(verdict) => {
                    counters.verdicts.iter_mut().skip(verdict as usize).take(1).for_each(|count| *count += 1);
                }
                None => counters.idle_packets += 1,
            }
        }
        for (place, sum) in admitted.iter_mut().enumerate() {
            let own = place > 0 && decision.admitted >> (place - 1) & 1 == 1;
            *sum += if place == 0 { of_facility } else { u64::from(own) * bytes };
        }
        if let (Some((facility, own)), false) = (credits, self.stepped_back) {
            let [of_facility, of_slots @ ..] = admitted;
            ensure!(*of_facility <= facility, "the facility admitted {of_facility} bytes in an epoch of {facility}");
            ensure!(measures < 2 || of_slots.iter().all(|sum| *sum <= own), "a measure admitted more than its credit");
        }
        Ok(())
    }

    fn balance(&self, measures: usize) -> Result<()> {
        for slot in 0..measures {
            let (judged, observed) = (self.counters.judged_packets_of(slot), self.counters.observed_packets);
            ensure!(judged == observed, "slot {slot}: {observed} packets observed, {judged} accounted for");
        }
        Ok(())
    }
}

fn jump(now_ns: u64, kind: u8, number: u64) -> u64 {
    let to = match kind % 8 {
        0 => now_ns + number % EPOCH_NS,
        1 => now_ns + EPOCH_NS,
        2 => now_ns - now_ns % EPOCH_NS + EPOCH_NS - 1,
        3 => now_ns + number,
        4 => now_ns + number * 1_000,
        5 => now_ns.saturating_sub(number % (2 * EPOCH_NS)),
        6 => now_ns.saturating_sub(number * 100),
        _ => number * 10_000,
    };
    to.min(CLOCK_NS_MAX)
}

/// Lost, given from or up to this very nanosecond, to come, ended, or for ever.
fn lease(now_ns: u64, kind: u8) -> Lease {
    let (not_before_ns, deadline_ns) = match kind % 8 {
        0 => (0, 0),
        1 => (now_ns, now_ns + 1),
        2 => (0, now_ns),
        3 => (now_ns + 1, u64::MAX),
        4 => (now_ns, now_ns + 3 * EPOCH_NS),
        5 => (now_ns.saturating_sub(1), now_ns + 1),
        _ => (0, u64::MAX),
    };
    Lease { not_before_ns, deadline_ns }
}

/// Runs `input`, twice.
///
/// # Errors
/// What was wrong.
pub fn check(input: &[u8]) -> Result<()> {
    let script = Script::read(input)?;
    let decisions = script.run()?;
    ensure!(decisions == script.run()?, "the same operations are decided in two ways");
    Ok(())
}
