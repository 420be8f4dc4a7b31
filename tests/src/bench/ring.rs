//! Records per second from the kernel on one CPU to the agent's ring reader on another, without loss.
//!
//! The consumer is the agent's own, on the agent's timer. The producer is the program's making of a record, again and again:
//! the ring's own limit. What one CPU's whole way makes when every packet is selected is measured beside it.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use tap_common::abi::counter::Verdict;
use tap_common::limits::ring_bytes;
use tap_userspace::limits::{DRAIN_INTERVAL, DRAIN_RECORDS_MAX};
use tap_userspace::load::bench::{Bench, Program, Setup};
use tap_userspace::path::ring::RingConsumer;

use super::pooled::{of_slot_0, verify};
use super::world::{self, End};
use super::{Bencher, Case, Outcome, cpus, pin_to, round, unlimited};

/// Records of one measurement.
const RECORDS: u32 = 3_000_000;
/// Sizes of rings that are tried beside the product's: what they lose is the reason for its size.
const SMALLER_BYTES: [(u32, &str); 3] =
    [(1 << 20, "lost_percent_with_1_mib"), (1 << 21, "lost_percent_with_2_mib"), (1 << 22, "lost_percent_with_4_mib")];

pub(super) fn records_per_second(bencher: &mut Bencher) -> Result<Outcome> {
    let cpus = cpus()?;
    let (Some(producer), Some(consumer)) = (cpus.first().copied(), cpus.last().copied()) else {
        return Ok(Outcome::Absent("no CPU is allowed".to_owned()));
    };
    if producer == consumer {
        return Ok(Outcome::Absent("this machine has one CPU".to_owned()));
    }
    let selectors = bencher.world.mixed(10_000)?;
    let flows = bencher.world.inside(1_024, &selectors);
    let tables = bencher.world.tables(&selectors, End::Either, 1_000_000)?;
    let programs = &[Program::Pooled, Program::Again];
    let (tables, flows, template) = (&tables, &flows, world::ipv4());
    let mut bench = Bench::new(Setup {
        programs,
        tables,
        flows,
        template,
        cap_policy: unlimited()?,
        interface: 0,
        kernel_maps: None,
    })?;
    let bytes = ring_bytes(bench.cpus());
    bench.renew_rings(bytes)?;
    verify(&bench, Program::Pooled, Verdict::Selected, 1_024)?;
    let records = bencher.repeat(RECORDS);
    let mut transfer = |program, bytes| transfer(&mut bench, program, bytes, records, (producer, consumer));
    let (mut lost_most, mut lost_whole_way) = (0, 0);
    let [rate, whole_way] = bencher.medians(|| {
        // In this order: the second makes the records of the first's last decision.
        let (whole_way, lost) = transfer(Program::Pooled, bytes)?;
        lost_whole_way = lost_whole_way.max(lost);
        let (rate, lost) = transfer(Program::Again, bytes)?;
        lost_most = lost_most.max(lost);
        Ok([rate, whole_way])
    })?;
    let mut case = Case::new(1e9 / rate, 1e9 / rate, "–");
    (case.ratio, case.reference_ns) = (None, None);
    case.further.insert("records_per_second", rate.round());
    #[allow(clippy::cast_precision_loss, reason = "counts of a few million")]
    let percent = |lost: u64| round(lost as f64 * 100.0 / f64::from(records), 1_000.0);
    case.further.insert("lost_percent_most", percent(lost_most));
    case.further.insert("whole_way_records_per_second", whole_way.round());
    case.further.insert("whole_way_lost_percent_most", percent(lost_whole_way));
    for (bytes, name) in SMALLER_BYTES {
        case.further.insert(name, percent(transfer(Program::Again, bytes)?.1));
    }
    Ok(Outcome::Measured(case))
}

/// Makes `records` records on one CPU and reads them on the other; records per second, and how many were lost.
fn transfer(
    bench: &mut Bench,
    program: Program,
    bytes: u32,
    records: u32,
    (producer, consumer): (usize, usize),
) -> Result<(f64, u64)> {
    let ring = bench.renew_rings(bytes)?.into_iter().nth(producer).context("every CPU has a ring")?;
    let mut ring = RingConsumer::new(ring, usize::try_from(bytes)?)?;
    let bench = &*bench;
    let (start, ended) = (Barrier::new(2), AtomicBool::new(false));
    let (_, lost_before) = of_slot_0(bench, Verdict::Selected)?;
    let (took, read) = std::thread::scope(|scope| -> Result<_> {
        let reader = scope.spawn(|| -> Result<u64> {
            let pinned = pin_to(consumer);
            let (mut batch, mut read) = (Vec::with_capacity(DRAIN_RECORDS_MAX), 0);
            start.wait();
            pinned?;
            loop {
                let last = ended.load(Ordering::Acquire);
                loop {
                    let taken = ring.drain(&mut batch, DRAIN_RECORDS_MAX);
                    ring.release();
                    batch.clear();
                    read += taken as u64;
                    if taken < DRAIN_RECORDS_MAX {
                        break;
                    }
                }
                if last {
                    return Ok(read);
                }
                std::thread::sleep(DRAIN_INTERVAL);
            }
        });
        let writer = scope.spawn(|| -> Result<f64> {
            let pinned = pin_to(producer);
            start.wait();
            pinned?;
            let begin = Instant::now();
            let ran = bench.run(program, records);
            let took = begin.elapsed().as_secs_f64();
            ended.store(true, Ordering::Release);
            ran?;
            Ok(took)
        });
        let took = writer.join().ok().context("the producing thread panicked")??;
        Ok((took, reader.join().ok().context("the reading thread panicked")??))
    })?;
    let (_, lost) = of_slot_0(bench, Verdict::Selected)?;
    let lost = lost - lost_before;
    ensure!(read + lost == u64::from(records), "{records} records were made, {read} were read and {lost} lost");
    #[allow(clippy::cast_precision_loss, reason = "a count of a few million")]
    Ok((read as f64 / took, lost))
}
