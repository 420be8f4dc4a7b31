//! Withdrawal: one person ends what a measure looks for while traffic flows; it stays so across a kill, until two persons
//! activate a set again. The programs as they are deployed.
#![allow(clippy::indexing_slicing, reason = "helpers of a test")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tap_tests::deployment::{Deployment, MEASURE, Plan, rule, selected};
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Lab, wait_until};
use tap_tests::{gwtap, need};
use tap_userspace::inspect::container;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn one_person_ends_what_is_looked_for_and_it_takes_two_to_begin_again() {
    if need::root() && need::tool("tc").is_some() {
        run().unwrap();
    }
}

fn run() -> Result<()> {
    let lab = Lab::new()?;
    let set = |port| vec![rule("beacon", "198.51.100.0/24", "destination-port", port, "udp")];
    let deployment = Deployment::new(Plan { sets: vec![set(5000), set(5000)], ..Plan::default() })?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    lab.start_mirror()?;
    let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
    let from = (&lab.foreign, FOREIGN4.parse()?);
    let load = UdpLoad::start(from, 0, 16, (&lab.domestic, to), b"beacon", Rate::new(200_000))?;
    let now = || deployment.status().map(|status| selected(&status));
    wait_until("selected packets", PATIENCE, || now().is_ok_and(|count| count > 0))?;
    // By the socket, sealed: the operator does not read it.
    let host = "keys/mirror-1.seal.pub";
    deployment.gwtap(["selectors", "seal", "selectors-2.json", "--to", host, "--out", "second.sealed"])?;
    let words = ["selectors", "load", "--socket", "control.sock", "--set", "second.sealed"];
    deployment.gwtap(words.into_iter().chain(["--activation", "activation-2.note"]))?;

    // Somebody who may not, a number that is not the next, and the right one.
    let sign = |number: &str, key: &str, out: &str| {
        let key = format!("keys/{key}.key");
        let words = ["selectors", "withdraw", "--order", "order.note", "--number", number, "--key", &key, "--out", out];
        deployment.gwtap(words).map(drop)
    };
    let hand = |note: &str| deployment.gwtap(["selectors", "load", "--socket", "control.sock", "--withdrawal", note]);
    sign("3", "ministry", "foreign.note")?;
    sign("4", "author", "later.note")?;
    sign("3", "approver", "withdrawal.note")?;
    for (note, why) in [("foreign.note", "selector-author"), ("later.note", "not the next one, 3")] {
        let refused = hand(note).err().with_context(|| format!("{note} counts"))?.to_string();
        ensure!(refused.contains(why), "{note}: {refused}");
    }
    // Nor does it pass for a set that is empty: the log would not say what it was.
    std::fs::write(deployment.file("empty.json"), "")?;
    let words = ["selectors", "load", "--socket", "control.sock", "--set", "empty.json"];
    let empty = deployment.gwtap(words.into_iter().chain(["--activation", "withdrawal.note"]));
    ensure!(empty.is_err(), "an empty set was loaded");
    ensure!(deployment.status()?.measures[0].lease.live, "a refused withdrawal ended something");
    let asked = Instant::now();
    hand("withdrawal.note")?;
    let after = now()?;
    let answered = asked.elapsed();
    ensure!(answered < Duration::from_secs(1), "in force after {answered:?}");
    std::thread::sleep(Duration::from_secs(2));
    ensure!(now()? == after, "{} selected after the withdrawal was answered", now()? - after);
    println!("withdrawn and out of the kernel after {answered:?}");
    withdrawn(&deployment)?;

    // Nothing from before counts again, nor after a kill.
    let refused = deployment.load(2).err().context("an older activation counts")?.to_string();
    ensure!(refused.contains("not the next one, 4"), "{refused}");
    agent.kill()?;
    let mut command = lab.mirror.command(gwtap::binary()?);
    command.args(["run", "--config"]).arg(deployment.file("gwtap.toml"));
    let mut agent = tap_tests::lab::Process::start("gwtap run", command, &deployment.file("again.log"))?;
    agent.wait_until("an answer", PATIENCE, || deployment.status().is_ok())?;
    std::thread::sleep(Duration::from_secs(2));
    withdrawn(&deployment)?;
    ensure!(now()? == after, "selected after a restart");

    let words = ["selectors", "activate", "selectors-1.json", "--order", "order.note", "--number", "4"];
    let keys = ["--key", "keys/author.key", "--key", "keys/approver.key", "--out", "activation-4.note"];
    deployment.gwtap(words.into_iter().chain(keys))?;
    let words = ["selectors", "load", "--socket", "control.sock", "--set", "selectors-1.json"];
    deployment.gwtap(words.into_iter().chain(["--activation", "activation-4.note"]))?;
    wait_until("selected packets again", PATIENCE, || now().is_ok_and(|count| count > after))?;
    load.stop()?;
    let status = deployment.settle(|| Ok(()))?;
    let books = deployment.books(status, &lab.mirror, tap_tests::lab::MIRROR_PORT)?;
    // What generation 4 looks for is set 1 again, which the plan does not know.
    let broken: Vec<_> =
        books.equations().into_iter().filter(|(holds, what)| !holds && !what.contains("rules")).collect();
    ensure!(broken.is_empty(), "{broken:?}");
    let generations = books.generations();
    ensure!(generations.contains_key(&4) && !generations.contains_key(&3), "{generations:?}");
    for process in [&mut receiver, &mut agent] {
        ensure!(process.terminate(PATIENCE)?.success(), "{}", process.output());
    }
    inspected(&deployment)
}

/// What status says of a measure that looks for nothing.
fn withdrawn(deployment: &Deployment) -> Result<()> {
    let status = deployment.status()?;
    let measure = status.measures.first().context("a measure")?;
    let refused = measure.lease.refused.clone().unwrap_or_default();
    ensure!(!measure.lease.live && refused.contains("withdrawn"), "{measure:?}");
    ensure!((measure.selectors.generation, measure.selectors.rules) == (3, 0), "{measure:?}");
    Ok(())
}

/// An inspector sees who ended it, and misses the note where it is taken away.
fn inspected(deployment: &Deployment) -> Result<()> {
    let elsewhere = tempfile::tempdir()?;
    deployment.public_keys(&elsewhere.path().join("public"))?;
    deployment.bundle(&elsewhere.path().join("bundle.tar"), &[])?;
    let words = ["inspect", "verify", "bundle.tar", "--keys", "public", "--json"];
    let said: Value = serde_json::from_str(&gwtap::run(elsewhere.path(), words)?)?;
    let withdrawal = said.pointer("/measures/0/withdrawals/0").with_context(|| format!("{said:#}"))?;
    ensure!(withdrawal["number"] == 3 && withdrawal["signed_by"][0] == "approver (selector-approver)", "{withdrawal}");
    ensure!(said["measures"][0]["measure"] == MEASURE);
    let file = elsewhere.path().join("bundle.tar");
    let mut files = container::read(&std::fs::read(&file)?).map_err(|found| anyhow::anyhow!("{found:?}"))?;
    let name = files.keys().find(|name| name.contains("withdrawal-")).context("the note")?.clone();
    files.remove(&name);
    std::fs::write(&file, container::write(&files)?)?;
    let outcome = gwtap::outcome(elsewhere.path(), words)?;
    ensure!(outcome.code != Some(0) && outcome.stdout.contains(&name), "{}", outcome.stdout);
    Ok(())
}
