//! The inspection bundle of a real agent: made by its own verb, verified elsewhere with public keys alone, opened with
//! ordinary tools; what is removed, added or altered is named.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use tap_tests::deployment::{Deployment, LOG_NAME, MEASURE, Plan, rule};
use tap_tests::lab::Lab;
use tap_tests::{gwtap, need};
use tap_userspace::directive::{Directive, Kind};
use tap_userspace::inspect::container;
use tap_userspace::keys::note::{self, SecretKey};
use tap_userspace::order;

/// How long things may take that take a moment.
const PATIENCE: Duration = Duration::from_secs(15);

fn plan() -> Plan {
    let set = |port: u16| vec![rule("beacon", "198.51.100.0/24", "destination-port", port, "udp")];
    Plan { sets: vec![set(5000), set(5001)], ..Plan::default() }
}

#[test]
fn the_bundle_of_a_run_is_verified_elsewhere_with_public_keys_alone() {
    if need::root() && need::tool("tc").is_some() {
        run().unwrap();
    }
}

fn run() -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(plan())?;
    deployment.gwtap(["keygen", "witness", "--name", "witness", "--out", "keys"])?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    deployment.load(2)?;
    lower_share(&deployment)?;
    deployment.gwtap(["stop", "--reason", "works on the line", "--config", "gwtap.toml"])?;
    deployment.gwtap(["resume", "--reason", "works are over", "--config", "gwtap.toml"])?;
    let elsewhere = tempfile::tempdir()?;
    deployment.public_keys(&elsewhere.path().join("public"))?;
    // While it runs, and again after a kill: what an inspector saw first is the beginning of what he sees later.
    bundle(&deployment, elsewhere.path(), "first.tar", &[])?;
    agent.kill()?;
    witness(&deployment)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    ensure!(receiver.terminate(PATIENCE)?.success(), "{}", receiver.output());
    let more = ["--cosigned", "cosigned", "--set", "selectors-2.json"];
    bundle(&deployment, elsewhere.path(), "second.tar", &more)?;
    bundle(&deployment, elsewhere.path(), "again.tar", &more)?;
    let read = |name: &str| std::fs::read(elsewhere.path().join(name));
    ensure!(read("second.tar")? == read("again.tar")?, "the same input made other bytes");

    let words = ["inspect", "verify", "second.tar", "--keys", "public", "--earlier", "first.tar"];
    let said: Value = serde_json::from_str(&gwtap::run(elsewhere.path(), words.into_iter().chain(["--json"]))?)?;
    shows(&said)?;
    let text = gwtap::run(elsewhere.path(), words)?;
    for words in ["THE BUNDLE HOLDS", "ministry (government)", "approver (selector-approver)", "works on the line"] {
        ensure!(text.contains(words), "{words} is not in\n{text}");
    }
    // Without the set there is nothing of it; an order's approved facilities are the order's.
    ensure!(!text.contains("198.51.100"), "{text}");
    ensure!(!String::from_utf8_lossy(&read("first.tar")?).contains("beacon"));
    ensure!(String::from_utf8_lossy(&read("second.tar")?).contains("beacon"));
    refused(elsewhere.path())?;
    ordinary_tools(elsewhere.path())
}

/// What the report says of the run.
fn shows(said: &Value) -> Result<()> {
    let at = |path: &str| said.pointer(path).with_context(|| format!("{path} in {said:#}"));
    ensure!(*at("/good")? == Value::Bool(true));
    ensure!(at("/measures/0/measure")? == MEASURE);
    ensure!(at("/measures/0/activations")?.as_array().is_some_and(|it| it.len() == 2), "{said:#}");
    ensure!(at("/measures/0/activations/1/set_in_bundle")? == &Value::Bool(true));
    ensure!(at("/measures/0/activations/0/set_in_bundle")? == &Value::Bool(false));
    ensure!(at("/measures/0/directives/0/number")? == 1);
    let after_ms = at("/measures/0/directives/0/after_ms")?.as_i64().context("a number")?;
    ensure!((0..5_000).contains(&after_ms), "a directive was in force after {after_ms} ms");
    ensure!(at("/measures/0/switches")?.as_array().is_some_and(|it| it.len() == 2), "{said:#}");
    ensure!(at("/log/witnessed/0/by")? == "witness");
    ensure!(at("/log/continues/0")?.as_u64().is_some_and(|size| size > 0));
    ensure!(at("/machines")?.as_array().is_some_and(|it| it.len() <= 1), "{said:#}");
    // The killed agent left no statement; the one that ended in order did, for the measure and the facility.
    ensure!(at("/statements")?.as_array().is_some_and(|it| it.len() == 2), "{said:#}");
    ensure!(at("/statements/0/exceeding")? == 0);
    ensure!(at("/programs")?.as_array().is_some_and(|it| it.len() >= 3), "{said:#}");
    Ok(())
}

fn bundle(deployment: &Deployment, elsewhere: &Path, name: &str, more: &[&str]) -> Result<()> {
    let to = elsewhere.join(name);
    deployment.bundle(&to, more)?;
    let again = deployment.bundle(&to, more).err().context("a file was replaced")?.to_string();
    ensure!(again.contains("exists"), "{again}");
    Ok(())
}

fn witness(deployment: &Deployment) -> Result<()> {
    let key = format!("keys/{LOG_NAME}.pub");
    deployment.gwtap(["audit", "prove", "log", "--old", "0", "--out", "request"])?;
    let words = ["audit", "witness", "request", "--log-key", &key, "--key", "keys/witness.key", "--state", "witnessed"];
    deployment.gwtap(words.into_iter().chain(["--out", "cosigned"]))?;
    Ok(())
}

fn lower_share(deployment: &Deployment) -> Result<()> {
    let order = order::parse_unsigned(&std::fs::read_to_string(deployment.file("order.note"))?)?;
    let directive = Directive {
        measure: MEASURE.to_owned(),
        order_sha256: order.sha256,
        number: 1,
        kind: Kind::LowerShare(100_000),
        reason: "laboratory".to_owned(),
        issued: Timestamp::now(),
    };
    let key = SecretKey::from_file(&deployment.file("keys/commission.key"))?;
    std::fs::write(deployment.file("directive.note"), note::sign(&directive.text(), &key)?)?;
    deployment.gwtap(["directive", "send", "directive.note", "--config", "gwtap.toml"])?;
    Ok(())
}

/// An entry that is removed, added or altered ends the verb with 3 and is named.
fn refused(elsewhere: &Path) -> Result<()> {
    let whole = container::read(&std::fs::read(elsewhere.join("second.tar"))?).map_err(anyhow::Error::msg)?;
    let name = whole.keys().find(|name| name.starts_with("statements/")).context("a statement")?.clone();
    for what in ["removed", "added", "altered"] {
        let mut files = whole.clone();
        match what {
            "removed" => drop(files.remove(&name)),
            "added" => drop(files.insert("statements/measure-m-1/00000009.note".to_owned(), b"x".to_vec())),
            _ => files.entry(name.clone()).or_default().push(b' '),
        }
        std::fs::write(elsewhere.join("forged.tar"), container::write(&files)?)?;
        let outcome = gwtap::outcome(elsewhere, ["inspect", "verify", "forged.tar", "--keys", "public"])?;
        ensure!(outcome.code == Some(3), "{what}: {outcome:?}");
        ensure!(
            outcome.stdout.contains("THE BUNDLE DOES NOT HOLD") && outcome.stderr.contains(what),
            "{what}: {outcome:?}"
        );
        ensure!(outcome.stderr.contains("statements/measure-m-1/") || outcome.stderr.contains(&name), "{outcome:?}");
    }
    // The older one, given for the newer: entries are gone.
    let words = ["inspect", "verify", "first.tar", "--keys", "public", "--earlier", "second.tar"];
    let outcome = gwtap::outcome(elsewhere, words)?;
    ensure!(outcome.code == Some(3) && outcome.stderr.contains("set back"), "{outcome:?}");
    Ok(())
}

/// tar opens it, sha256sum checks it, and the log in it is a log.
fn ordinary_tools(elsewhere: &Path) -> Result<()> {
    let run = |program: &str, words: &[&str]| -> Result<()> {
        let mut command = Command::new(program);
        let outcome = gwtap::of(command.args(words).current_dir(elsewhere.join("open")))?;
        ensure!(outcome.code == Some(0), "{program}: {outcome:?}");
        Ok(())
    };
    std::fs::create_dir(elsewhere.join("open"))?;
    if need::tool("tar").is_some() && need::tool("sha256sum").is_some() {
        run("tar", &["--extract", "--file", "../second.tar"])?;
        run("sha256sum", &["--check", "--quiet", "SHA256SUMS"])?;
        gwtap::run(&elsewhere.join("open"), ["audit", "verify", "log", "--key", "keys/log.pub"])?;
    }
    Ok(())
}
