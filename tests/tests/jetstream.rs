//! Delivery through a JetStream stream with three replicas: what entered the rings is stored once, whoever is killed in between.
//!
//! In: traffic that never stops; the stream's leader, a follower, the agent and the receiver killed at random moments. Out: the stored
//! records held against what the kernel says it put into the rings, by identity: instance, CPU, number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tap_tests::deployment::{Authority, Deployment, HOST_NAME, Plan, SERVER_NAME, missing, rule, selected};
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Host, Lab, MIRROR_PORT, Process, wait_until};
use tap_tests::nats::{Cluster, STREAM};
use tap_tests::random::Random;
use tap_tests::{gwtap, need};

const PATIENCE: Duration = Duration::from_secs(60);
/// Rounds of killing: at least one of each, and many in a long run.
const ROUNDS: usize = 5;
const ROUNDS_LONG: usize = 300;
/// An agent needs about half a second until it publishes: some are killed before, some after.
const ROUND_MS_MAX: u64 = 1_500;
/// How long whoever was killed stays away at most.
const AWAY_MS_MAX: u64 = 1_000;

fn tools() -> Option<PathBuf> {
    (need::root() && need::tool("tc").is_some()).then(|| need::tool("nats-server")).flatten()
}

#[test]
fn what_entered_the_rings_is_stored_once_from_a_stream_whoever_is_killed() {
    if let Some(program) = tools() {
        killed(program).unwrap();
    }
}

#[test]
fn receivers_that_share_a_partition_store_all_of_it_together() {
    if let Some(program) = tools() {
        shared(program).unwrap();
    }
}

/// Whom a round kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Leader,
    Follower,
    Agent,
    Receiver,
}

const ALL: [Who; 4] = [Who::Leader, Who::Follower, Who::Agent, Who::Receiver];

/// A deployment whose records go through a stream.
struct Way {
    lab: Lab,
    deployment: Deployment,
    cluster: Cluster,
}

impl Way {
    fn new(program: PathBuf) -> Result<Self> {
        let lab = Lab::new()?;
        let plan = Plan {
            sets: vec![vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")]],
            ..Plan::default()
        };
        let deployment = Deployment::new(plan)?;
        through_a_stream(&deployment)?;
        let cluster = Cluster::start(&program, &lab.receiving, &deployment)?;
        Ok(Self { lab, deployment, cluster })
    }

    /// A receiver, without waiting for it.
    fn receiver(&self, config: &str) -> Result<Process> {
        self.process(&self.lab.receiving, &["receive", "--from-jetstream"], config)
    }

    /// An agent, without waiting for it.
    fn agent(&self) -> Result<Process> {
        self.process(&self.lab.mirror, &["run"], "gwtap.toml")
    }

    fn process(&self, host: &Host, verb: &[&str], config: &str) -> Result<Process> {
        let mut command: Command = host.command(gwtap::binary()?);
        command.args(verb).arg("--config").arg(self.deployment.file(config));
        Process::start(config, command, &self.deployment.file(&config.replace("toml", "log")))
    }

    fn load(&self) -> Result<UdpLoad> {
        let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
        let from = (&self.lab.foreign, FOREIGN4.parse()?);
        UdpLoad::start(from, 0, 4, (&self.lab.domestic, to), b"beacon", Rate::new(400_000))
    }
}

/// The servers stand in the order, in the agent's configuration and in the receiver's, in place of the facility's own port.
fn through_a_stream(deployment: &Deployment) -> Result<()> {
    let change = |name: &str, from: &str, to: &str| -> Result<()> {
        let file = deployment.file(name);
        let text = std::fs::read_to_string(&file)?;
        ensure!(text.contains(from), "{name}: {from}");
        Ok(std::fs::write(&file, text.replacen(from, to, 1))?)
    };
    let endpoints = Cluster::endpoints();
    let further: Vec<_> = endpoints.iter().skip(1).collect();
    change(
        "order.toml",
        "[receiving_facility]\n",
        &format!("[receiving_facility]\nfurther_endpoints = {further:?}\n"),
    )?;
    let [_, activation] = deployment.set(1);
    for file in [deployment.file("order.note"), activation] {
        std::fs::remove_file(file)?;
    }
    deployment.sign_order("order.toml", "order.note")?;
    deployment.activate(1)?;
    let table = |head: &str, endpoint: &String| {
        format!("\n[[{head}]]\nendpoint = \"{endpoint}\"\nserver_name = \"{SERVER_NAME}\"\n")
    };
    let others: String = further.iter().map(|endpoint| table("measure.export.further", endpoint)).collect();
    change("gwtap.toml", "[measure.export]\n", "[measure.export]\nkind = \"jetstream\"\n")?;
    change("gwtap.toml", "\n\n[mirror]", &format!("\n{others}\n[mirror]"))?;
    let servers: String = endpoints.iter().map(|endpoint| table("jetstream.server", endpoint)).collect();
    let receive = std::fs::read_to_string(deployment.file("receive.toml"))?;
    let (_, rest) = receive.split_once("\n\n").context("[listen]")?;
    let receive = format!("{rest}\n[jetstream]\nca_file = \"tls/ca.pem\"\nstream = \"{STREAM}\"\n{servers}");
    std::fs::write(deployment.file("receive.toml"), &receive)?;
    Ok(std::fs::write(deployment.file("receive-2.toml"), receive.replace("\"store\"", "\"store-2\""))?)
}

fn killed(program: PathBuf) -> Result<()> {
    let rounds = if need::long() { ROUNDS_LONG } else { ROUNDS };
    let mut random = Random::printed("kills on the way through a stream");
    let mut way = Way::new(program)?;
    let mut receiver = way.receiver("receive.toml")?;
    way.cluster.settle().with_context(|| receiver.output())?;
    // From the first frame on there is a program.
    let mut agent = way.deployment.start_agent(&way.lab.mirror)?;
    let answers = |way: &Way| way.deployment.status().is_ok_and(|status| selected(&status) > 0);
    way.lab.start_mirror()?;
    let load = way.load()?;
    wait_until("a running agent", PATIENCE, || answers(&way)).with_context(|| agent.output())?;
    let mut who = BTreeMap::new();
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(random.below(0..ROUND_MS_MAX)));
        let one = ALL.get(round).copied().unwrap_or_else(|| random.pick(ALL));
        *who.entry(one).or_insert(0) += 1;
        match one {
            Who::Leader | Who::Follower => {
                way.cluster.kill(one == Who::Leader)?;
                std::thread::sleep(Duration::from_millis(random.below(0..AWAY_MS_MAX)));
                way.cluster.start_missing()?;
                // One server at a time may be lost: that is what three replicas are for.
                way.cluster.settle().with_context(|| format!("after kill {round} of {rounds}, {one:?}"))?;
            }
            Who::Agent => {
                agent.kill()?;
                agent = way.agent()?;
            }
            Who::Receiver => {
                receiver.kill()?;
                receiver = way.receiver("receive.toml")?;
            }
        }
    }
    wait_until("a running agent", PATIENCE, || answers(&way)).with_context(|| agent.output())?;
    load.stop()?;
    wait_until("published messages", PATIENCE, || {
        way.deployment.status().is_ok_and(|status| status.measures.iter().all(|measure| measure.spool.messages == 0))
    })
    .with_context(|| agent.output())?;
    way.cluster.drained().with_context(|| receiver.output())?;
    // Last, since hosts say a word now and then when nobody asks them, and the interface counts it.
    let status = way.deployment.settle(|| Ok(())).with_context(|| agent.output())?;
    let books = way.deployment.books(status, &way.lab.mirror, MIRROR_PORT)?;
    for (holds, words) in books.equations() {
        ensure!(holds, "{words}: {:?}, {} stored", books.status, books.records.len());
    }
    let lost = books.measure().counters.ring_lost;
    let missing = missing(&books.records)?;
    ensure!(missing == lost, "{missing} numbers are missing, {lost} records were lost to full rings");
    println!("{rounds} kills {who:?}: {} records stored once, {lost} lost to full rings", books.records.len());
    Ok(())
}

/// Two receivers with a store each; one is killed and does not come back.
fn shared(program: PathBuf) -> Result<()> {
    let way = Way::new(program)?;
    let mut first = way.receiver("receive.toml")?;
    let second = way.receiver("receive-2.toml")?;
    way.cluster.settle().with_context(|| first.output())?;
    let agent = way.deployment.start_agent(&way.lab.mirror)?;
    way.lab.start_mirror()?;
    let load = way.load()?;
    let stored = |store: &str| records(&way.deployment, store).is_ok_and(|records| !records.is_empty());
    wait_until("records in both stores", PATIENCE, || stored("store") && stored("store-2"))
        .with_context(|| format!("{}\n{}\n{}", agent.output(), first.output(), second.output()))?;
    first.kill()?;
    std::thread::sleep(Duration::from_secs(1));
    load.stop()?;
    let status = way.deployment.settle(|| Ok(())).with_context(|| agent.output())?;
    way.cluster.drained().with_context(|| second.output())?;
    let mut together = BTreeSet::new();
    let mut counts = Vec::new();
    for store in ["store", "store-2"] {
        let records = records(&way.deployment, store)?;
        missing(&records).context("a record is twice in one store")?;
        for record in &records {
            together.insert([&record["instance"], &record["cpu"], &record["sequence"]].map(Value::to_string));
        }
        counts.push(records.len());
    }
    let lost: u64 = status.measures.iter().map(|measure| measure.counters.ring_lost).sum();
    let expected = selected(&status) - lost;
    ensure!(together.len() as u64 == expected, "{} records in both stores together, of {expected}", together.len());
    println!("{counts:?} records in two stores, {expected} together");
    Ok(())
}

#[test]
fn the_doctor_asks_a_streams_servers_as_the_agent_would() {
    if let Some(program) = tools() {
        doctor(program).unwrap();
    }
}

fn doctor(program: PathBuf) -> Result<()> {
    let mut way = Way::new(program)?;
    ensure!(states(&way)? == ["failed"; 3], "nobody has made the stream: {:?}", states(&way)?);
    let mut receiver = way.receiver("receive.toml")?;
    way.cluster.settle().with_context(|| receiver.output())?;
    ensure!(states(&way)? == ["ok"; 3], "{:?}", states(&way)?);

    // Another name than the certificate's, and a server that is away.
    let file = way.deployment.file("gwtap.toml");
    let text = std::fs::read_to_string(&file)?;
    let name = format!("server_name = \"{SERVER_NAME}\"");
    std::fs::write(&file, text.replacen(&name, "server_name = \"another.example\"", 1))?;
    ensure!(states(&way)? == ["warning", "ok", "ok"], "{:?}", states(&way)?);
    std::fs::write(&file, text.replace(&name, "server_name = \"another.example\""))?;
    ensure!(states(&way)? == ["failed"; 3], "{:?}", states(&way)?);
    std::fs::write(&file, &text)?;
    way.cluster.kill(false)?;
    let mut found = states(&way)?;
    found.sort();
    ensure!(found == ["ok", "ok", "warning"], "{found:?}");

    // A certificate of somebody else's authority.
    for kind in ["pem", "key"] {
        std::fs::remove_file(way.deployment.file(&format!("tls/{HOST_NAME}.{kind}")))?;
    }
    Authority::new("nobody")?.issue(HOST_NAME, &way.deployment.file("tls"))?;
    ensure!(states(&way)? == ["failed"; 3], "{:?}", states(&way)?);
    ensure!(receiver.terminate(PATIENCE)?.success(), "{}", receiver.output());
    Ok(())
}

/// What the doctor finds of the stream's servers, in their order.
fn states(way: &Way) -> Result<Vec<String>> {
    let mut command = way.lab.mirror.command(gwtap::binary()?);
    command.args(["doctor", "--json", "--seconds", "0", "--config"]).arg(way.deployment.file("gwtap.toml"));
    let outcome = gwtap::of(&mut command)?;
    let report: Value = serde_json::from_str(&outcome.stdout).with_context(|| outcome.stderr.clone())?;
    let checks = report.get("checks").and_then(Value::as_array).context("checks")?;
    let state = |check: &Value| check.get("state").and_then(Value::as_str).unwrap_or_default().to_owned();
    let streams: Vec<_> = checks.iter().filter(|check| check.get("check") == Some(&"stream".into())).collect();
    println!("{streams:#?}");
    Ok(streams.into_iter().map(state).collect())
}

fn records(deployment: &Deployment, store: &str) -> Result<Vec<Value>> {
    let text = deployment.gwtap(["records", "--store", store, "--json"])?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
