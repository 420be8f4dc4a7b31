//! The audit log of a real agent: what it says, that others can check it, that no kill loses what was acknowledged, and that
//! nothing happens that could not be written down.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tap_tests::deployment::{Deployment, LOG_NAME, Plan, rule};
use tap_tests::lab::{Host, Lab, MIRROR_PORT, Process};
use tap_tests::random::Random;
use tap_tests::{gwtap, need};

/// How long things may take that take a moment.
const PATIENCE: Duration = Duration::from_secs(15);
/// Kills of an agent or its loader while acts happen; a long run has [`KILLS_LONG`].
const KILLS: usize = 20;
const KILLS_LONG: usize = 500;
/// Latest moment of a kill after the start: an agent is up and has loaded a set by then.
const KILL_AFTER_MAX_MS: u64 = 1_500;

fn plan(sets: u16) -> Plan {
    let set = |version: u16| vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000 + version, "udp")];
    Plan { sets: (0..sets).map(set).collect(), ..Plan::default() }
}

/// Verifies the log; how many entries it has.
fn verify(deployment: &Deployment) -> Result<u64> {
    let key = format!("keys/{LOG_NAME}.pub");
    let said = deployment.gwtap(["audit", "verify", "log", "--key", &key, "--json"])?;
    let said: Value = serde_json::from_str(&said).context(said)?;
    said.get("entries").and_then(Value::as_u64).with_context(|| said.to_string())
}

/// The log's entries: act and fields.
fn acts(deployment: &Deployment) -> Result<Vec<(String, Value)>> {
    let said = deployment.gwtap(["audit", "show", "log", "--json"])?;
    let act = |line: &str| {
        let entry: Value = serde_json::from_str(line)?;
        let act = entry.pointer("/content/act").context("an act")?;
        if let Some(name) = act.as_str() {
            return Ok((name.to_owned(), Value::Null));
        }
        let (name, fields) = act.as_object().and_then(|act| act.iter().next()).context("an act's name")?;
        Ok((name.clone(), fields.clone()))
    };
    said.lines().map(act).collect()
}

#[test]
fn the_log_of_a_run_has_every_act_and_a_third_party_checks_it() {
    if need::root() && need::tool("tc").is_some() {
        run().unwrap();
    }
}

fn run() -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(plan(2))?;
    deployment.gwtap(["keygen", "witness", "--name", "witness", "--out", "keys"])?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    let key = format!("keys/{LOG_NAME}.pub");
    // While it runs: verified, and cosigned from the first head on.
    ensure!(verify(&deployment)? > 0);
    deployment.gwtap(["audit", "prove", "log", "--old", "0", "--out", "request"])?;
    let words = ["audit", "witness", "request", "--log-key", &key, "--key", "keys/witness.key", "--state", "witnessed"];
    deployment.gwtap(words.into_iter().chain(["--out", "cosigned"]))?;
    deployment.load(2)?;
    let refused = deployment.load(1).err().context("a number that was used is refused")?.to_string();
    ensure!(refused.contains("is not the next one"), "{refused}");
    let page = deployment.metrics(&lab.mirror)?;
    ensure!(page.contains("\ngwtap_log_entries ") && page.contains("\ngwtap_log_failed_total 0\n"), "{page}");
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    ensure!(receiver.terminate(PATIENCE)?.success(), "{}", receiver.output());

    let acts = acts(&deployment)?;
    let names: Vec<&str> = acts.iter().map(|(name, _)| name.as_str()).collect();
    let expected =
        ["start", "order-loaded", "key-epoch", "activation", "swap", "program", "lease-given", "export-opened"];
    for name in expected.iter().chain(&["activation-refused", "export-closed", "stop"]) {
        ensure!(names.contains(name), "{name} is missing: {names:?}");
    }
    ensure!(names.iter().filter(|name| **name == "activation").count() == 2, "{names:?}");
    let place = |name: &str| names.iter().position(|other| *other == name);
    ensure!(place("order-loaded") < place("activation") && place("activation") < place("swap"), "{names:?}");
    // Digests and numbers: what a rule looks for is nowhere.
    let log = deployment.gwtap(["audit", "show", "log"])?;
    ensure!(!log.contains("198.51.100") && !log.contains("beacon"), "{log}");

    // A third party: the key, the proof, nothing else.
    let number = place("stop").context("stop")?.to_string();
    let elsewhere = tempfile::tempdir()?;
    let proof = deployment.gwtap(["audit", "prove", "log", "--entry", &number])?;
    std::fs::write(elsewhere.path().join("proof"), &proof)?;
    std::fs::copy(deployment.file(&key), elsewhere.path().join("log.pub"))?;
    let said = gwtap::run(elsewhere.path(), ["audit", "verify", "--proof", "proof", "--key", "log.pub"])?;
    ensure!(said.contains("SIGTERM"), "{said}");
    std::fs::write(elsewhere.path().join("proof"), proof.replacen("index ", "index 1", 1))?;
    let refused = gwtap::run(elsewhere.path(), ["audit", "verify", "--proof", "proof", "--key", "log.pub"]);
    ensure!(refused.is_err_and(|error| error.to_string().contains("exit code Some(3)")));

    // The log continues what the witness saw; one altered byte and it is no log.
    let words = ["audit", "verify", "log", "--key", &key, "--old", "cosigned", "--witness", "keys/witness.pub"];
    let said = deployment.gwtap(words)?;
    ensure!(said.contains("cosigned by witness at "), "{said}");
    let bundle = std::fs::read_dir(deployment.file("log/tile/entries/000.p"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u16>().ok())
        .max()
        .context("a bundle")?;
    let bundle = deployment.file(&format!("log/tile/entries/000.p/{bundle}"));
    let text = std::fs::read(&bundle)?;
    let mut altered = text.clone();
    let place = altered.windows(7).position(|window| window == b"SIGTERM").context("the reason")?;
    altered.get_mut(place).into_iter().for_each(|byte| *byte ^= 1);
    std::fs::write(&bundle, altered)?;
    let refused = verify(&deployment).err().context("an altered log was verified")?.to_string();
    ensure!(refused.contains(&format!("entry {number} was altered")), "{refused}");
    Ok(())
}

#[test]
fn an_agent_or_loader_killed_at_any_moment_leaves_a_log_that_verifies_and_has_every_acknowledged_act() {
    if need::root() && need::tool("tc").is_some() {
        killed().unwrap();
    }
}

fn killed() -> Result<()> {
    let kills = if need::long() { KILLS_LONG } else { KILLS };
    let mut random = Random::printed("kills of an agent");
    let host = lab_host()?;
    let deployment = Deployment::new(plan(4))?;
    let (mut acknowledged, mut entries, mut loaded, mut loaders) = (0_u64, 0, 1, 0);
    for kill in 0..kills {
        let after = Duration::from_millis(random.below(0..KILL_AFTER_MAX_MS));
        let until = Instant::now() + after;
        let mut agent = start(&deployment, &host)?;
        // Loads as soon as there is somebody who takes them; each that is answered is acknowledged.
        while Instant::now() < until {
            if loaded < 4 && deployment.load(loaded + 1).is_ok() {
                loaded += 1;
                acknowledged = activations(&deployment)?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Seldom: an agent without its loader takes seconds to end, because it delivers what it can.
        if random.below(0..8) == 0 && kill_loader(&agent)? {
            loaders += 1;
            let ended = agent.wait(PATIENCE)?;
            ensure!(!ended.success(), "kill {kill}: the agent went on without its loader: {ended:?}");
        } else {
            agent.kill()?;
        }
        let now = verify(&deployment).with_context(|| format!("kill {kill} after {after:?}"))?;
        ensure!(now >= entries, "kill {kill}: {now} entries, {entries} before");
        ensure!(activations(&deployment)? >= acknowledged, "kill {kill}: an acknowledged activation is gone");
        entries = now;
    }
    // The successor goes on where the last one was killed, and numbers nothing twice.
    let mut agent = deployment.start_agent(&host)?;
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    ensure!(verify(&deployment)? > entries);
    ensure!(acts(&deployment)?.last().is_some_and(|(name, _)| name == "stop"));
    println!(
        "{kills} kills, {loaders} of them of the loader, {entries} entries, {acknowledged} activations acknowledged"
    );
    Ok(())
}

/// Whether there was one to kill.
fn kill_loader(agent: &Process) -> Result<bool> {
    let pid = agent.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let Some(loader) = children.split_whitespace().next() else { return Ok(false) };
    kill(Pid::from_raw(loader.parse()?), Signal::SIGKILL)?;
    Ok(true)
}

fn activations(deployment: &Deployment) -> Result<u64> {
    Ok(acts(deployment)?.iter().filter(|(name, _)| name == "activation").count() as u64)
}

/// A host with a mirror port that nothing comes in on.
fn lab_host() -> Result<Host> {
    let host = Host::with_bpf("audit")?;
    host.run("ip", ["link", "add", MIRROR_PORT, "type", "veth", "peer", "name", "other0"])?;
    host.run("ip", ["link", "set", MIRROR_PORT, "up"])?;
    host.run("ip", ["link", "set", "other0", "up"])?;
    Ok(host)
}

/// Starts an agent without waiting for it.
fn start(deployment: &Deployment, host: &Host) -> Result<Process> {
    let mut command: Command = host.command(gwtap::binary()?);
    command.args(["run", "--config"]).arg(deployment.file("gwtap.toml"));
    Process::start("gwtap run", command, &deployment.file("agent.log"))
}

#[test]
fn without_a_log_that_can_be_written_nothing_starts_and_no_set_is_loaded() {
    if need::root() && need::tool("tc").is_some() {
        unwritable().unwrap();
    }
}

fn unwritable() -> Result<()> {
    let host = lab_host()?;
    let deployment = Deployment::new(plan(2))?;
    let mut agent = deployment.start_agent(&host)?;
    // A file system without room, as far as the checkpoint is concerned; what is running keeps running.
    let obstacle = deployment.file("log/checkpoint.new");
    std::fs::create_dir(&obstacle)?;
    let entries = verify(&deployment)?;
    let refused = deployment.load(2).err().context("a set was loaded that no log tells of")?.to_string();
    ensure!(refused.contains("the audit log cannot be written, so this does not happen"), "{refused}");
    ensure!(deployment.status()?.measures.iter().all(|measure| measure.selectors.generation == 1));
    ensure!(verify(&deployment)? == entries, "a refused act is in the log");
    std::fs::remove_dir(&obstacle)?;
    deployment.load(2)?;
    agent.kill()?;

    std::fs::create_dir(&obstacle)?;
    refuses_to_start(&deployment, &host, "log")?;
    std::fs::remove_dir(&obstacle)?;
    std::fs::rename(deployment.file("log/checkpoint"), deployment.file("kept"))?;
    refuses_to_start(&deployment, &host, "is missing although there are tiles")?;
    std::fs::rename(deployment.file("kept"), deployment.file("log/checkpoint"))?;
    let mut agent = deployment.start_agent(&host)?;
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    Ok(())
}

#[test]
fn a_log_that_was_set_back_whole_is_refused_by_its_own_host() {
    if need::root() && need::tool("tc").is_some() {
        set_back().unwrap();
    }
}

fn set_back() -> Result<()> {
    let host = lab_host()?;
    let deployment = Deployment::new(plan(2))?;
    let mut agent = deployment.start_agent(&host)?;
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    let [log, old, latest] = ["log", "old", "latest"].map(|name| deployment.file(name));
    let copy = |from: &Path, to: &Path| gwtap::of(Command::new("cp").arg("-a").arg(from).arg(to)).map(drop);
    copy(&log, &old)?;
    let mut agent = deployment.start_agent(&host)?;
    deployment.load(2)?;
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    let entries = verify(&deployment)?;

    // An older copy verifies by itself; this host has seen more. So it is with none at all.
    std::fs::rename(&log, &latest)?;
    copy(&old, &log)?;
    ensure!(verify(&deployment)? < entries);
    refuses_to_start(&deployment, &host, "and this host has seen")?;
    std::fs::remove_dir_all(&log)?;
    refuses_to_start(&deployment, &host, "the log has 0 entries, and this host has seen")?;
    std::fs::remove_dir_all(&log)?;
    std::fs::rename(&latest, &log)?;
    ensure!(verify(&deployment)? == entries, "a refused start writes nothing");
    let mut agent = deployment.start_agent(&host)?;
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    Ok(())
}

fn refuses_to_start(deployment: &Deployment, host: &Host, words: &str) -> Result<()> {
    let log = deployment.file("refused.log");
    remove(&log)?;
    let mut command = host.command(gwtap::binary()?);
    command.args(["run", "--config"]).arg(deployment.file("gwtap.toml"));
    let mut process = Process::start("gwtap run", command, &log)?;
    let ended = process.wait(PATIENCE)?;
    ensure!(ended.code() == Some(3) && process.output().contains(words), "{ended}: {}", process.output());
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}
