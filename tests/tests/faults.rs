//! What goes wrong: the agent is killed, asked to end, or given what the rules refuse. Failing means that nothing is recorded,
//! and that the machine is as before.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use tap_tests::deployment::{Deployment, MEASURE, Plan, rule, selected};
use tap_tests::gwtap;
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Host, Lab, MIRROR_PORT, wait_until};
use tap_tests::need;
use tap_userspace::keys::note::{self, SecretKey};

/// How long things may take that take a moment.
const PATIENCE: Duration = Duration::from_secs(15);
/// A lease lasts 5 s at most; a second later nothing may be selected.
const AFTER_THE_LEASE: Duration = Duration::from_secs(6);

fn able() -> bool {
    need::root() && need::tool("tc").is_some()
}

fn plan() -> Plan {
    Plan { sets: vec![vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")]], ..Plan::default() }
}

fn beacons(lab: &Lab) -> Result<UdpLoad> {
    let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
    UdpLoad::start((&lab.foreign, FOREIGN4.parse()?), 0, 4, (&lab.domestic, to), b"beacon", Rate::new(200_000))
}

fn selects(deployment: &Deployment, more: u64) -> Result<()> {
    let before = selected(&deployment.status()?);
    let grown = || deployment.status().is_ok_and(|now| selected(&now) >= before + more);
    wait_until("selected packets", PATIENCE, grown).with_context(|| format!("{:?}", deployment.status()))
}

/// Whether a program is attached to the interface.
fn attached(host: &Host, interface: &str) -> Result<bool> {
    Ok(host.run("ip", ["-details", "link", "show", "dev", interface])?.contains("xdp"))
}

#[test]
fn a_killed_agent_leaves_a_kernel_that_stops_by_itself_and_a_successor_that_continues() {
    if able() {
        killed().unwrap();
    }
}

fn killed() -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(plan())?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    lab.start_mirror()?;
    let load = beacons(&lab)?;
    selects(&deployment, 200)?;

    agent.kill()?;
    std::thread::sleep(AFTER_THE_LEASE);
    let after = deployment.kernel_counters(&lab.mirror)?;
    std::thread::sleep(Duration::from_secs(1));
    let later = deployment.kernel_counters(&lab.mirror)?;
    ensure!(later.observed > after.observed, "traffic still passes the program: {later:?}");
    ensure!(later.selected == after.selected, "selected without a lease: {after:?}, then {later:?}");
    ensure!(later.no_lease > after.no_lease, "packets without a lease are counted as such: {later:?}");

    let mut agent = deployment.start_agent(&lab.mirror)?;
    selects(&deployment, 200)?;
    load.stop()?;
    let status = deployment.settle(|| Ok(()))?;
    let books = deployment.books(status, &lab.mirror, MIRROR_PORT)?;
    for (holds, words) in books.equations() {
        ensure!(holds, "{words}: {:?}, {} stored", books.status, books.records.len());
    }
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    ensure!(receiver.terminate(PATIENCE)?.success(), "{}", receiver.output());
    Ok(())
}

#[test]
fn an_agent_that_is_asked_to_end_drains_and_detaches() {
    if able() {
        ended().unwrap();
    }
}

fn ended() -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(plan())?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    lab.start_mirror()?;
    ensure!(attached(&lab.mirror, MIRROR_PORT)?, "a running agent has its program on the mirror port");
    let load = beacons(&lab)?;
    selects(&deployment, 100)?;
    let ended = agent.terminate(PATIENCE)?;
    ensure!(ended.success(), "{ended}: {}", agent.output());
    ensure!(!attached(&lab.mirror, MIRROR_PORT)?, "an ended agent leaves no program");
    load.stop()?;
    ensure!(receiver.terminate(PATIENCE)?.success(), "{}", receiver.output());
    Ok(())
}

#[test]
fn what_the_rules_refuse_attaches_nothing_and_is_named() {
    if able() {
        refusals().unwrap();
    }
}

fn refusals() -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(plan())?;
    let order = std::fs::read_to_string(deployment.file("order.toml"))?;
    let note = std::fs::read_to_string(deployment.file("order.note"))?;
    let host_key = deployment.host_key()?;
    let date = |hours: i64| (Timestamp::now() + SignedDuration::from_hours(hours)).to_string();

    // Orders: each text, whether it is signed, and what the refusal has to name.
    let window = |from: i64, to: i64| {
        let line = |line: &str| match line.split(' ').next() {
            Some("not_before") => format!("not_before = \"{}\"", date(from)),
            Some("not_after") => format!("not_after = \"{}\"", date(to)),
            _ => line.to_owned(),
        };
        order.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
    };
    let orders: [(&str, String, &str); 7] = [
        ("ended", window(-50, -2), "not_after"),
        ("not begun", window(2, 50), "not_before"),
        ("over three calendar months", window(-1, 24 * 93), "not_after"),
        ("for another host", order.replace(&host_key, &"0".repeat(64)), "host"),
        (
            "for another country table",
            order.replace("country_table_sha256 = \"", "country_table_sha256 = \"00"),
            "country_table_sha256",
        ),
        ("with an unknown key", order.replace("[approval]", "[approval]\nunheard = 1"), "unheard"),
        ("for another port", order.replace("interface = \"m0\"", "interface = \"m1\""), "interface"),
    ];
    for (what, text, named) in orders {
        ensure!(text != order, "{what}: the text was not altered");
        std::fs::write(deployment.file("order.note"), signed(&deployment, &text, &["ministry", "commission"])?)?;
        refused(&lab, &deployment, &format!("an order {what}"), named)?;
    }
    std::fs::write(deployment.file("order.note"), &order)?;
    refused(&lab, &deployment, "an order without signatures", "sign")?;
    std::fs::write(deployment.file("order.note"), signed(&deployment, &order, &["ministry"])?)?;
    refused(&lab, &deployment, "an order without the Commission", "commission")?;
    std::fs::write(deployment.file("order.note"), note.replacen("300000", "299999", 1))?;
    refused(&lab, &deployment, "an order altered by a digit", "sign")?;
    std::fs::write(deployment.file("order.note"), &note)?;

    let activation = std::fs::read_to_string(deployment.file("activation-1.note"))?;
    let twice = signed(&deployment, &note::text(&activation)?, &["author"])?;
    std::fs::write(deployment.file("activation-1.note"), twice)?;
    refused(&lab, &deployment, "an activation by one person", "approver")?;
    std::fs::write(deployment.file("activation-1.note"), &activation)?;

    let set = std::fs::read_to_string(deployment.file("selectors-1.json"))?;
    std::fs::write(deployment.file("selectors-1.json"), format!("{set}\n"))?;
    refused(&lab, &deployment, "a set that is not the activated one", "set")?;
    for (what, text) in [
        ("for another measure", set.replace(MEASURE, "m-2")),
        ("that is trivial", set.replace("\"198.51.100.0/24\"", "\"0.0.0.0/1\", \"128.0.0.0/1\"")),
    ] {
        ensure!(text != set, "{what}: the text was not altered");
        std::fs::write(deployment.file("selectors-1.json"), &text)?;
        let refusal = deployment.activate(1).map(|()| String::new()).unwrap_or_else(|error| format!("{error:#}"));
        ensure!(refusal.contains("exit code Some(3)"), "a set {what} was activated: {refusal}");
    }
    std::fs::write(deployment.file("selectors-1.json"), &set)?;

    // The same deployment, as it was made, runs: the refusals above had their stated reasons.
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    ensure!(receiver.terminate(PATIENCE)?.success(), "{}", receiver.output());
    Ok(())
}

/// Signs a text with the deployment's keys, whatever it says: the verbs would refuse most of these.
fn signed(deployment: &Deployment, text: &str, names: &[&str]) -> Result<String> {
    let mut note = text.to_owned();
    for name in names {
        note = note::sign(&note, &SecretKey::from_file(&deployment.file(&format!("keys/{name}.key")))?)?;
    }
    Ok(note)
}

fn refused(lab: &Lab, deployment: &Deployment, what: &str, named: &str) -> Result<()> {
    let mut command = lab.mirror.command(gwtap::binary()?);
    command.args(["run", "--config"]).arg(deployment.file("gwtap.toml"));
    let log = deployment.file("refused.log");
    std::fs::write(&log, "")?;
    let mut process = tap_tests::lab::Process::start("gwtap run", command, &log)?;
    let ended = process.wait(PATIENCE).with_context(|| format!("{what} was not refused"))?;
    let said = process.output();
    ensure!(ended.code() == Some(3), "{what}: {ended}, said: {said}");
    ensure!(said.to_lowercase().contains(named), "{what}: the refusal does not name `{named}`: {said}");
    ensure!(!attached(&lab.mirror, MIRROR_PORT)?, "{what}: a program is attached");
    Ok(())
}
