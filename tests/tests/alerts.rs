//! Every alert that is deployed, made to fire by its cause in a running tap, and to clear: a real Prometheus evaluates the
//! deployed rules a hundred times as fast as in service (`tap_tests::prometheus::faster`: durations, ranges and the scrape
//! interval, nothing else). [`every_alert_has_a_cause_here`] holds the list of the causes against the rules.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use jiff::{SignedDuration, Timestamp};
use tap_common::abi::counter::Counters;
use tap_common::abi::cpu::CpuState;
use tap_tests::clock::{Clock, Synchronised};
use tap_tests::deployment::{Deployment, MeasurePlan, Plan, Remote, rule};
use tap_tests::lab::traffic::{FrameSender, Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Host, InlineLab, Lab, Process, wait_until};
use tap_tests::prometheus::{Prometheus, rules_file};
use tap_tests::told::{ENDPOINT_PROCESS, RECEIVER_PROCESS, Taps, Told};
use tap_tests::{gwtap, need};
use tap_userspace::control::api::client::Call;
use tap_userspace::keys::note::{self, SecretKey};
use tap_userspace::load::{Attach, Tap, TapConfig, cap_policy};
use tap_userspace::notice::{self, Event};

/// How much faster than in service: a quarter of an hour is nine seconds.
const SPEED: u64 = 100;
/// How long an alert may take to fire or clear: the longest waits a quarter of an hour, which is nine seconds.
const ALERT_MAX: Duration = Duration::from_secs(40);
const PATIENCE: Duration = Duration::from_secs(20);

/// The alerts by what causes them.
const SHARE: [&str; 4] = ["GwtapCapReached", "GwtapCapNearlyReached", "GwtapShareFull", "GwtapShareExceeded"];
const PORT: [&str; 5] = [
    "GwtapNothingMirrored",
    "GwtapInterfaceDrops",
    "GwtapMirrorOversubscribed",
    "GwtapConservation",
    "GwtapProgramReplaced",
];
const DELIVERY: [&str; 3] = ["GwtapNotConnected", "GwtapSpoolFilling", "GwtapRecordsLost"];
const AUTHORITY: [&str; 10] = [
    "GwtapApiDenied",
    "GwtapOrderEnds",
    "GwtapOrderEndsTomorrow",
    "GwtapActivationEnds",
    "GwtapLeaseLapsed",
    "GwtapLogFailed",
    "GwtapClockInDoubt",
    "GwtapClockUnsynchronised",
    "GwtapDown",
    "GwtapLaboratoryExceptions",
];
const NOTICES: [&str; 3] = ["GwtapNoticesLate", "GwtapReceiptSetAside", "GwtapReceiverDown"];
const SAMPLE: [&str; 1] = ["GwtapSampleLow"];

#[test]
fn every_alert_has_a_cause_here() {
    let rules = std::fs::read_to_string(rules_file()).unwrap();
    let mut deployed: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let mut caused: Vec<&str> = [&SHARE[..], &PORT, &DELIVERY, &AUTHORITY, &NOTICES, &SAMPLE]
        .iter()
        .flat_map(|alerts| alerts.iter().copied())
        .collect();
    deployed.sort_unstable();
    caused.sort_unstable();
    assert_eq!(caused, deployed);
}

/// The program, where the machine has what the tests below need.
fn able() -> Option<PathBuf> {
    let prometheus = need::tool("prometheus")?;
    (need::root() && need::tool("tc").is_some()).then_some(prometheus)
}

/// All causes at once, each in a laboratory of its own: they wait most of the time.
#[test]
fn every_alert_fires_by_its_cause_and_clears() {
    let Some(compiler) = need::tool("cc") else { return };
    if need::tool("bpftool").is_none() {
        return;
    }
    let Some(program) = able() else { return };
    let (program, compiler) = (program.as_path(), compiler.as_path());
    std::thread::scope(|scope| {
        let causes = [
            ("share", scope.spawn(|| share(program))),
            ("port", scope.spawn(|| port(program))),
            ("delivery", scope.spawn(|| delivery(program))),
            ("notices", scope.spawn(|| notices(program))),
            ("sample", scope.spawn(|| sample(program))),
            ("authority", scope.spawn(|| authority(program, compiler))),
        ];
        for (name, cause) in causes {
            cause.join().unwrap().with_context(|| format!("alerts of {name}")).unwrap();
        }
    });
}

/// The facility of the tests on an inline link: no host says anything there by itself.
fn inline_plan() -> Plan {
    Plan {
        capacity_bits_per_second: 50_000_000,
        // The least sample there is: the agent cannot answer overload by a smaller one.
        sampling_ppm: 100,
        sets: vec![vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")]],
        inline: true,
        interface: InlineLab::PORT,
        ..Plan::default()
    }
}

/// An Ethernet frame with a UDP datagram of flow `flow`.
fn frame(flow: u32) -> Vec<u8> {
    const DATAGRAM_BYTES: u16 = 8 + 256;
    let [_, third, high, low] = flow.to_be_bytes();
    let mut frame = vec![0xff; 6];
    frame.extend([0x02, 0, 0, 0, 0, 1, 0x08, 0x00, 0x45, 0]);
    frame.extend((20 + DATAGRAM_BYTES).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 198, 51, 100, third, 192, 0, 2, 7, high, low]);
    frame.extend(5_000_u16.to_be_bytes());
    frame.extend(DATAGRAM_BYTES.to_be_bytes());
    frame.resize(14 + 20 + usize::from(DATAGRAM_BYTES), 0);
    frame
}

/// Sends frames in bursts until `over`.
fn flood(sender: &FrameSender, frames: &[Vec<u8>], each: usize, mut over: impl FnMut() -> bool) -> Result<()> {
    while !over() {
        for frame in frames.iter().cycle().take(each) {
            sender.send(frame)?;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Floods while `work` goes on.
fn meanwhile<R: Send>(
    sender: &FrameSender,
    frames: &[Vec<u8>],
    each: usize,
    work: impl FnOnce() -> Result<R> + Send,
) -> Result<R> {
    std::thread::scope(|scope| {
        let work = scope.spawn(work);
        flood(sender, frames, each, || work.is_finished())?;
        work.join().map_err(|_panic| anyhow::anyhow!("panicked"))?
    })
}

/// A flow of the sample, by halves: which of them had a packet that was sampled?
fn sampled_flow(deployment: &Deployment, sender: &FrameSender) -> Result<u32> {
    let counted = || -> Result<(u64, u64)> {
        let status = deployment.status()?;
        let measure = status.measures.first().context("a measure")?;
        Ok((measure.counters.judged_packets, measure.counters.verdicts.get("not_sampled").copied().unwrap_or_default()))
    };
    let sampled = |flows: std::ops::Range<u32>| -> Result<bool> {
        let before = counted()?;
        for flow in flows.clone() {
            sender.send(&frame(flow))?;
        }
        let all = before.0 + u64::from(flows.end - flows.start);
        wait_until("every frame", PATIENCE, || counted().is_ok_and(|now| now.0 >= all))?;
        let now = counted()?;
        Ok(now.0 - before.0 > now.1 - before.1)
    };
    let group = 8_192;
    for first in (0..1 << 20).step_by(group as usize) {
        if !sampled(first..first + group)? {
            continue;
        }
        let mut flows = first..first + group;
        while flows.end - flows.start > 1 {
            let middle = flows.start.midpoint(flows.end);
            flows = if sampled(flows.start..middle)? { flows.start..middle } else { middle..flows.end };
        }
        return Ok(flows.start);
    }
    bail!("no flow of a million is in a sample of one in ten thousand")
}

fn share(program: &Path) -> Result<()> {
    let lab = InlineLab::new()?;
    let deployment = Deployment::new(inline_plan())?;
    let mut agent = deployment.start_agent(&lab.carrier)?;
    let prometheus = Prometheus::start(&lab.carrier, program, SPEED)?;
    let sender = FrameSender::open(&lab.far, InlineLab::FAR_PORT)?;
    let flow = [frame(sampled_flow(&deployment, &sender)?)];
    meanwhile(&sender, &flow, 60, || {
        prometheus.wait_for("GwtapCapReached", true, ALERT_MAX)?;
        prometheus.wait_for("GwtapCapNearlyReached", true, ALERT_MAX)?;
        prometheus.wait_for("GwtapShareFull", true, ALERT_MAX)?;
        ensure!(!fires(&prometheus, "GwtapShareExceeded")?, "the cap held, and the alert says it did not");
        // Another hand writes a cap into the kernel that no order allows.
        let plan = deployment.plan();
        let config = TapConfig {
            interface: plan.interface.to_owned(),
            pin_directory: PINS.into(),
            inline: true,
            attach: Attach::Native,
            cap_policy: cap_policy(plan.capacity_bits_per_second, 900_000)?,
            log_reasons: false,
            transport: None,
        };
        lab.carrier.enter(|| Tap::open(config).map(drop))??;
        prometheus.wait_for("GwtapShareExceeded", true, ALERT_MAX)
    })?;
    for alert in ["GwtapCapReached", "GwtapCapNearlyReached", "GwtapShareFull"] {
        prometheus.wait_for(alert, false, ALERT_MAX)?;
    }
    ensure!(fires(&prometheus, "GwtapShareExceeded")?, "a second that was above the limit is forgotten");
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    let _agent = deployment.start_agent(&lab.carrier)?;
    prometheus.wait_for("GwtapShareExceeded", false, ALERT_MAX)
}

const PINS: &str = "/sys/fs/bpf/gwtap";

fn fires(prometheus: &Prometheus, alert: &str) -> Result<bool> {
    Ok(prometheus.firing()?.iter().any(|labels| labels.get("alertname").is_some_and(|name| name == alert)))
}

fn port(program: &Path) -> Result<()> {
    let lab = InlineLab::new()?;
    let deployment = Deployment::new(inline_plan())?;
    let mut agent = deployment.start_agent(&lab.carrier)?;
    let prometheus = Prometheus::start(&lab.carrier, program, SPEED)?;
    let sender = FrameSender::open(&lab.far, InlineLab::FAR_PORT)?;
    prometheus.wait_for("GwtapNothingMirrored", true, ALERT_MAX)?;

    // Frames that the port counts as dropped: here its stack has no use for them, as a driver would have no room.
    let mut nobodys = frame(0);
    nobodys.get_mut(12..14).context("an EtherType")?.copy_from_slice(&[0x88, 0xb5]);
    let both = [frame(0), frame(1), frame(2), nobodys];
    meanwhile(&sender, &both, 4, || {
        prometheus.wait_for("GwtapNothingMirrored", false, ALERT_MAX)?;
        prometheus.wait_for("GwtapInterfaceDrops", true, ALERT_MAX)?;
        prometheus.wait_for("GwtapMirrorOversubscribed", true, ALERT_MAX)
    })?;
    let whole = [frame(0)];
    meanwhile(&sender, &whole, 4, || {
        prometheus.wait_for("GwtapInterfaceDrops", false, ALERT_MAX)?;
        prometheus.wait_for("GwtapMirrorOversubscribed", false, ALERT_MAX)
    })?;

    // Another hand writes into the counters. Nothing comes in meanwhile, so that the kernel does not.
    ensure!(!fires(&prometheus, "GwtapConservation")?, "the books balance, and the alert says they do not");
    lab.carrier.enter(|| observe_more(10_000))??;
    prometheus.wait_for("GwtapConservation", true, ALERT_MAX)?;
    lab.carrier.enter(|| observe_more(-10_000))??;
    prometheus.wait_for("GwtapConservation", false, ALERT_MAX)?;

    // Another hand takes the program off the port.
    lab.carrier.enter(detach)??;
    meanwhile(&sender, &whole, 4, || prometheus.wait_for("GwtapProgramReplaced", true, ALERT_MAX))?;
    agent.terminate(PATIENCE)?;
    let _agent = deployment.start_agent(&lab.carrier)?;
    meanwhile(&sender, &whole, 4, || prometheus.wait_for("GwtapProgramReplaced", false, ALERT_MAX))
}

/// Adds to the packets observed of the first CPU.
fn observe_more(packets: i64) -> Result<()> {
    const BYTES: usize = size_of::<CpuState>();
    let data = MapData::from_pin(Path::new(PINS).join(InlineLab::PORT).join("CPU"))?;
    let mut map = PerCpuArray::<MapData, [u8; BYTES]>::try_from(Map::PerCpuArray(data))?;
    let mut values: Vec<[u8; BYTES]> = map.get(&0, 0)?.iter().copied().collect();
    let at = std::mem::offset_of!(CpuState, counters) + std::mem::offset_of!(Counters, observed_packets);
    let word = values.first_mut().and_then(|value| value.get_mut(at..at + 8)).context("a CPU")?;
    let counted = i64::from_ne_bytes((&*word).try_into()?);
    word.copy_from_slice(&(counted + packets).to_ne_bytes());
    Ok(map.set(0, PerCpuValues::try_from(values)?, 0)?)
}

/// Detaches the pinned link's program, as `bpftool link detach` does.
fn detach() -> Result<()> {
    let link = Path::new(PINS).join(InlineLab::PORT).join("link");
    let outcome = gwtap::of(std::process::Command::new("bpftool").args(["link", "detach", "pinned"]).arg(link))?;
    ensure!(outcome.code == Some(0), "{outcome:?}");
    Ok(())
}

fn delivery(program: &Path) -> Result<()> {
    let lab = Lab::new()?;
    let sets = vec![vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")]];
    let deployment = Deployment::new(Plan { capacity_bits_per_second: 10_000_000_000, sets, ..Plan::default() })?;
    let configuration = std::fs::read_to_string(deployment.file("gwtap.toml"))?;
    // The smallest spool there is: two segments.
    let small = configuration.replace("directory = \"spool\"", "directory = \"spool\"\nbytes_max = 33554432");
    ensure!(small != configuration, "the spool's table");
    std::fs::write(deployment.file("gwtap.toml"), small)?;
    let _agent = deployment.start_agent(&lab.mirror)?;
    let prometheus = Prometheus::start(&lab.mirror, program, SPEED)?;
    lab.start_mirror()?;
    prometheus.wait_for("GwtapNotConnected", true, ALERT_MAX)?;
    let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
    let rate = Rate::new(40_000_000);
    let load = UdpLoad::start((&lab.foreign, FOREIGN4.parse()?), 0, 4, (&lab.domestic, to), b"beacon", rate)?;
    prometheus.wait_for("GwtapSpoolFilling", true, 3 * ALERT_MAX)?;
    prometheus.wait_for("GwtapRecordsLost", true, ALERT_MAX)?;
    load.stop()?;
    let _receiver = deployment.start_receiver(&lab.receiving)?;
    for alert in DELIVERY {
        prometheus.wait_for(alert, false, ALERT_MAX)?;
    }
    Ok(())
}

/// The Commission's endpoint is away and comes back; a receipt does not count and is looked into; the receiving side is gone.
fn notices(program: &Path) -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(Plan::default())?;
    let taps = Taps::new(&deployment)?;
    let _exporter = taps.export(&deployment, &lab.mirror)?;
    let mut told = Told::new(&deployment, &lab.receiving, None)?;
    told.start_one(RECEIVER_PROCESS)?;
    let prometheus = Prometheus::start(&lab.receiving, program, SPEED)?;
    let [late, aside, down] = NOTICES;
    ensure!(!fires(&prometheus, late)? && !fires(&prometheus, aside)?, "nothing has been said");
    taps.say(&"ab".repeat(32), Event::Day { day: notice::day(20_000) })?;
    taps.raw("neither a note nor a receipt")?;
    prometheus.wait_for(late, true, ALERT_MAX)?;
    prometheus.wait_for(aside, true, ALERT_MAX)?;
    told.start_one(ENDPOINT_PROCESS)?;
    prometheus.wait_for(late, false, ALERT_MAX)?;
    std::fs::remove_dir_all(deployment.file("store/set-aside"))?;
    prometheus.wait_for(aside, false, ALERT_MAX)?;
    told.kill(RECEIVER_PROCESS)?;
    prometheus.wait_for(down, true, ALERT_MAX)?;
    told.start_one(RECEIVER_PROCESS)?;
    prometheus.wait_for(down, false, ALERT_MAX)
}

fn sample(program: &Path) -> Result<()> {
    let lab = InlineLab::new()?;
    let plan = Plan { capacity_bits_per_second: 10_000_000, sampling_ppm: 1_000_000, ..inline_plan() };
    let deployment = Deployment::new(plan)?;
    let mut agent = deployment.start_agent(&lab.carrier)?;
    let prometheus = Prometheus::start(&lab.carrier, program, SPEED)?;
    let sender = FrameSender::open(&lab.far, InlineLab::FAR_PORT)?;
    // Twenty times the share and more, by flows of which each is a thousandth.
    let flows: Vec<Vec<u8>> = (0..1_000).map(frame).collect();
    meanwhile(&sender, &flows, 100, || prometheus.wait_for("GwtapSampleLow", true, ALERT_MAX))?;
    // In calm it rises by a quarter each ten seconds, which takes minutes; an agent that starts looks at all that the order allows.
    if need::long() {
        return prometheus.wait_for("GwtapSampleLow", false, 10 * ALERT_MAX);
    }
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    let _agent = deployment.start_agent(&lab.carrier)?;
    prometheus.wait_for("GwtapSampleLow", false, ALERT_MAX)
}

fn authority(program: &Path, compiler: &Path) -> Result<()> {
    let lab = Lab::new()?;
    let sets = vec![vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")]];
    // To the second: an order's text is shown and read again.
    let end = Timestamp::from_second(Timestamp::now().as_second() + 10 * 3_600)?;
    let only = MeasurePlan {
        id: "m-2".to_owned(),
        basis: "foreign-to-domestic",
        share_ppm: 300_000,
        sampling_ppm: 1_000_000,
        sets: sets.clone(),
        not_after: Some(end),
        port: 4741,
    };
    let deployment = Deployment::new(Plan { sets, beside: vec![only], ..Plan::default() })?;
    alone(&deployment)?;
    let remote = Remote::new(&deployment)?;
    let clock = Clock::new(compiler)?;
    clock.set(0, Synchronised::Yes)?;
    let mut agent = start(&deployment, &lab.mirror, &clock)?;
    let prometheus = Prometheus::start(&lab.mirror, program, SPEED)?;
    for alert in ["GwtapOrderEnds", "GwtapOrderEndsTomorrow", "GwtapActivationEnds", "GwtapLaboratoryExceptions"] {
        prometheus.wait_for(alert, true, ALERT_MAX)?;
    }
    let stop = br#"{"reason": "laboratory"}"#.to_vec();
    let call = Call { method: "POST", path: "/v1/stop", etag: None, body: Some(stop) };
    ensure!(remote.outcome(&lab.receiving, "auditor", &call)? == "role");
    prometheus.wait_for("GwtapApiDenied", true, ALERT_MAX)?;
    extend(&deployment, end)?;
    for alert in ["GwtapOrderEnds", "GwtapOrderEndsTomorrow", "GwtapActivationEnds"] {
        prometheus.wait_for(alert, false, ALERT_MAX)?;
    }

    prometheus.wait_for("GwtapApiDenied", false, ALERT_MAX)?;

    // The carrier's kill switch; the log does not take the second throw.
    let verb = |words: &[&'static str]| deployment.gwtap(words.iter().copied().chain(["--socket", "control.sock"]));
    verb(&["stop", "--reason", "laboratory"])?;
    prometheus.wait_for("GwtapLeaseLapsed", true, ALERT_MAX)?;
    verb(&["resume", "--reason", "laboratory"])?;
    prometheus.wait_for("GwtapLeaseLapsed", false, ALERT_MAX)?;
    let obstacle = deployment.file("log/checkpoint.new");
    std::fs::create_dir(&obstacle)?;
    verb(&["stop", "--reason", "laboratory"]).ok();
    prometheus.wait_for("GwtapLogFailed", true, ALERT_MAX)?;
    std::fs::remove_dir(&obstacle)?;
    verb(&["resume", "--reason", "laboratory"])?;
    prometheus.wait_for("GwtapLogFailed", false, ALERT_MAX)?;
    prometheus.wait_for("GwtapLeaseLapsed", false, ALERT_MAX)?;

    // A step back of ten minutes, put right; then a time server that is lost and found.
    for (offset_ns, state, alerts) in [
        (-600_000_000_000, Synchronised::Yes, &["GwtapClockInDoubt", "GwtapLeaseLapsed"][..]),
        (0, Synchronised::No, &["GwtapClockUnsynchronised", "GwtapClockInDoubt", "GwtapLeaseLapsed"][..]),
    ] {
        clock.set(offset_ns, state)?;
        alerts.iter().try_for_each(|alert| prometheus.wait_for(alert, true, ALERT_MAX))?;
        clock.set(0, Synchronised::Yes)?;
        alerts.iter().try_for_each(|alert| prometheus.wait_for(alert, false, ALERT_MAX))?;
    }

    agent.kill()?;
    prometheus.wait_for("GwtapDown", true, ALERT_MAX)?;
    let configuration = std::fs::read_to_string(deployment.file("gwtap.toml"))?;
    let service = configuration.replace("documentation_prefixes = true", "documentation_prefixes = false");
    std::fs::write(deployment.file("gwtap.toml"), service)?;
    let _agent = start(&deployment, &lab.mirror, &clock)?;
    prometheus.wait_for("GwtapDown", false, ALERT_MAX)?;
    prometheus.wait_for("GwtapLaboratoryExceptions", false, ALERT_MAX)
}

/// Leaves the second measure alone in the configuration, with a clock that must be synchronised.
fn alone(deployment: &Deployment) -> Result<()> {
    let configuration = std::fs::read_to_string(deployment.file("gwtap.toml"))?;
    let tables: Vec<&str> = configuration.split("[[measure]]").collect();
    let [head, _first, second] = tables.as_slice() else { bail!("two measures: {configuration}") };
    let required =
        format!("{head}[[measure]]{second}").replace("synchronised = \"not-required\"", "synchronised = \"required\"");
    Ok(std::fs::write(deployment.file("gwtap.toml"), required)?)
}

/// Starts an agent that sees `clock`.
fn start(deployment: &Deployment, host: &Host, clock: &Clock) -> Result<Process> {
    let mut command = host.command(gwtap::binary()?);
    command.args(["run", "--config"]).arg(deployment.file("gwtap.toml"));
    clock.show(&mut command);
    let mut process = Process::start("gwtap run", command, &deployment.file("agent.log"))?;
    let begun = Instant::now();
    process.wait_until("live lease", PATIENCE, || {
        deployment.status().is_ok_and(|status| status.measures.iter().all(|measure| measure.lease.live))
    })?;
    ensure!(begun.elapsed() < PATIENCE, "{}", process.output());
    Ok(process)
}

/// Extends the second measure's order by two months, with a set and an activation of its own.
fn extend(deployment: &Deployment, end: Timestamp) -> Result<()> {
    let later = |hours: i64| end + SignedDuration::from_hours(hours);
    let order = std::fs::read_to_string(deployment.file("m-2-order.toml"))?;
    let previous = hex::encode(tap_userspace::keys::sha256(order.as_bytes()));
    let line = |line: &str| match line.split(' ').next() {
        Some("not_before") => format!("previous = \"{previous}\"\nnot_before = \"{end}\""),
        Some("not_after") => format!("not_after = \"{}\"", later(24 * 60)),
        _ => line.to_owned(),
    };
    let text = order.lines().map(line).collect::<Vec<_>>().join("\n") + "\n";
    let key = |name: &str| SecretKey::from_file(&deployment.file(&format!("keys/{name}.key")));
    let note = note::sign(&note::sign(&text, &key("ministry")?)?, &key("commission")?)?;
    std::fs::write(deployment.file("extension.note"), note)?;
    deployment.gwtap(["order", "extend", "extension.note", "--socket", "control.sock"])?;
    let set = std::fs::read_to_string(deployment.file("m-2-selectors-1.json"))?;
    let longer = set.replace(&end.to_string(), &later(24 * 59).to_string()).replace("\"version\": 1", "\"version\": 2");
    std::fs::write(deployment.file("m-2-selectors-2.json"), longer)?;
    let valid_until = later(24 * 58).to_string();
    let keys = ["--key", "keys/author.key", "--key", "keys/approver.key"];
    let activate = ["selectors", "activate", "m-2-selectors-2.json", "--order", "extension.note", "--number", "2"];
    let more = ["--out", "m-2-activation-2.note", "--valid-until", &valid_until];
    deployment.gwtap(activate.into_iter().chain(more).chain(keys))?;
    let load = ["selectors", "load", "--socket", "control.sock", "--set", "m-2-selectors-2.json"];
    deployment.gwtap(load.into_iter().chain(["--activation", "m-2-activation-2.note"])).map(drop)
}
