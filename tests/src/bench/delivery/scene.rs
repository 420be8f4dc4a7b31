//! A laboratory whose mirror port gets frames that are all selected, at a rate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, ensure};
use tap_userspace::control::status::MeasureStatus;
use tap_userspace::load::bench::{Bench, Flow, Program, Setup};
use tap_userspace::receive::read::records;

use super::middle_and_p99;
use crate::bench::world::{self, End};
use crate::bench::{Bencher, cpus, pin_to, unlimited};
use crate::deployment::{Deployment, Plan, rule};
use crate::gwtap;
use crate::lab::{Host, Lab, Process};

/// Flows of the pool.
const FLOWS: u16 = 60_000;
/// The generator's step: what it sends at once, and then waits.
const STEP: Duration = Duration::from_millis(5);
/// Room in the spool for what is offered while nobody takes it.
const SPOOL_BYTES: u64 = 16 << 30;
/// A line whose share no rate here reaches.
const CAPACITY_BITS_PER_SECOND: u64 = 100_000_000_000;
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at what is acknowledged.
const LOOK: Duration = Duration::from_millis(1);

/// The first and the last CPU of this process, if there are two.
pub(super) fn two_cpus() -> Result<Option<(usize, usize)>> {
    let cpus = cpus()?;
    Ok(cpus.first().copied().zip(cpus.last().copied()).filter(|(first, last)| first != last))
}

/// Frames of the pool, out of an interface of a host.
pub(super) fn generator(bencher: &mut Bencher, host: &Host, interface: &str) -> Result<Bench> {
    let selectors = bencher.world.mixed(16)?;
    let tables = bencher.world.tables(&selectors, End::Either, 1_000_000)?;
    let flows: Vec<Flow> =
        (0..FLOWS).map(|port| Flow::new([198, 51, 100, 7], [192, 0, 2, 9], 1_024 + port, 443)).collect();
    let interface = host.enter(|| nix::net::if_::if_nametoindex(interface))??;
    Ok(Bench::new(Setup {
        programs: &[Program::Generate],
        tables: &tables,
        flows: &flows,
        template: world::ipv4(),
        cap_policy: unlimited()?,
        interface,
        kernel_maps: None,
    })?)
}

/// Sends `packets_per_second` from `host` on `cpu` until `stop`; what cannot be sent in time is left out.
pub(super) fn send(bench: &Bench, packets_per_second: u64, cpu: usize, stop: impl Fn(u64) -> bool) -> Result<u64> {
    pin_to(cpu)?;
    let step_ns = u64::try_from(STEP.as_nanos())?;
    let at_once = packets_per_second * step_ns / 1_000_000_000;
    let (mut next, mut sent) = (Instant::now(), 0);
    while !stop(sent) {
        bench.generate(u32::try_from(at_once)?)?;
        sent += at_once;
        next = (next + STEP).max(Instant::now().checked_sub(STEP).unwrap_or(next));
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(sent)
}

/// Packets that the kernel selected: what was offered to the rings.
pub(super) fn selected(measure: &MeasureStatus) -> u64 {
    measure.counters.verdicts.get("selected").copied().unwrap_or_default()
}

/// The laboratory, the product's files, the generator.
pub(super) struct Scene {
    lab: Lab,
    deployment: Deployment,
    generator: Bench,
}

impl Scene {
    pub(super) fn new(bencher: &mut Bencher) -> Result<Self> {
        let lab = Lab::new()?;
        let sets = vec![vec![rule("web", "198.51.100.0/24", "destination-port", 443, "tcp")]];
        let capacity_bits_per_second = CAPACITY_BITS_PER_SECOND;
        let deployment = Deployment::new(Plan { sets, capacity_bits_per_second, ..Plan::default() })?;
        let file = deployment.file("gwtap.toml");
        let text = std::fs::read_to_string(&file)?;
        let key = "key_file = \"keys/spool.key\"";
        ensure!(text.contains(key), "{}: has no `{key}`", file.display());
        std::fs::write(&file, text.replace(key, &format!("{key}\nbytes_max = {SPOOL_BYTES}")))?;
        let generator = generator(bencher, &lab.router, "r-mirror")?;
        Ok(Self { lab, deployment, generator })
    }

    /// The agent, on one CPU or on all.
    pub(super) fn agent(&mut self, cpu: Option<usize>) -> Result<Process> {
        let binary = gwtap::binary()?;
        let mut command = match cpu {
            None => self.lab.mirror.command(binary),
            Some(cpu) => {
                let mut command = self.lab.mirror.command("taskset");
                command.args(["-c", &cpu.to_string()]).arg(binary);
                command
            }
        };
        command.args(["run", "--config"]).arg(self.deployment.file("gwtap.toml"));
        let mut agent = Process::start("gwtap run", command, &self.deployment.file("agent.log"))?;
        agent.wait_until("live lease", PATIENCE, || self.measure().is_ok_and(|measure| measure.lease.live))?;
        Ok(agent)
    }

    pub(super) fn receiver(&self) -> Result<Process> {
        self.deployment.start_receiver(&self.lab.receiving)
    }

    pub(super) fn measure(&self) -> Result<MeasureStatus> {
        self.deployment.status()?.measures.first().cloned().context("a measure")
    }

    /// Does `work` while frames come in.
    pub(super) fn under_load<R>(&self, rate: u64, cpu: usize, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let send = || send(&self.generator, rate, cpu, |_| stop.load(Ordering::Relaxed));
            let sender = scope.spawn(move || self.lab.router.enter(send));
            let done = work();
            stop.store(true, Ordering::Relaxed);
            sender.join().map_err(|_panic| anyhow!("the generator panicked"))???;
            done
        })
    }

    /// Median and 99th percentile of the milliseconds between the kernel's decision and the acknowledgement. The store is still empty.
    pub(super) fn latencies(&self, rate: u64, cpu: usize, lasts: Duration) -> Result<[f64; 2]> {
        let mut seen: Vec<(u64, u128)> = Vec::new();
        let mut look = |until: &mut dyn FnMut(&MeasureStatus) -> bool| -> Result<()> {
            loop {
                let measure = self.measure()?;
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
                let acknowledged = measure.delivery.acknowledged_records;
                if seen.last().is_none_or(|(known, _)| *known < acknowledged) {
                    seen.push((acknowledged, now));
                }
                if until(&measure) {
                    return Ok(());
                }
                std::thread::sleep(LOOK);
            }
        };
        let since = Instant::now();
        self.under_load(rate, cpu, || look(&mut |_| since.elapsed() >= lasts))?;
        let patience = Instant::now() + PATIENCE;
        look(&mut |measure| measure.spool.messages == 0 || Instant::now() > patience)?;

        // One CPU made them: the store's order is the order in which they were acknowledged.
        let mut times = Vec::new();
        records(&self.deployment.file("store"), |stored| {
            times.push(u128::from(stored.record.time.0));
            true
        })?;
        let mut seen = seen.iter().peekable();
        let mut latencies = Vec::with_capacity(times.len());
        for (count, time) in (1..).zip(&times) {
            while seen.next_if(|(acknowledged, _)| *acknowledged < count).is_some() {}
            let (_, acknowledged) = seen.peek().context("every record is acknowledged")?;
            #[allow(clippy::cast_precision_loss, reason = "milliseconds")]
            latencies.push(acknowledged.saturating_sub(*time) as f64 / 1e6);
        }
        middle_and_p99(latencies)
    }
}
