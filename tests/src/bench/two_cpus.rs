//! Two CPUs over one: the same program, tables and bucket, a thread on each CPU.

use std::sync::Barrier;

use anyhow::{Context as _, Result};
use tap_common::abi::counter::Verdict;
use tap_userspace::load::bench::{Bench, Program, Setup};

use super::pooled::verify;
use super::world::{self, End};
use super::{Bencher, Case, Outcome, cost, cpus, pin_to, round, unlimited};

/// Runs of one measurement on each CPU: a fifth of a second, beside which the start of the two threads is nothing.
const REPEAT: u32 = 1 << 22;

pub(super) fn two_cpus(bencher: &mut Bencher) -> Result<Outcome> {
    let [Some(one), Some(other)] = [cpus()?.first().copied(), cpus()?.last().copied()] else {
        return Ok(Outcome::Absent("no CPU is allowed".to_owned()));
    };
    if one == other {
        return Ok(Outcome::Absent("this machine has one CPU".to_owned()));
    }
    let selectors = bencher.world.mixed(10_000)?;
    let flows = bencher.world.elsewhere(65_536, &selectors);
    let tables = bencher.world.tables(&selectors, End::Either, 1_000_000)?;
    let programs = &[Program::Base, Program::Pooled];
    let (tables, flows, template) = (&tables, &flows, world::ipv4());
    let bench = Bench::new(Setup {
        programs,
        tables,
        flows,
        template,
        cap_policy: unlimited()?,
        interface: 0,
        kernel_maps: None,
    })?;
    verify(&bench, Program::Pooled, Verdict::NotMatched, 65_536)?;
    let repeat = bencher.repeat(REPEAT);
    let [alone, together, base_alone, base_together] = bencher.medians(|| {
        Ok([
            rate(&bench, Program::Pooled, &[one], repeat)?,
            rate(&bench, Program::Pooled, &[one, other], repeat)?,
            rate(&bench, Program::Base, &[one], repeat)?,
            rate(&bench, Program::Base, &[one, other], repeat)?,
        ])
    })?;
    let mut case = Case::new(1e9 / together, 1e9 / alone, "one CPU");
    case.ratio = Some(round(together / alone, 1_000.0));
    case.further.insert("packets_per_second", together.round());
    // What the machine itself gives: two processors of a virtual machine may be two threads of one core.
    case.further.insert("base_ratio", round(base_together / base_alone, 1_000.0));
    Ok(Outcome::Measured(case))
}

/// Packets per second of all `cpus` together.
fn rate(bench: &Bench, program: Program, cpus: &[usize], repeat: u32) -> Result<f64> {
    let start = Barrier::new(cpus.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = cpus
            .iter()
            .map(|cpu| {
                let start = &start;
                scope.spawn(move || -> Result<f64> {
                    let pinned = pin_to(*cpu);
                    start.wait();
                    pinned?;
                    Ok(1e9 / cost(bench, program, repeat)?)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().ok().context("a measuring thread panicked")?).sum()
    })
}
