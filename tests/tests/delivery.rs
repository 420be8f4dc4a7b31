//! Delivery: a record that entered a ring is stored once, whoever is killed in between.
//!
//! In: traffic that never stops, agents and receiving sides killed at random moments. Out: the stored records held against what the
//! kernel says it put into the rings, by identity: instance, CPU, number.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tap_tests::deployment::{Deployment, Plan, missing, rule, selected};
use tap_tests::gwtap;
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Host, Lab, MIRROR_PORT, Process, wait_until};
use tap_tests::need;
use tap_tests::random::Random;

const PATIENCE: Duration = Duration::from_secs(20);
/// Rounds of killing; the issue of delivery asks for three hundred of them in a long run.
const ROUNDS: u64 = 12;
const ROUNDS_LONG: u64 = 300;
/// An agent needs about half a second until it drains: some are killed before, some after.
const ROUND_MS_MAX: u64 = 1_500;

#[test]
fn what_entered_the_rings_is_stored_once_and_in_order_whoever_is_killed() {
    if need::root() && need::tool("tc").is_some() {
        killed().unwrap();
    }
}

/// Both ends of a deployment; either may be away.
struct Ends<'a> {
    deployment: &'a Deployment,
    lab: &'a Lab,
    agent: Option<Process>,
    receiver: Option<Process>,
}

impl Ends<'_> {
    /// Starts whoever is away, without waiting for them.
    fn start(&mut self) -> Result<()> {
        if self.receiver.is_none() {
            self.receiver = Some(self.process(&self.lab.receiving, "receive", "receive.toml", "receive.log")?);
        }
        if self.agent.is_none() {
            self.agent = Some(self.process(&self.lab.mirror, "run", "gwtap.toml", "agent.log")?);
        }
        Ok(())
    }

    fn process(&self, host: &Host, verb: &str, config: &str, log: &str) -> Result<Process> {
        let mut command: Command = host.command(gwtap::binary()?);
        command.args([verb, "--config"]).arg(self.deployment.file(config));
        Process::start(verb, command, &self.deployment.file(log))
    }

    /// Kills one of them, or both.
    fn kill(&mut self, random: &mut Random) -> Result<&'static str> {
        let (agent, receiver, who) = random.pick([
            (true, false, "agent"),
            (false, true, "receiver"),
            (true, true, "both"),
            (true, false, "agent"),
        ]);
        if agent {
            self.agent.take().map_or(Ok(()), |mut agent| agent.kill())?;
        }
        if receiver {
            self.receiver.take().map_or(Ok(()), |mut receiver| receiver.kill())?;
        }
        Ok(who)
    }

    fn said(&self) -> String {
        self.agent.as_ref().map(Process::output).unwrap_or_default()
    }
}

fn killed() -> Result<()> {
    let rounds = if need::long() { ROUNDS_LONG } else { ROUNDS };
    let mut random = Random::printed("kills of both ends");
    let lab = Lab::new()?;
    let plan = Plan {
        sets: vec![vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")]],
        ..Plan::default()
    };
    let deployment = Deployment::new(plan)?;
    let mut ends = Ends { deployment: &deployment, lab: &lab, agent: None, receiver: None };
    // From the first frame on there is a program.
    ends.receiver = Some(deployment.start_receiver(&lab.receiving)?);
    ends.agent = Some(deployment.start_agent(&lab.mirror)?);
    lab.start_mirror()?;
    let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
    let load =
        UdpLoad::start((&lab.foreign, FOREIGN4.parse()?), 0, 4, (&lab.domestic, to), b"beacon", Rate::new(400_000))?;
    let mut who = BTreeMap::new();
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(random.below(0..ROUND_MS_MAX)));
        *who.entry(ends.kill(&mut random)?).or_insert(0) += 1;
        ends.start()?;
    }
    let answers = || deployment.status().is_ok_and(|status| selected(&status) > 0);
    wait_until("a running agent", PATIENCE, answers).with_context(|| ends.said())?;
    load.stop()?;
    let status = deployment.settle(|| Ok(())).with_context(|| ends.said())?;
    let books = deployment.books(status, &lab.mirror, MIRROR_PORT)?;
    for (holds, words) in books.equations() {
        ensure!(holds, "{words}: {:?}, {} stored", books.status, books.records.len());
    }
    let lost = books.measure().counters.ring_lost;
    let missing = missing(&books.records)?;
    ensure!(missing == lost, "{missing} numbers are missing, {lost} records were lost to full rings");
    println!("{rounds} kills {who:?}: {} records stored once, {lost} lost to full rings", books.records.len());
    Ok(())
}
