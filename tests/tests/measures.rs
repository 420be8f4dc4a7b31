//! Several measures on one mirror port, and the sample under load: the programs as they are deployed, real traffic.
#![allow(clippy::indexing_slicing, reason = "helpers of a test")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::tz::{TimeZone, offset};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tap_tests::deployment::{Deployment, MEASURE, MeasurePlan, Plan, rule, rule_on};
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Host, Lab, MIRROR_PORT, wait_until};
use tap_tests::{gwtap, need};
use tap_userspace::control::status::{MeasureStatus, SamplingStatus, Status};

/// How long things may take that take a moment.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the second measure's order lasts: the start, a load of selectors, and room.
const SECOND_LASTS: SignedDuration = SignedDuration::from_secs(40);
const SECOND: &str = "m-2";

fn able() -> bool {
    need::root() && need::tool("tc").is_some()
}

#[test]
fn measures_on_one_port_share_neither_records_nor_leases_nor_selectors() {
    if able() {
        several().unwrap();
    }
}

fn several() -> Result<()> {
    // Built before the second order's time runs.
    gwtap::binary()?;
    let lab = Lab::new()?;
    let ends = Timestamp::from_second(Timestamp::now().as_second())? + SECOND_LASTS;
    // Japan's time of day, often enough that one comes while the agent runs.
    let seeds =
        (1..20).map(|n| (Timestamp::now() + SignedDuration::from_secs(3 * n)).to_zoned(TimeZone::fixed(offset(9))));
    let second = MeasurePlan {
        id: SECOND.into(),
        basis: "domestic-to-foreign",
        share_ppm: 100_000,
        sampling_ppm: 1_000_000,
        sets: vec![vec![
            rule_on("padding", ("destination-address", "203.0.113.0/24"), ("destination-port", 5099), "udp"),
            rule_on("outward", ("destination-address", "198.51.100.0/24"), ("destination-port", 5050), "udp"),
        ]],
        not_after: Some(ends),
        port: 4741,
    };
    let sets = [5000, 5001]
        .map(|port| vec![rule(&format!("inward-{port}"), "198.51.100.0/24", "destination-port", port, "udp")]);
    let deployment = Deployment::new(Plan {
        sets: sets.to_vec(),
        beside: vec![second],
        new_seed_at: seeds.map(|time| time.strftime("%H:%M:%S").to_string()).collect(),
        ..Plan::default()
    })?;
    let [first, second] = deployment.measures() else { anyhow::bail!("two measures") };
    let mut receivers =
        [deployment.start_receiver_of(first, &lab.receiving)?, deployment.start_receiver_of(second, &lab.receiving)?];
    let mut agent = deployment.start_agent(&lab.mirror)?;
    lab.start_mirror()?;
    let load = |(from_host, from): (&Host, &str), (to_host, to): (&Host, &str), port: u16| -> Result<UdpLoad> {
        let to = SocketAddr::new(to.parse()?, port);
        UdpLoad::start((from_host, from.parse()?), 0, 4, (to_host, to), b"beacon", Rate::new(200_000))
    };
    let (foreign, domestic) = ((&lab.foreign, FOREIGN4), (&lab.domestic, DOMESTIC4));
    // The last one has the second measure's port in the first one's direction: nobody's.
    let loads = [
        load(foreign, domestic, 5000)?,
        load(foreign, domestic, 5001)?,
        load(domestic, foreign, 5050)?,
        load(foreign, domestic, 5050)?,
    ];
    both_select(&deployment, [200, 200])?;

    let unnamed = deployment.gwtap([
        "selectors",
        "load",
        "--socket",
        "control.sock",
        "--set",
        "selectors-2.json",
        "--activation",
        "activation-2.note",
    ]);
    let refusal = format!("{:#}", unnamed.err().context("a load without a measure's name was taken")?);
    ensure!(refusal.contains("--measure (m-1, m-2)"), "{refusal}");
    let before = measure(&deployment.status()?, SECOND)?;
    deployment.load_of(first, 2)?;
    both_select(&deployment, [200, 200])?;
    let status = deployment.status()?;
    let after = measure(&status, SECOND)?;
    ensure!(after.selectors == before.selectors, "the other measure's set changed: {before:?}, then {after:?}");
    ensure!(measure(&status, MEASURE)?.selectors.generation == 2, "{status:?}");
    ensure!(after.lease.live && (after.share.limit - 0.1).abs() < 1e-9, "{after:?}");
    ensure!((status.share.limit - 0.3).abs() < 1e-9, "the largest share, not the sum: {:?}", status.share);

    wait_until("end of the second order", Duration::from_secs(90), || {
        deployment.status().is_ok_and(|now| {
            measure(&now, SECOND).is_ok_and(|second| !second.lease.live && second.lease.refused.is_some())
        })
    })?;
    std::thread::sleep(Duration::from_millis(500));
    let ended = deployment.status()?;
    both_select(&deployment, [200, 0])?;
    let later = deployment.status()?;
    let [ended, later] = [measure(&ended, SECOND)?, measure(&later, SECOND)?];
    ensure!(later.counters.verdicts == ended.counters.verdicts, "decided without a lease: {ended:?}, then {later:?}");
    ensure!(later.counters.idle_packets > ended.counters.idle_packets, "{later:?}");
    let reason = later.lease.refused.as_deref().unwrap_or_default();
    ensure!(reason.contains("ended"), "{reason}");
    wait_until("a new seed", PATIENCE, || deployment.status().is_ok_and(|now| now.sampling_seeds > 0))?;
    both_select(&deployment, [200, 0])?;

    for load in loads {
        load.stop()?;
    }
    let status = deployment.settle(|| Ok(()))?;
    for plan in [first, second] {
        // Hosts say something by themselves now and then: each measure's books are of one moment.
        let status = deployment.settle(|| Ok(()))?;
        let books = deployment.books_of(plan, status, &lab.mirror, MIRROR_PORT)?;
        for (holds, words) in books.equations() {
            ensure!(holds, "{}: {words}: {:?}, {} stored", plan.id, books.status, books.records.len());
        }
        let (ports, direction, generations): (&[u64], _, &[u64]) = if plan.id == SECOND {
            (&[5050], "domestic-to-foreign", &[1])
        } else {
            (&[5000, 5001], "foreign-to-domestic", &[1, 2])
        };
        let strange = |record: &&Value| {
            record["measure"] != plan.id.as_str()
                || record["direction"] != direction
                || !record["destination_port"].as_u64().is_some_and(|port| ports.contains(&port))
                || !record["generation"].as_u64().is_some_and(|generation| generations.contains(&generation))
        };
        if let Some(record) = books.records.iter().find(strange) {
            anyhow::bail!("{}: another measure's record, or another set's: {record}", plan.id);
        }
        ensure!(
            generations.iter().all(|generation| books.generations().get(generation) > Some(&100)),
            "{:?}",
            books.generations()
        );
    }
    let seeds = changes(&deployment)?.into_iter().filter(|change| change["change"] == "seed");
    ensure!(seeds.filter(|change| change["reason"] == "time").count() as u64 >= status.sampling_seeds, "{status:?}");
    for process in receivers.iter_mut().chain([&mut agent]) {
        let ended = process.terminate(PATIENCE)?;
        ensure!(ended.success(), "{ended}: {}", process.output());
    }
    Ok(())
}

fn measure(status: &Status, id: &str) -> Result<MeasureStatus> {
    status.measure(id).cloned().with_context(|| format!("{id} is not in {status:?}"))
}

/// Waits until both measures have so many more records acknowledged.
fn both_select(deployment: &Deployment, more: [u64; 2]) -> Result<()> {
    let acknowledged =
        |status: &Status, id: &str| status.measure(id).map_or(0, |one| one.delivery.acknowledged_records);
    let wanted = |status: &Status| [MEASURE, SECOND].map(|id| acknowledged(status, id));
    let before = wanted(&deployment.status()?);
    let arrived = || {
        let now = deployment.status().map(|now| wanted(&now)).unwrap_or_default();
        now[0] >= before[0] + more[0] && now[1] >= before[1] + more[1]
    };
    wait_until("acknowledged records", PATIENCE, arrived).with_context(|| format!("{:?}", deployment.status()))
}

/// Every recorded change of the samples.
fn changes(deployment: &Deployment) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(deployment.file("state/sampling.jsonl"))?;
    text.lines().map(|line| serde_json::from_str(line).context("sampling.jsonl")).collect()
}

#[test]
fn orders_that_do_not_agree_on_the_facility_are_refused_naming_both() {
    refused_together().unwrap();
}

fn refused_together() -> Result<()> {
    let second = MeasurePlan {
        id: SECOND.into(),
        basis: "domestic-to-foreign",
        share_ppm: 100_000,
        sampling_ppm: 1_000_000,
        sets: vec![vec![rule_on("r", ("destination-address", "198.51.100.0/24"), ("destination-port", 5050), "udp")]],
        not_after: None,
        port: 4741,
    };
    let first = vec![rule("r", "198.51.100.0/24", "destination-port", 5000, "udp")];
    let deployment = Deployment::new(Plan { sets: vec![first], beside: vec![second], ..Plan::default() })?;
    let order = std::fs::read_to_string(deployment.file("m-2-order.toml"))?;
    for (from, to, named) in [
        ("facility-1", "facility-2", "facility.id: facility-2 is not facility-1, which"),
        ("= 1000000000", "= 2000000000", "facility.capacity_bits_per_second: 2000000000 is not 1000000000, which"),
    ] {
        ensure!(order.contains(from), "{from} stands in the order");
        std::fs::write(deployment.file("altered.toml"), order.replacen(from, to, 1))?;
        deployment.sign_order("altered.toml", "m-2-order.note")?;
        refuses(&deployment, &["m-2-order.note: ", named, "order.note names"])?;
    }
    std::fs::copy(deployment.file("order.note"), deployment.file("m-2-order.note"))?;
    let config = std::fs::read_to_string(deployment.file("gwtap.toml"))?;
    let config = config.replace("4741", "4740").replace("m-2-pseudonym", "pseudonym");
    std::fs::write(deployment.file("gwtap.toml"), config)?;
    refuses(&deployment, &["m-2-order.note: measure.id: m-1 is that of ", "order.note too"])
}

/// `gwtap run` refuses, and says all of this.
fn refuses(deployment: &Deployment, says: &[&str]) -> Result<()> {
    let outcome = gwtap::outcome(deployment.path(), ["run", "--config", "gwtap.toml"])?;
    ensure!(outcome.code == Some(3), "{outcome:?}");
    for said in says {
        ensure!(outcome.stderr.contains(said), "{said}: {outcome:?}");
    }
    Ok(())
}

/// A facility whose share the load exceeds two and a half times.
const CAPACITY_BITS_PER_SECOND: u64 = 40_000_000;
const OFFERED_BITS_PER_SECOND: u64 = 30_000_000;
/// Flows of the load, all alike.
const FLOWS: u16 = 64;
/// How long the sample may take to settle.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// How long is looked at once it has.
const LOOK: Duration = Duration::from_secs(4);

#[test]
fn under_overload_the_sample_falls_until_the_cap_seldom_bites_and_flows_are_whole() {
    if able() {
        overload().unwrap();
    }
}

fn overload() -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(Plan {
        capacity_bits_per_second: CAPACITY_BITS_PER_SECOND,
        sets: vec![vec![rule("all", "198.51.100.0/24", "destination-port", 5000, "udp")]],
        ..Plan::default()
    })?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    lab.start_mirror()?;
    let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
    let rate = Rate::new(OFFERED_BITS_PER_SECOND);
    let load = UdpLoad::start((&lab.foreign, FOREIGN4.parse()?), 0, FLOWS, (&lab.domestic, to), &[b'x'; 500], rate)?;

    let until = Instant::now() + SETTLE_MAX;
    let (from, to) = loop {
        let (before, from) = (measure(&deployment.status()?, MEASURE)?, Timestamp::now());
        std::thread::sleep(LOOK);
        let (now, to) = (measure(&deployment.status()?, MEASURE)?, Timestamp::now());
        let count =
            |status: &MeasureStatus, name: &str| status.counters.verdicts.get(name).copied().unwrap_or_default();
        let refused = count(&now, "over_cap") - count(&before, "over_cap");
        let sampled = refused + now.counters.admitted_packets - before.counters.admitted_packets;
        let moved = now.sampling.changes != before.sampling.changes;
        if now.sampling.changes > 0 && !moved && sampled > 1_000 && refused * 100 < sampled {
            break (from, to);
        }
        ensure!(Instant::now() < until, "{refused} of {sampled} refused, moved: {moved}, {:?}", now.sampling);
    };
    load.stop()?;
    let status = deployment.settle(|| Ok(()))?;
    let books = deployment.books(status, &lab.mirror, MIRROR_PORT)?;
    ensure!(books.balance(), "{:?}", books.equations());

    // Flows of equal rate, sent in turns: in a stretch of time each that is in the sample at all is there as often.
    let mut flows: BTreeMap<u64, u64> = BTreeMap::new();
    let inside = from + SignedDuration::from_millis(500)..to - SignedDuration::from_millis(500);
    for record in &books.records {
        let time: Timestamp = record["time"].as_str().context("a record's time")?.parse()?;
        if inside.contains(&time) {
            *flows.entry(record["source_port"].as_u64().context("a record's port")?).or_default() += 1;
        }
    }
    let (least, most) = (flows.values().min().copied().unwrap_or(0), flows.values().max().copied().unwrap_or(0));
    ensure!((1..usize::from(FLOWS)).contains(&flows.len()), "{} of {FLOWS} flows: {flows:?}", flows.len());
    ensure!(most > 100 && least * 100 >= most * 95, "flows are not whole: {flows:?}");

    let (sampling, changes) = recorded_alike(&deployment, &lab.mirror)?;
    ensure!(sampling.changes >= books.measure().sampling.changes, "{sampling:?}, {:?}", books.measure().sampling);
    for (change, before) in changes.iter().skip(1).zip(&changes) {
        ensure!(change["old"] == before["new"] && change["measure"] == MEASURE, "{before} {change}");
        ensure!(change["new"].as_u64() <= changes[0]["new"].as_u64(), "above the order: {change}");
    }
    ensure!(changes[1]["reason"] == "load", "{}", changes[1]);
    ensure!(stored_probabilities(&deployment)? >= changes.len(), "a probability did not reach the store");
    for process in [&mut agent, &mut receiver] {
        ensure!(process.terminate(PATIENCE)?.success(), "{}", process.output());
    }
    Ok(())
}

/// The sample's status, file and series at a moment when they say the same: without load the threshold goes on rising.
fn recorded_alike(deployment: &Deployment, host: &Host) -> Result<(SamplingStatus, Vec<Value>)> {
    let mut last = Err(anyhow::anyhow!("never asked"));
    let attempt = || {
        let sampling = measure(&deployment.status()?, MEASURE)?.sampling;
        let mut recorded = changes(deployment)?;
        recorded.retain(|change| change["change"] == "threshold");
        let series = format!("gwtap_sampling_threshold_ratio{{measure=\"m-1\"}} {}\n", sampling.ratio);
        let page = deployment.metrics(host)?;
        ensure!(recorded.len() as u64 == sampling.changes + 1, "{} recorded, {sampling:?}", recorded.len());
        ensure!(page.contains(&series), "{series} is not in {page}");
        Ok((sampling, recorded))
    };
    let alike = wait_until("status, file and series that agree", PATIENCE, || {
        last = attempt();
        last.is_ok()
    });
    last.with_context(|| format!("{alike:?}"))
}

/// Messages in the store that say the sample's probability.
fn stored_probabilities(deployment: &Deployment) -> Result<usize> {
    let (mut found, mut directories) = (0, vec![deployment.file("store")]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if std::fs::read(&path)?.windows(15).any(|window| window == b"gwtap-flow-hash") {
                found += 1;
            }
        }
    }
    Ok(found)
}
