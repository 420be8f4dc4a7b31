//! Expiry: a rule that ends leaves the kernel within a second, the others go on, and the log says so; the programs as they
//! are deployed, real traffic, real seconds.
#![allow(clippy::indexing_slicing, reason = "helpers of a test")]

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tap_tests::deployment::{Deployment, Plan, rule};
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Lab, wait_until};
use tap_tests::{gwtap, need};

/// How long things may take that take a moment.
const PATIENCE: Duration = Duration::from_secs(30);
/// When the first rule ends: keys, documents and a start lie before it; with a million indicators, and how many those are.
const LASTS: SignedDuration = SignedDuration::from_secs(12);
const LASTS_LARGE: SignedDuration = SignedDuration::from_secs(120);
const LARGE: u32 = 1_000_000;
/// When at the latest the other rule selects again; of a large set as long as a load takes.
const BACK: SignedDuration = SignedDuration::from_secs(1);
const BACK_LARGE: SignedDuration = SignedDuration::from_secs(15);
/// The ports of the rule that ends and of the one that stays.
const PORTS: [u16; 2] = [5000, 5001];

#[test]
fn a_rule_that_ends_leaves_the_kernel_within_a_second_and_the_others_go_on() {
    if need::root() && need::tool("tc").is_some() {
        expires(1, LASTS, BACK).unwrap();
    }
}

#[test]
fn a_rule_that_ends_leaves_a_set_of_a_million_within_a_second() {
    if need::long() && need::root() && need::tool("tc").is_some() {
        expires(LARGE, LASTS_LARGE, BACK_LARGE).unwrap();
    }
}

/// Indicators of a rule: the prefix that sends, and others that do not, in a prefix that the order approves.
fn indicators(count: u32) -> Value {
    let others = (1..count).map(|index| {
        let address = 0x2001_0db8_0002_0000_0000_0000_0000_0000 + u128::from(index) * 0x1_0001_0083;
        std::net::Ipv6Addr::from(address).to_string()
    });
    others.chain(["198.51.100.0/24".to_owned()]).collect()
}

fn expires(count: u32, lasts: SignedDuration, back_at_most: SignedDuration) -> Result<()> {
    // Built before the rule's time runs.
    gwtap::binary()?;
    let lab = Lab::new()?;
    let end = Timestamp::from_second(Timestamp::now().as_second())? + lasts;
    let mut rules = PORTS.map(|port| rule(&format!("r{port}"), "198.51.100.0/24", "destination-port", port, "udp"));
    rules[0]["valid_until"] = end.to_string().into();
    rules[1]["conditions"][0]["any"] = indicators(count);
    let deployment = Deployment::new(Plan { sets: vec![rules.to_vec()], ..Plan::default() })?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    lab.start_mirror()?;
    let start = |port| -> Result<UdpLoad> {
        let to = SocketAddr::new(DOMESTIC4.parse()?, port);
        UdpLoad::start((&lab.foreign, FOREIGN4.parse()?), 0, 4, (&lab.domestic, to), b"beacon", Rate::new(200_000))
    };
    let loads = [start(PORTS[0])?, start(PORTS[1])?];
    ensure!(Timestamp::now() < end, "the start took longer than the rule lasts");

    let log = || -> Result<Vec<Value>> {
        let said = deployment.gwtap(["audit", "show", "log", "--json"])?;
        said.lines().map(|line| serde_json::from_str(line).context("a line of the log")).collect()
    };
    let has = |log: &[Value], act: &str| log.iter().any(|entry| entry.to_string().contains(act));
    let patience = PATIENCE + Duration::try_from(lasts)?;
    wait_until("the rule's absence in the log", patience, || log().is_ok_and(|log| has(&log, "rules-over")))?;
    std::thread::sleep(Duration::from_secs(2) + Duration::try_from(back_at_most)?);
    for load in loads {
        load.stop()?;
    }
    deployment.settle(|| Ok(()))?;

    let records = deployment.records()?;
    let times = |port: u16| -> Result<Vec<Timestamp>> {
        let of_port = records.iter().filter(|record| record["destination_port"] == port);
        of_port.map(|record| record["time"].as_str().context("time")?.parse().context("time")).collect()
    };
    let [ended, stays] = [times(PORTS[0])?, times(PORTS[1])?];
    ensure!(ended.len() > 50 && stays.len() > 100, "{} and {} records", ended.len(), stays.len());
    // The lease ends with the rule: within the clock's error, not only within the second.
    let last = ended.iter().max().context("records of the rule")?;
    ensure!(*last < end + SignedDuration::from_millis(50), "selected at {last}, the rule ended {end}");
    let back = stays.iter().filter(|time| **time >= end).min().context("the other rule stopped, too")?;
    println!("{count} indicators: {:?} after the end the others select again", back.duration_since(end));
    ensure!(*back < end + back_at_most, "the other rule selects again only at {back}, {end} was the end");
    let later = end + back_at_most + SignedDuration::from_secs(1);
    ensure!(stays.iter().any(|time| *time > later), "the other rule goes on");

    let log = log()?;
    let over = log.iter().find(|entry| entry.to_string().contains("rules-over")).context("the act")?.to_string();
    for part in ["\"measure\":\"m-1\"", "\"number\":1", "\"over\":1", "\"left\":1"] {
        ensure!(over.contains(part), "{part}: {over}");
    }
    ensure!(has(&log, "\"expiry\""), "the swap says why");
    let status = deployment.status()?;
    ensure!(status.measures[0].selectors.generation == 1, "the activation is the same: {status:?}");

    // An agent that starts anew loads the set without what is over.
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    let mut agent = deployment.start_agent(&lab.mirror)?;
    wait_until("the lease", PATIENCE, || deployment.status().is_ok_and(|status| status.measures[0].lease.live))?;
    for process in [&mut receiver, &mut agent] {
        ensure!(process.terminate(PATIENCE)?.success(), "{}", process.output());
    }
    Ok(())
}
