//! `cargo xtask demo`: the whole product on real traffic, on one machine, in network namespaces. In: root and a time. Out: its
//! progress, then what a carrier wants to know, or one JSON object. It leaves nothing, also after Ctrl-C: hosts and links end
//! with this process, files with the deployment's directory.

mod interrupt;
mod summary;
mod traffic;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tap_tests::deployment::{Deployment, Plan, rule, selected};
use tap_tests::lab::{Lab, MIRROR_PORT, Process, wait_until};
use tap_tests::told::{ENDPOINT_PROCESS, Told, subjects};
use tap_tests::{gwtap, need};
use tap_userspace::control::status::Status;
use tap_userspace::notice::{self, Kind, Occasion};

use crate::command::root;
use interrupt::Interrupt;
use summary::{Inspection, Notices, Summary};
use traffic::Traffic;

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long traffic flows
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(5..=3600))]
    seconds: u64,
    /// One JSON object instead of the summary; progress goes to stderr
    #[arg(long)]
    json: bool,
    /// Keep the inspection bundle and the public keys in this new directory
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
}

/// The facility of the demo: small enough that two processors can fill it.
const CAPACITY_BITS_PER_SECOND: u64 = 100_000_000;
/// Part of it that may be admitted: what Art. 17 would allow at most.
const SHARE_PPM: u32 = 300_000;
/// Nine flows of ten are looked at: "a part" of the traffic.
const SAMPLING_PPM: u32 = 900_000;
/// The capture that is replayed.
const CAPTURE: &str = "tests/pcaps/zeek__ssh.pcap";
/// How long either program may take to end when asked.
const END_MAX: Duration = Duration::from_secs(15);
/// How long the acknowledgement of a notice may take: an attempt a second.
const NOTICES_MAX: Duration = Duration::from_secs(10);

pub(crate) fn demo(args: &Args) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the demo needs root: it makes network namespaces and loads a BPF program");
    }
    for program in ["ip", "tc"] {
        if need::find(program).is_none() {
            bail!("the demo needs `{program}` (Debian package iproute2)");
        }
    }
    let interrupt = Interrupt::catch()?;
    let summary = show(args, &interrupt)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary.json())?);
    } else {
        print!("\n{}", summary.text());
    }
    let good = summary.books.balance() && summary.notices.good && summary.inspection.good;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(args: &Args, interrupt: &Interrupt) -> Result<Summary> {
    let say = |line: &str| if args.json { eprintln!("{line}") } else { println!("{line}") };
    say("building gwtap");
    gwtap::binary()?;
    interrupt.check()?;

    say("hosts: domestic, router, foreign, mirror host, receiving facility");
    let lab = Lab::new()?;
    say("documents: keys, order under Art. 32 signed by two, two selector sets, each activated by two persons");
    let deployment = Deployment::new(plan())?;
    interrupt.check()?;

    // The Commission's endpoint, a stand-in that takes and acknowledges the notices of Art. 30.
    let mut told = Told::new(&deployment, &lab.receiving, None)?;
    told.start_one(ENDPOINT_PROCESS)?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    let attached = deployment.status()?;
    say(&format!(
        "gwtap run: {} XDP on {}, program {}",
        attached.attach,
        attached.interface,
        attached.program_digest.get(..16).unwrap_or_default()
    ));
    lab.start_mirror()?;
    let traffic = Traffic::start(&lab, &root().join(CAPTURE))?;
    let outcome = flow(args.seconds, &deployment, &traffic, &mut [&mut agent, &mut receiver], interrupt, &say);
    let sent = traffic.stop()?;
    outcome?;

    let status = deployment.settle(|| interrupt.check())?;
    // The interface's count is read before the programs end: detaching lets later frames pass uncounted.
    let books = deployment.books(status, &lab.mirror, MIRROR_PORT)?;
    let notices = notices(&told, &books.records)?;
    for process in [&mut agent, &mut receiver] {
        let ended = process.terminate(END_MAX)?;
        if !ended.success() {
            bail!("a program ended with {ended} when asked to end; it said:\n{}", process.output());
        }
    }
    say("inspection: one file for whoever has the public keys");
    let inspection = inspect(&deployment, args.keep.as_deref())?;
    Ok(Summary { books, sent, notices, inspection })
}

/// Waits for the Commission's acknowledgements, and holds the notices against the days of the stored records.
fn notices(told: &Told<'_>, records: &[serde_json::Value]) -> Result<Notices> {
    let day = |record: &serde_json::Value| {
        let time: jiff::Timestamp = record["time"].as_str()?.parse().ok()?;
        Some(notice::day(notice::day_number(u64::try_from(time.as_nanosecond()).ok()?)))
    };
    let days: BTreeSet<_> = records.iter().filter_map(day).collect();
    let kinds = [Kind::Selection, Kind::DeIdentification];
    let expected = days.iter().flat_map(|day| kinds.map(|kind| (kind, Occasion::Day(*day)))).collect();
    let is_acknowledged = || told.outbox().is_ok_and(|all| all.iter().all(|kept| kept.acknowledgement.is_some()));
    // Whether they came is the summary's to say.
    let waited = wait_until("the Commission's acknowledgements", NOTICES_MAX, is_acknowledged);
    let all = told.outbox()?;
    let good = waited.is_ok() && !days.is_empty() && subjects(&all) == expected && told.endpoint_has(&all).is_ok();
    Ok(Notices { good, number: all.len(), days: days.iter().map(ToString::to_string).collect() })
}

/// Writes the bundle and verifies it in a directory that holds nothing else but public keys.
fn inspect(deployment: &Deployment, keep: Option<&Path>) -> Result<Inspection> {
    let elsewhere = tempfile::tempdir()?;
    let directory = match keep {
        Some(keep) => {
            std::fs::create_dir(keep).with_context(|| keep.display().to_string())?;
            keep.canonicalize()?
        }
        None => elsewhere.path().to_owned(),
    };
    deployment.public_keys(&directory.join("public"))?;
    deployment.bundle(&directory.join("bundle.tar"), &["--notices", "store/notices"])?;
    let outcome = gwtap::outcome(&directory, ["inspect", "verify", "bundle.tar", "--keys", "public", "--json"])?;
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).with_context(|| outcome.stderr.clone())?;
    Ok(Inspection {
        good: outcome.code == Some(0),
        bytes: std::fs::metadata(directory.join("bundle.tar"))?.len(),
        log_entries: report.pointer("/log/entries").and_then(serde_json::Value::as_u64).unwrap_or_default(),
        refusal: outcome.stderr.trim().to_owned(),
    })
}

fn plan() -> Plan {
    let sets = [traffic::PORT_FIRST, traffic::PORT_SECOND].map(|port| {
        vec![
            rule("c2-answers", "198.51.100.0/24", "source-port", traffic::PORT_TCP, "tcp"),
            rule(&format!("beacon-{port}"), "198.51.100.0/24", "destination-port", port, "udp"),
        ]
    });
    Plan {
        capacity_bits_per_second: CAPACITY_BITS_PER_SECOND,
        share_ppm: SHARE_PPM,
        sampling_ppm: SAMPLING_PPM,
        sets: sets.to_vec(),
        ..Plan::default()
    }
}

/// Lets traffic flow: quiet, above the cap, quiet again, with a change of selectors on the way.
fn flow(
    seconds: u64,
    deployment: &Deployment,
    traffic: &Traffic,
    processes: &mut [&mut Process],
    interrupt: &Interrupt,
    say: &dyn Fn(&str),
) -> Result<()> {
    let started = Instant::now();
    let mut swapped = false;
    for second in 1..=seconds {
        let percent = second * 100 / seconds;
        traffic.overload((25..60).contains(&percent));
        if percent >= 75 && !swapped {
            say(&format!("       selectors load: {}", deployment.load(2)?.trim()));
            swapped = true;
        }
        while started.elapsed() < Duration::from_secs(second) {
            interrupt.check()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        for process in processes.iter_mut() {
            if let Some(ended) = process.ended()? {
                bail!("a program ended ({ended}) while traffic flowed; it said:\n{}", process.output());
            }
        }
        say(&progress(second, &deployment.status()?));
    }
    Ok(())
}

fn progress(second: u64, status: &Status) -> String {
    let measure = status.measures.first().cloned().unwrap_or_default();
    format!(
        "{second:>4} s  observed {:>8}   admitted {:>4.1} % of the facility (limit {:.0} %)   selected {:>6}   \
         acknowledged {:>6}   generation {}   sample {:.0} %",
        status.counters.observed_packets,
        status.share.used * 100.0,
        status.share.limit * 100.0,
        selected(status),
        measure.delivery.acknowledged_records,
        measure.selectors.generation,
        measure.sampling.ratio * 100.0,
    )
}

/// The frames of the replayed capture.
fn capture(file: &Path) -> Result<Vec<Vec<u8>>> {
    let capture = tap_userspace::laboratory::capture::Capture::open(file)?;
    capture.map(|packet| packet.map(|packet| packet.frame).with_context(|| file.display().to_string())).collect()
}
