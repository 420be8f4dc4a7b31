//! The live cases: packets per second on a veth, generator and receiver on one CPU.
//!
//! `BPF_PROG_TEST_RUN` with live frames runs a program that writes the next flow of the pool into a frame and redirects it out
//! of one end of a veth; the other end's NAPI runs on the same CPU as soon as a batch is sent, so nothing queues and nothing is
//! lost. Ours and the other each have a veth of their own, and take turns. A rate is what the receiving interface counted
//! over the time the run took; a run in which it counted fewer frames than were sent is an error.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tap_common::abi::counter::Verdict;
use tap_common::abi::policy::Lease;
use tap_userspace::load::bench::{Bench, Flow, Program, Setup};
use tap_userspace::load::{Attach, Tables, Tap, TapConfig};

use super::world::{self, End};
use super::{Bencher, Case, Outcome, pin_to_last_cpu, round, unlimited};
use crate::lab::{Host, link, wait_until};
use crate::need;

/// Frames of one measurement: some tenths of a second.
const FRAMES: u32 = 1 << 20;
/// Flows of the pool.
const FLOWS: usize = 65_536;
/// Runs until one has lost nothing.
const ATTEMPTS: u32 = 3;
/// Hosts that tcpdump's filter names.
const TCPDUMP_HOSTS: usize = 1_000;
/// How long a program may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn drop_alone(bencher: &mut Bencher) -> Result<Outcome> {
    let line = Line::new(bencher)?;
    let mut bare = line.bench(&[Program::Bare], OTHER_OUT)?;
    line.host.enter(|| bare.attach(Program::Bare, OTHER))??;
    line.compare(bencher, "XDP_DROP alone").map(Outcome::Measured)
}

pub(super) fn xdp_filter_ipv4(bencher: &mut Bencher) -> Result<Outcome> {
    xdp_filter(bencher, Some("ipv4"), "xdp-filter with one IPv4 rule")
}

pub(super) fn xdp_filter_all(bencher: &mut Bencher) -> Result<Outcome> {
    xdp_filter(bencher, None, "xdp-filter with all features")
}

/// xdp-filter drops what no rule allows, as the tap drops everything: what it passed would cost it more.
fn xdp_filter(bencher: &mut Bencher, features: Option<&str>, name: &'static str) -> Result<Outcome> {
    let Some(filter) = need::find("xdp-filter") else {
        return Ok(Outcome::Absent("xdp-filter is not installed (cargo xtask setup --test)".to_owned()));
    };
    let program = filter.to_string_lossy().into_owned();
    let line = Line::new(bencher)?;
    let features = features.into_iter().flat_map(|features| ["-f", features]);
    let load = ["load", "-m", "native", "-p", "deny"].into_iter().chain(features).chain([OTHER]);
    line.host.run(&program, load)?;
    line.host.run(&program, ["ip", "-m", "src", "192.0.2.77"])?;
    let case = line.compare(bencher, name)?;
    line.host.run(&program, ["unload", OTHER])?;
    Ok(Outcome::Measured(case))
}

/// tcpdump with a filter that no frame fits: only the kernel's part of it works. The filter says `ip host`, because plain
/// `host` (ARP and RARP, too) is longer than the 4,096 instructions the kernel takes.
pub(super) fn tcpdump(bencher: &mut Bencher) -> Result<Outcome> {
    let Some(tcpdump) = need::find("tcpdump") else {
        return Ok(Outcome::Absent("tcpdump is not installed (cargo xtask setup --test)".to_owned()));
    };
    let line = Line::new(bencher)?;
    // Without a program the veth takes redirected frames only while its NAPI runs, which merging of segments asks for.
    line.host.enter(|| link::receive_merging(OTHER, true))??;
    let directory = tempfile::tempdir()?;
    let (filter, log) = (directory.path().join("filter"), directory.path().join("log"));
    let hosts: Vec<String> = bencher.world.hosts(TCPDUMP_HOSTS).iter().map(|host| format!("ip host {host}")).collect();
    std::fs::write(&filter, hosts.join(" or "))?;
    let mut command = line.host.command(tcpdump);
    command.args(["-i", OTHER, "-n", "-w", "/dev/null", "-F"]).arg(&filter);
    let mut child = command.stdout(Stdio::null()).stderr(std::fs::File::create(&log)?).spawn()?;
    let listens = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on"));
    let case = wait_until("tcpdump's filter", PATIENCE, listens).and_then(|()| line.compare(bencher, "tcpdump"));
    child.kill()?;
    child.wait()?;
    case.map(Outcome::Measured)
}

/// Ends of the two veths: what is generated goes out of one, and arrives at the other.
const OURS_OUT: &str = "ours-out";
const OURS: &str = "ours";
const OTHER_OUT: &str = "other-out";
const OTHER: &str = "other";

/// A host with two veths: the tap runs on the one, what it is compared with on the other.
struct Line {
    host: Host,
    tables: Tables,
    flows: Vec<Flow>,
    tap: Tap,
}

impl Line {
    fn new(bencher: &mut Bencher) -> Result<Self> {
        let host = Host::with_bpf("bench")?;
        for (out, into) in [(OURS_OUT, OURS), (OTHER_OUT, OTHER)] {
            host.run("ip", ["link", "add", out, "type", "veth", "peer", "name", into])?;
            for name in [out, into] {
                link::silence(&host, name)?;
            }
        }
        let selectors = bencher.world.mixed(10_000)?;
        let flows = bencher.world.elsewhere(FLOWS, &selectors);
        let tables = bencher.world.tables(&selectors, End::Either, 1_000_000)?;
        let tap = host.enter(|| -> Result<Tap> {
            let mut tap = Tap::open(TapConfig {
                interface: OURS.to_owned(),
                pin_directory: "/sys/fs/bpf/bench".into(),
                inline: false,
                attach: Attach::Native,
                cap_policy: unlimited()?,
                log_reasons: false,
                transport: None,
            })?;
            tap.swap(&tables, 1)?;
            tap.set_sampling(0, 1 << 32);
            tap.set_lease(0, Lease { not_before_ns: 0, deadline_ns: u64::MAX });
            Ok(tap)
        })??;
        Ok(Self { host, tables, flows, tap })
    }

    /// Programs that send out of `interface`, if they send.
    fn bench(&self, programs: &[Program], interface: &str) -> Result<Bench> {
        let interface = self.host.enter(|| nix::net::if_::if_nametoindex(interface))??;
        let (tables, flows, template) = (&self.tables, &*self.flows, world::ipv4());
        Ok(Bench::new(Setup {
            programs,
            tables,
            flows,
            template,
            cap_policy: unlimited()?,
            interface,
            kernel_maps: None,
        })?)
    }

    /// Packets per second here and there.
    fn compare(&self, bencher: &Bencher, name: &'static str) -> Result<Case> {
        let ours = self.bench(&[Program::Generate], OURS_OUT)?;
        let other = self.bench(&[Program::Generate], OTHER_OUT)?;
        let frames = bencher.repeat(FRAMES);
        let before = self.not_matched()?;
        let [mine, theirs] =
            bencher.medians(|| Ok([self.rate(&ours, OURS, frames)?, self.rate(&other, OTHER, frames)?]))?;
        let judged = self.not_matched()? - before;
        let sent = u64::from(frames) * u64::from(bencher.rounds + 1);
        ensure!(judged >= sent, "{judged} of {sent} packets were looked up and not selected");
        let mut case = Case::new(1e9 / mine, 1e9 / theirs, name);
        case.ratio = Some(round(mine / theirs, 1_000.0));
        case.further.insert("packets_per_second", mine.round());
        case.further.insert("reference_packets_per_second", theirs.round());
        Ok(case)
    }

    fn not_matched(&self) -> Result<u64> {
        let counters = self.host.enter(|| self.tap.counters())??;
        let verdicts = counters.measures.first().map(|measure| measure.verdicts);
        verdicts.and_then(|verdicts| verdicts.get(Verdict::NotMatched as usize).copied()).context("slot 0 counts")
    }

    /// Packets per second that arrive at `interface`, none lost: a run that the kernel's own thread for soft interrupts took
    /// part in may lose some, and is made again.
    fn rate(&self, generator: &Bench, interface: &str, frames: u32) -> Result<f64> {
        let mut arrived = 0;
        for _ in 0..ATTEMPTS {
            let rate;
            (arrived, rate) = self.send(generator, interface, frames)?;
            if arrived == u64::from(frames) {
                return Ok(rate);
            }
        }
        bail!("{interface} received {arrived} of {frames} frames, the last of {ATTEMPTS} times")
    }

    /// Sends `frames` frames; how many arrived at `interface`, and how many were sent a second.
    fn send(&self, generator: &Bench, interface: &str, frames: u32) -> Result<(u64, f64)> {
        let file = format!("/sys/class/net/{interface}/statistics/rx_packets");
        let (arrived, took) = self.host.enter(|| -> Result<(u64, Duration)> {
            pin_to_last_cpu()?;
            let received = || -> Result<u64> {
                std::fs::read_to_string(&file)?.trim().parse().with_context(|| format!("{file} holds no number"))
            };
            let before = received()?;
            let begin = Instant::now();
            generator.generate(frames)?;
            let took = begin.elapsed();
            Ok((received()? - before, took))
        })??;
        Ok((arrived, f64::from(frames) / took.as_secs_f64()))
    }
}
