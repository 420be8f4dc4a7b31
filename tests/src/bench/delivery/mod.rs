//! Delivery: what the product's own processes bring from the rings to the spool, to the store and back.
//!
//! In: frames that are all selected, from a generator that the agent shares the machine with. Out: records per second, time to the
//! acknowledgement, processor time and memory of agent and receiving side; the same of softflowd, nfcapd and nfacctd for the same
//! packets. What bounds it: each measurement lasts seconds. Nothing here is a part of the product that was taken out of it.

mod peers;
mod process;
mod scene;
mod sealing;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{Bencher, Case, Outcome, median, round};
use process::{Used, per_million};
use scene::Scene;

pub(super) use peers::vs_softflowd;
pub(super) use sealing::spool_sealing;

/// Records offered a second where the agent is to be the slower side.
const MORE_THAN_ENOUGH: u64 = 3_000_000;
/// What is offered to both sides together: more than the goal.
const OFFERED: u64 = 800_000;
/// A tenth of the goal: where the time to the acknowledgement is measured.
const TENTH: u64 = 50_000;
/// A measurement, and what goes before it.
const LASTS: Duration = Duration::from_secs(4);
const SETTLES: Duration = Duration::from_secs(1);
/// A delivery of minutes would fill the disk; more rounds than these say no more.
const ROUNDS_MAX: u32 = 5;
const MEGA: f64 = 1e6;

#[allow(clippy::cast_precision_loss, reason = "counts of millions")]
fn float(count: u64) -> f64 {
    count as f64
}

impl Bencher {
    fn lasts(&self) -> Duration {
        if self.quick { LASTS / 8 } else { LASTS }
    }

    fn few_rounds(&self) -> u32 {
        self.rounds.min(ROUNDS_MAX)
    }
}

/// A case of a rate alone.
fn of_rate(records_per_second: f64) -> Case {
    let mut case = Case::new(1e9 / records_per_second, 1.0, "–");
    (case.ratio, case.reference_ns) = (None, None);
    case.further.insert("records_per_second", records_per_second.round());
    case
}

/// The agent on one processor, nobody to deliver to; the generator on the other.
pub(super) fn ring_to_spool(bencher: &mut Bencher) -> Result<Outcome> {
    let Some((first, last)) = scene::two_cpus()? else {
        return Ok(Outcome::Absent("this machine has one CPU".to_owned()));
    };
    let (mut rates, mut costs, mut offered) = (Vec::new(), Vec::new(), Vec::new());
    let mut memory = 0;
    for _ in 0..bencher.few_rounds() {
        let mut scene = Scene::new(bencher)?;
        let agent = scene.agent(Some(last))?;
        let lasts = bencher.lasts();
        let (rate, cost, selected) = scene.under_load(MORE_THAN_ENOUGH, first, || {
            std::thread::sleep(SETTLES);
            let (since, before, used) = (Instant::now(), scene.measure()?, Used::by(agent.pid())?);
            std::thread::sleep(lasts);
            let (took, after) = (since.elapsed(), scene.measure()?);
            let records = float(after.records.spooled - before.records.spooled);
            let used = Used::by(agent.pid())?.since(used);
            let selected = float(scene::selected(&after) - scene::selected(&before));
            Ok((records / took.as_secs_f64(), used * MEGA / records, selected / took.as_secs_f64()))
        })?;
        rates.push(rate);
        costs.push(cost);
        offered.push(selected);
        memory = memory.max(process::resident_bytes(agent.pid())?);
    }
    let mut case = of_rate(median(rates));
    case.further.insert("agent_cpu_s_per_million", round(median(costs), 1_000.0));
    case.further.insert("offered_meanwhile_per_second", median(offered).round());
    case.further.insert("agent_resident_mb_without_maps", float(memory >> 20));
    Ok(Outcome::Measured(case))
}

/// Agent, receiving side and generator on this machine's processors together.
pub(super) fn end_to_end(bencher: &mut Bencher) -> Result<Outcome> {
    let Some((first, _)) = scene::two_cpus()? else {
        return Ok(Outcome::Absent("this machine has one CPU".to_owned()));
    };
    let mut samples: [Vec<f64>; 7] = Default::default();
    let mut memory = 0;
    for _ in 0..bencher.few_rounds() {
        let mut scene = Scene::new(bencher)?;
        let receiver = scene.receiver()?;
        let agent = scene.agent(None)?;
        let lasts = bencher.lasts();
        let latencies = scene.latencies(TENTH, first, lasts)?;
        let used =
            || -> Result<[f64; 2]> { Ok([Used::by(agent.pid())?.seconds(), Used::by(receiver.pid())?.seconds()]) };
        let now = scene.under_load(OFFERED, first, || {
            std::thread::sleep(SETTLES);
            let (since, before, used_before) = (Instant::now(), scene.measure()?, used()?);
            std::thread::sleep(lasts);
            let (took, after, used_after) = (since.elapsed(), scene.measure()?, used()?);
            let acknowledged = after.delivery.acknowledged_records - before.delivery.acknowledged_records;
            let spooled = after.records.spooled - before.records.spooled;
            let [agent, receiver] = per_million(used_before, used_after, acknowledged);
            let offered = scene::selected(&after) - scene::selected(&before);
            let [acknowledged, spooled, offered] =
                [acknowledged, spooled, offered].map(|records| float(records) / took.as_secs_f64());
            Ok([acknowledged, spooled, offered, agent, receiver])
        })?;
        memory = memory.max(process::resident_bytes(agent.pid())?);
        samples.iter_mut().zip(now.into_iter().chain(latencies)).for_each(|(samples, now)| samples.push(now));
    }
    let [acknowledged, spooled, offered, agent, receiver, middle, most] = samples.map(median);
    let mut case = of_rate(acknowledged);
    case.further.insert("spooled_meanwhile_per_second", spooled.round());
    case.further.insert("offered_meanwhile_per_second", offered.round());
    case.further.insert("agent_cpu_s_per_million", round(agent, 1_000.0));
    case.further.insert("receiver_cpu_s_per_million", round(receiver, 1_000.0));
    case.further.insert("agent_resident_mb_without_maps", float(memory >> 20));
    case.further.insert("median_ms_to_acknowledgement_at_50k_per_second", round(middle, 10.0));
    case.further.insert("p99_ms_to_acknowledgement_at_50k_per_second", round(most, 10.0));
    Ok(Outcome::Measured(case))
}

/// The middle value and the one that a hundredth are above.
fn middle_and_p99(mut values: Vec<f64>) -> Result<[f64; 2]> {
    values.sort_unstable_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().context("a latency");
    Ok([at(values.len() / 2)?, at(values.len() * 99 / 100)?])
}
