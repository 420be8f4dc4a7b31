//! The cases by `BPF_PROG_TEST_RUN` over a pool of flows, beside the drop behind the same pool.

use anyhow::{Context as _, Result, ensure};
use tap_common::abi::counter::Verdict;
use tap_common::abi::record::Record;
use tap_common::limits::RING_BYTES_MIN;
use tap_userspace::load::Tables;
use tap_userspace::load::bench::{Bench, Flow, Program, Setup, Template};

use super::world::{self, End};
use super::{Bencher, Case, Outcome, cost, kernels_cost, unlimited};

/// Runs of one measurement: some fifty milliseconds, beside which the call's own time (`BPF_PROG_TEST_RUN` patches the
/// kernel's dispatcher first: a third of a millisecond) is two tenths of a nanosecond for each run.
const REPEAT: u32 = 1 << 21;
/// The same over a million flows: each of them twice.
const REPEAT_MILLION: u32 = 1 << 21;
/// Runs of a measurement that makes records: what one empty ring takes, less a reserve.
const REPEAT_RECORDS: u32 = RING_BYTES_MIN / RECORD_BYTES_MAX / 16 * 15;
/// What a record takes in a ring, at most.
const RECORD_BYTES_MAX: u32 = 128;
const _: () = assert!(Record::BYTES + 8 <= RECORD_BYTES_MAX as usize);
/// A sample as measures have them: one flow of a thousand.
const SMALL_SAMPLE_PPM: u32 = 1_000;
const ALL_PPM: u32 = 1_000_000;

pub(super) fn not_selected_1k(bencher: &mut Bencher) -> Result<Outcome> {
    not_selected(bencher, 1_024, End::Either)
}

pub(super) fn not_selected_1k_one_end(bencher: &mut Bencher) -> Result<Outcome> {
    not_selected(bencher, 1_024, End::Source)
}

pub(super) fn not_selected_64k(bencher: &mut Bencher) -> Result<Outcome> {
    not_selected(bencher, 65_536, End::Either)
}

fn not_selected(bencher: &mut Bencher, flows: usize, end: End) -> Result<Outcome> {
    let selectors = bencher.world.mixed(10_000)?;
    let flows = bencher.world.elsewhere(flows, &selectors);
    let tables = bencher.world.tables(&selectors, end, ALL_PPM)?;
    let bench = load(&tables, &flows, world::ipv4())?;
    beside_base(bencher, bench, Verdict::NotMatched, REPEAT)
}

pub(super) fn not_selected_1m(bencher: &mut Bencher) -> Result<Outcome> {
    let selectors = bencher.world.addresses(bencher.count(1_000_000));
    let flows = bencher.world.elsewhere(bencher.count(1 << 20), &selectors);
    let tables = bencher.world.tables(&selectors, End::Either, ALL_PPM)?;
    let bench = load(&tables, &flows, world::ipv4())?;
    beside_base(bencher, bench, Verdict::NotMatched, REPEAT_MILLION)
}

pub(super) fn not_sampled(bencher: &mut Bencher) -> Result<Outcome> {
    let selectors = bencher.world.mixed(10_000)?;
    let flows = bencher.world.elsewhere(65_536, &selectors);
    let tables = bencher.world.tables(&selectors, End::Either, SMALL_SAMPLE_PPM)?;
    let bench = load(&tables, &flows, world::ipv4())?;
    beside_base(bencher, bench, Verdict::NotSampled, REPEAT)
}

pub(super) fn selected_1k(bencher: &mut Bencher) -> Result<Outcome> {
    let selectors = bencher.world.mixed(10_000)?;
    let flows = bencher.world.inside(1_024, &selectors);
    let tables = bencher.world.tables(&selectors, End::Either, ALL_PPM)?;
    let bench = load(&tables, &flows, world::ipv4())?;
    beside_base(bencher, bench, Verdict::Selected, REPEAT_RECORDS)
}

pub(super) fn ipv6(bencher: &mut Bencher) -> Result<Outcome> {
    let selectors4 = bencher.world.mixed(10_000)?;
    let selectors6 = bencher.world.mixed6(10_000)?;
    let flows4 = bencher.world.elsewhere(1_024, &selectors4);
    let flows6 = bencher.world.elsewhere6(1_024, &selectors6);
    let tables4 = bencher.world.tables(&selectors4, End::Either, ALL_PPM)?;
    let tables6 = bencher.world.tables(&selectors6, End::Either, ALL_PPM)?;
    let four = load(&tables4, &flows4, world::ipv4())?;
    let six = load(&tables6, &flows6, world::ipv6())?;
    for bench in [&four, &six] {
        verify(bench, Program::Pooled, Verdict::NotMatched, 4_096)?;
    }
    let repeat = bencher.repeat(REPEAT);
    let [base, four_ns, six_ns] = bencher.medians(|| {
        Ok([
            cost(&four, Program::Base, repeat)?,
            cost(&four, Program::Pooled, repeat)?,
            cost(&six, Program::Pooled, repeat)?,
        ])
    })?;
    let mut case = Case::new(six_ns, four_ns, "the IPv4 case");
    case.further.insert("base_ns", super::round(base, 10.0));
    Ok(Outcome::Measured(case))
}

/// The same decisions on the kernel's own hash map and longest-prefix tries.
pub(super) fn vs_kernel_maps(bencher: &mut Bencher) -> Result<Outcome> {
    let (flows, selectors) = (bencher.count(65_536), bencher.count(1_000_000));
    let selectors = bencher.world.mostly_addresses(selectors, selectors / 100)?;
    // Some that are selected, so that the two can be told apart if they decide differently.
    let mut pool = bencher.world.inside(flows / 256, &selectors);
    pool.extend(bencher.world.elsewhere(flows - pool.len(), &selectors));
    let tables = bencher.world.tables(&selectors, End::Either, ALL_PPM)?;
    let bench = Bench::new(Setup {
        programs: &[Program::Base, Program::Pooled, Program::KernelMaps],
        tables: &tables,
        flows: &pool,
        template: world::ipv4(),
        cap_policy: unlimited()?,
        interface: 0,
        kernel_maps: Some(bencher.world.kernel_maps(&selectors)),
    })?;
    let once = u32::try_from(flows)?;
    let [ours, theirs] = [Program::Pooled, Program::KernelMaps].map(|program| -> Result<_> {
        let before = verdicts(&bench)?;
        bench.run(program, once)?;
        Ok(verdicts(&bench)?.into_iter().zip(before).map(|(now, before)| now - before).collect::<Vec<_>>())
    });
    let (ours, theirs) = (ours?, theirs?);
    ensure!(ours == theirs, "the two decide differently: {ours:?} and {theirs:?}");
    ensure!(ours.iter().filter(|count| **count > 0).count() >= 2, "one verdict alone shows nothing: {ours:?}");
    let (repeat, fewer) = (bencher.repeat(REPEAT), bencher.repeat(REPEAT / 4));
    let [base, ours, theirs] = bencher.medians(|| {
        Ok([
            cost(&bench, Program::Base, repeat)?,
            cost(&bench, Program::Pooled, repeat)?,
            cost(&bench, Program::KernelMaps, fewer)?,
        ])
    })?;
    let mut case = Case::new(ours, theirs, "the kernel's maps");
    case.further.insert("base_ns", super::round(base, 10.0));
    Ok(Outcome::Measured(case))
}

/// The programs of these cases.
fn load(tables: &Tables, flows: &[Flow], template: Template) -> Result<Bench> {
    let programs = &[Program::Bare, Program::Base, Program::Pooled];
    Ok(Bench::new(Setup {
        programs,
        tables,
        flows,
        template,
        cap_policy: unlimited()?,
        interface: 0,
        kernel_maps: None,
    })?)
}

/// The whole way beside the drop behind the same pool, every packet with the verdict `expected`.
fn beside_base(bencher: &mut Bencher, mut bench: Bench, expected: Verdict, repeat: u32) -> Result<Outcome> {
    let repeat = bencher.repeat(repeat);
    bench.renew_rings(RING_BYTES_MIN)?;
    verify(&bench, Program::Pooled, expected, repeat)?;
    let drops = bencher.repeat(REPEAT);
    let [floor, base, ns] = bencher.medians(|| {
        Ok([
            cost(&bench, Program::Bare, drops)?,
            cost(&bench, Program::Base, drops)?,
            if expected == Verdict::Selected {
                // What was just written into other rings has warmed the tables.
                bench.renew_rings(RING_BYTES_MIN)?;
                bench.run(Program::Pooled, repeat)?;
                bench.renew_rings(RING_BYTES_MIN)?;
                kernels_cost(&bench, Program::Pooled, repeat)?
            } else {
                cost(&bench, Program::Pooled, repeat)?
            },
        ])
    })?;
    // The first pool that is measured is the small one.
    bencher.floor_ns.get_or_insert(super::round(floor, 10.0));
    bencher.base_ns.get_or_insert(super::round(base, 10.0));
    Ok(Outcome::Measured(Case::new(ns, base, "base")))
}

/// That the packets of a case get the verdict it is named after, and no record is lost: what is measured is what is said.
pub(super) fn verify(bench: &Bench, program: Program, expected: Verdict, repeat: u32) -> Result<()> {
    let (counted, lost) = of_slot_0(bench, expected)?;
    bench.run(program, repeat)?;
    let (counted_now, lost_now) = of_slot_0(bench, expected)?;
    let (counted, lost) = (counted_now - counted, lost_now - lost);
    ensure!(
        counted * 100 >= u64::from(repeat) * 99 && lost == 0,
        "{counted} of {repeat} packets had the verdict {expected:?}, {lost} records were lost"
    );
    Ok(())
}

/// Counts of slot 0's verdicts.
fn verdicts(bench: &Bench) -> Result<Vec<u64>> {
    let counters = bench.counters()?;
    Ok(counters.measures.first().context("there is a slot 0")?.verdicts.to_vec())
}

/// How many packets had a verdict, and how many records were lost.
pub(super) fn of_slot_0(bench: &Bench, verdict: Verdict) -> Result<(u64, u64)> {
    let counters = bench.counters()?;
    let measure = counters.measures.first().context("there is a slot 0")?;
    Ok((measure.verdicts.get(verdict as usize).copied().unwrap_or(0), measure.ring_lost))
}
