//! A swap to a set of a million selectors: how long it takes, what it needs, and what the traffic notices of it.
//!
//! While it goes on, frames that both sets select arrive at the tap on another CPU, with the time they were sent written down;
//! their records say when they were judged. The longest time between the two is what a packet was delayed, and every packet
//! has a record.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tap_common::abi::policy::Lease;
use tap_common::abi::record::Record;
use tap_userspace::limits::DRAIN_INTERVAL;
use tap_userspace::load::{Attach, Tables, Tap, TapConfig};
use tap_userspace::path::ring::RingConsumer;

use super::world::{self, End};
use super::{Bencher, Case, Outcome, cpus, median, pin_to, round, unlimited};
use crate::kernel::now_ns;
use crate::lab::Host;
use crate::lab::traffic::FrameSender;

/// Selectors of the set.
const SELECTORS: usize = 1_000_000;
/// Between two frames.
const INTERVAL: Duration = Duration::from_micros(50);
/// Traffic before the first swap, for comparison, and after each.
const QUIET: Duration = Duration::from_millis(300);

pub(super) fn swap(bencher: &mut Bencher) -> Result<Outcome> {
    let cpus = cpus()?;
    let (Some(first), Some(last)) = (cpus.first().copied(), cpus.last().copied()) else {
        return Ok(Outcome::Absent("no CPU is allowed".to_owned()));
    };
    if first == last {
        return Ok(Outcome::Absent("this machine has one CPU: traffic and swap would wait for each other".to_owned()));
    }
    let few = bencher.world.mixed(10_000)?;
    let million = bencher.world.addresses(bencher.count(SELECTORS));
    // One source that both sets name.
    let source = bencher.world.hosts(1).first().copied().context("a host was drawn")?;
    let (few, million) = (few.with(source), million.with(source));
    let start = bencher.world.tables(&few, End::Either, 1_000_000)?;
    let host = Host::with_bpf("bench")?;
    host.run("ip", ["link", "add", "port", "type", "veth", "peer", "name", "router"])?;
    for name in ["port", "router"] {
        crate::lab::link::silence(&host, name)?;
    }
    let sender = FrameSender::open(&host, "router")?;
    let mut template = world::ipv4();
    let destination = bencher.world.domestic_host();
    let world = &bencher.world;
    let rounds = bencher.rounds;
    let figures = host.enter(|| -> Result<Figures> {
        let mut tap = Tap::open(TapConfig {
            interface: "port".to_owned(),
            pin_directory: "/sys/fs/bpf/bench".into(),
            inline: false,
            attach: Attach::Native,
            cap_policy: unlimited()?,
            log_reasons: false,
            transport: None,
        })?;
        tap.swap(&start, 1)?;
        tap.set_sampling(0, 1 << 32);
        tap.set_lease(0, Lease { not_before_ns: 0, deadline_ns: u64::MAX });
        let mut rings = RingConsumer::of_cpus(tap.rings()?)?;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| -> Result<Figures> {
            let stop = &stop;
            let traffic = scope.spawn(move || -> Result<Vec<u64>> {
                pin_to(last)?;
                let mut sent = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let port = u16::try_from(sent.len() % 65_536)?;
                    template.write(&tap_userspace::load::bench::Flow::new(
                        source.octets(),
                        destination.octets(),
                        port,
                        world::PORT,
                    ));
                    sent.push(now_ns()?);
                    sender.send(&template.frame)?;
                    let until = Instant::now() + INTERVAL;
                    while Instant::now() < until {
                        std::hint::spin_loop();
                    }
                }
                Ok(sent)
            });
            let reader = scope.spawn(move || {
                let mut records: Vec<Record> = Vec::new();
                loop {
                    let ends = stop.load(Ordering::Relaxed);
                    if ends {
                        // What is under way arrives.
                        std::thread::sleep(QUIET);
                    }
                    for ring in &mut rings {
                        ring.drain(&mut records, usize::MAX);
                        ring.release();
                    }
                    if ends {
                        return records;
                    }
                    std::thread::sleep(DRAIN_INTERVAL);
                }
            });
            let swaps =
                pin_to(first).and_then(|()| swaps(&mut tap, rounds, || world.tables(&million, End::Either, 1_000_000)));
            stop.store(true, Ordering::Relaxed);
            let sent = traffic.join().ok().context("the sending thread panicked")??;
            let records = reader.join().ok().context("the reading thread panicked")?;
            let lost = tap.counters()?.measures.first().map_or(0, |measure| measure.ring_lost);
            tap.detach()?;
            Figures::of(swaps?, &sent, &records, lost)
        })
    })??;
    Ok(Outcome::Measured(figures.case()))
}

/// Times of the swaps.
struct Swaps {
    compile_s: Vec<f64>,
    load_s: Vec<f64>,
    bytes: usize,
    /// When the first began.
    began_ns: u64,
}

fn swaps(tap: &mut Tap, rounds: u32, compile: impl Fn() -> Result<Tables>) -> Result<Swaps> {
    std::thread::sleep(QUIET);
    let mut swaps = Swaps { compile_s: Vec::new(), load_s: Vec::new(), bytes: 0, began_ns: now_ns()? };
    for round in 0..=rounds {
        let begin = Instant::now();
        let tables = compile()?;
        let compiled = begin.elapsed().as_secs_f64();
        tap.swap(&tables, 2 + u64::from(round))?;
        // The first meets cold caches and a heap that must grow; it counts for the delays alone.
        if round > 0 {
            swaps.compile_s.push(compiled);
            swaps.load_s.push(begin.elapsed().as_secs_f64() - compiled);
        }
        swaps.bytes = tables.bytes();
        std::thread::sleep(QUIET);
    }
    Ok(swaps)
}

struct Figures {
    swaps: Swaps,
    longest_delay_ns: u64,
    longest_delay_before_ns: u64,
    packets: usize,
}

impl Figures {
    /// Holds what was sent against the records, which say in the port which packet they are of.
    fn of(swaps: Swaps, sent: &[u64], records: &[Record], lost: u64) -> Result<Self> {
        ensure!(
            lost == 0 && records.len() == sent.len(),
            "{} packets, {} records, {lost} lost",
            sent.len(),
            records.len()
        );
        let mut records: Vec<&Record> = records.iter().collect();
        records.sort_by_key(|record| record.time_ns);
        let (mut during, mut before) = (0, 0);
        for (number, (sent_ns, record)) in sent.iter().zip(records).enumerate() {
            ensure!(usize::from(record.source_port) == number % 65_536, "record {number} is of another packet");
            let delay = record.time_ns.saturating_sub(*sent_ns);
            if *sent_ns < swaps.began_ns {
                before = before.max(delay);
            } else {
                during = during.max(delay);
            }
        }
        Ok(Self { longest_delay_ns: during, longest_delay_before_ns: before, packets: sent.len(), swaps })
    }

    #[allow(clippy::cast_precision_loss, reason = "counts and times of seconds")]
    fn case(self) -> Case {
        let total: Vec<f64> =
            self.swaps.compile_s.iter().zip(&self.swaps.load_s).map(|(one, other)| one + other).collect();
        let seconds = median(total);
        let mut case = Case::new(seconds * 1e9, seconds * 1e9, "–");
        (case.ratio, case.reference_ns) = (None, None);
        for (name, value) in [
            ("seconds", round(seconds, 1_000.0)),
            ("seconds_compile", round(median(self.swaps.compile_s), 1_000.0)),
            ("seconds_load_verify_swap", round(median(self.swaps.load_s), 1_000.0)),
            ("bytes", self.swaps.bytes as f64),
            ("longest_delay_ns", self.longest_delay_ns as f64),
            ("longest_delay_without_a_swap_ns", self.longest_delay_before_ns as f64),
            ("packets_sent_and_recorded", self.packets as f64),
        ] {
            case.further.insert(name, value);
        }
        case
    }
}
