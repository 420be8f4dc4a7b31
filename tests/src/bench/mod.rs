//! Measurements of the kernel's side: the product's way beside bare drops, foreign filters and other ways to do the same.
//!
//! In: which cases, how many rounds. Out: a [`Report`]. Every figure is the median of rounds in which a case and what it is
//! compared with take turns, so that what else the machine does meets both alike. What bounds it: repeats are counted, never
//! timed out.

mod delivery;
mod filter;
mod pooled;
mod ring;
mod swap;
mod two_cpus;
mod veth;
pub mod world;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tap_userspace::load::bench::{Bench, Program};
use tap_userspace::load::cap_policy;
use world::World;

/// Repeats, flows and selectors of a run that only shows that everything works.
const FEW: u32 = 4_096;

/// Of so many lines of the country table such a run takes one.
const QUICK_STEP: usize = 16;

/// What is measured, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Measurements of each case, of which the median counts.
    pub rounds: u32,
    /// Few repeats: shows that everything works; the figures say nothing.
    pub quick: bool,
    /// Names of cases; all, if empty.
    pub cases: Vec<String>,
}

/// One case: its cost, and the cost of what it is compared with.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Case {
    /// Nanoseconds for each packet; of the whole for what happens once.
    pub ns: f64,
    /// As the table of cases defines it; none where nothing is compared.
    pub ratio: Option<f64>,
    /// What the ratio is to.
    pub reference: &'static str,
    /// What the ratio should be.
    pub goal: &'static str,
    /// Nanoseconds of the reference.
    pub reference_ns: Option<f64>,
    /// What else was measured, by name with its unit.
    #[serde(flatten)]
    pub further: BTreeMap<&'static str, f64>,
}

impl Case {
    fn new(ns: f64, reference_ns: f64, reference: &'static str) -> Self {
        let ratio = round(ns / reference_ns, 1_000.0);
        Self {
            ns: round(ns, 10.0),
            ratio: Some(ratio),
            reference,
            goal: "–",
            reference_ns: Some(round(reference_ns, 10.0)),
            further: BTreeMap::new(),
        }
    }
}

/// What came of a case.
pub enum Outcome {
    /// It was measured.
    Measured(Case),
    /// It cannot be measured here, and why.
    Absent(String),
}

/// All results.
#[derive(serde::Serialize)]
pub struct Report {
    /// Nanoseconds of `XDP_DROP` alone.
    pub floor_ns: Option<f64>,
    /// Nanoseconds of `XDP_DROP` behind the pool of 1,024 flows, or of the one that was measured.
    pub base_ns: Option<f64>,
    /// The cases, by name.
    pub cases: BTreeMap<&'static str, Case>,
    /// Cases that cannot be measured here.
    pub not_measured: Vec<String>,
    /// Cases that failed.
    pub failed: Vec<String>,
}

/// What every case gets.
pub struct Bencher {
    rounds: u32,
    quick: bool,
    world: World,
    floor_ns: Option<f64>,
    base_ns: Option<f64>,
}

type Measure = fn(&mut Bencher) -> Result<Outcome>;

/// Every case, in the order they run, with the goal of its ratio.
pub const CASES: [(&str, &str, Measure); 20] = [
    ("not_selected_1k_flows_10k_selectors", "≤ 1.7", pooled::not_selected_1k),
    ("not_selected_1k_flows_10k_selectors_one_end", "–", pooled::not_selected_1k_one_end),
    ("not_selected_64k_flows_10k_selectors", "≤ 2.5", pooled::not_selected_64k),
    ("not_selected_1m_flows_1m_selectors", "≤ 6.5", pooled::not_selected_1m),
    ("not_sampled", "≤ 1.4", pooled::not_sampled),
    ("selected_1k_flows", "≤ 5", pooled::selected_1k),
    ("vs_kernel_maps", "≤ 0.25", pooled::vs_kernel_maps),
    ("ipv6_two_extension_headers", "≤ 1.3", pooled::ipv6),
    ("constant_packet_vs_xdp_filter", "≤ 0.65", filter::constant_packet),
    ("two_cpus", "≥ 1.7", two_cpus::two_cpus),
    ("swap_1m_selectors", "≤ 1.5 s, ≤ 256 MB, a tick", swap::swap),
    ("veth_vs_drop", "≥ 0.83", veth::drop_alone),
    ("veth_vs_xdp_filter_ipv4", "≥ 1.0", veth::xdp_filter_ipv4),
    ("veth_vs_xdp_filter_all", "≥ 1.25", veth::xdp_filter_all),
    ("veth_vs_tcpdump_1000", "≥ 4.2", veth::tcpdump),
    ("ring_records_per_second", "≥ 10 M/s", ring::records_per_second),
    ("delivery_ring_to_spool", "≥ 1 M/s, ≤ 64 MB", delivery::ring_to_spool),
    ("delivery_end_to_end", "≥ 500 k/s, ≤ 50 ms", delivery::end_to_end),
    ("delivery_spool_sealing", "–", delivery::spool_sealing),
    ("delivery_vs_softflowd", "–", delivery::vs_softflowd),
];

/// Measures.
///
/// # Errors
/// An unknown case, or the country table is not there. What fails in a case is in the report.
pub fn run(options: &Options) -> Result<Report> {
    for name in &options.cases {
        if !CASES.iter().any(|(known, ..)| known == name) {
            let known: Vec<_> = CASES.iter().map(|(known, ..)| *known).collect();
            bail!("no case {name}; there are:\n  {}", known.join("\n  "));
        }
    }
    let mut bencher = Bencher {
        rounds: options.rounds,
        quick: options.quick,
        world: World::read(if options.quick { QUICK_STEP } else { 1 })?,
        floor_ns: None,
        base_ns: None,
    };
    let cpus = sched_getaffinity(Pid::from_raw(0)).context("the CPUs of this thread")?;
    let (mut cases, mut not_measured, mut failed) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (name, goal, measure) in CASES {
        if !options.cases.is_empty() && !options.cases.iter().any(|chosen| chosen == name) {
            continue;
        }
        // A case may keep its thread on a CPU; the next one has them all again.
        sched_setaffinity(Pid::from_raw(0), &cpus).context("the CPUs of this thread")?;
        match measure(&mut bencher) {
            Ok(Outcome::Measured(case)) => {
                cases.insert(name, Case { goal, ..case });
            }
            Ok(Outcome::Absent(reason)) => not_measured.push(format!("{name}: {reason}")),
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    Ok(Report { floor_ns: bencher.floor_ns, base_ns: bencher.base_ns, cases, not_measured, failed })
}

impl Bencher {
    /// `full` repeats, or few.
    fn repeat(&self, full: u32) -> u32 {
        if self.quick { full.min(FEW) } else { full }
    }

    /// `full` flows or selectors, or few.
    fn count(&self, full: usize) -> usize {
        if self.quick { full.min(FEW as usize) } else { full }
    }

    /// Medians of what `measure` gives in each round. One round more than counts: caches and the processor's frequency
    /// settle in the first.
    fn medians<const N: usize>(&self, mut measure: impl FnMut() -> Result<[f64; N]>) -> Result<[f64; N]> {
        let mut samples: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
        for round in 0..=self.rounds {
            let now = measure()?;
            if round > 0 {
                samples.iter_mut().zip(now).for_each(|(samples, now)| samples.push(now));
            }
        }
        Ok(samples.map(median))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn round(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

/// A cap that no run reaches.
fn unlimited() -> Result<tap_common::abi::policy::CapPolicy> {
    Ok(cap_policy(400_000_000_000, 1_000_000)?)
}

/// Nanoseconds for each run of `program`: the thread's own processor time, so that what other processes take does not count.
/// It is finer than the kernel's `duration`, a whole number; the call's own time is in it, so it is for many repeats.
fn cost(bench: &Bench, program: Program, repeat: u32) -> Result<f64> {
    let begin = thread_ns()?;
    bench.run(program, repeat)?;
    #[allow(clippy::cast_precision_loss, reason = "a run lasts seconds at most")]
    let ns = (thread_ns()? - begin) as f64;
    Ok(ns / f64::from(repeat))
}

/// The same for few repeats: by the kernel's own clock, whole nanoseconds.
fn kernels_cost(bench: &Bench, program: Program, repeat: u32) -> Result<f64> {
    #[allow(clippy::cast_precision_loss, reason = "nanoseconds of one packet")]
    let ns = bench.run(program, repeat)? as f64;
    Ok(ns)
}

fn thread_ns() -> Result<i64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).context("the thread's clock")?;
    Ok(now.tv_sec() * 1_000_000_000 + now.tv_nsec())
}

/// CPUs this process may run on.
fn cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("the CPUs of this process")?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Keeps the calling thread on one CPU.
fn pin_to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("a thread on CPU {cpu}"))
}

/// The same on the last one: the first takes most interrupts.
fn pin_to_last_cpu() -> Result<()> {
    pin_to(cpus()?.last().copied().unwrap_or(0))
}
