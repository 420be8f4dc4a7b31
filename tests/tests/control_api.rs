//! The control API of a real agent, called from another host: every role and every wrong certificate against every call; two persons
//! who steer a tap while traffic flows; what they look for is nowhere in clear. The programs as they are deployed.
#![allow(clippy::indexing_slicing, clippy::wildcard_enum_match_arm, reason = "helpers of a test")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tap_tests::deployment::{API_PORT, Deployment, HOST_NAME, MEASURE, Plan, Remote, rule, selected};
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Lab, MIRROR, Process, wait_until};
use tap_tests::{gwtap, need};
use tap_userspace::control::api::client::Call;
use tap_userspace::control::api::rights::{RIGHTS, Right, Role, Verb};

const PATIENCE: Duration = Duration::from_secs(20);
/// A prefix that stands in no other file of a deployment: the second set looks for it.
const CANARY: &str = "198.51.100.0/26";

fn set(source: &str, port: u16) -> Vec<Value> {
    vec![rule("beacon", source, "destination-port", port, "udp")]
}

/// The log's leaves of one kind.
fn leaves(deployment: &Deployment, kind: &str) -> Result<Vec<Value>> {
    let shown = deployment.gwtap(["audit", "show", "log", "--json"])?;
    let entries = shown.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    Ok(entries.iter().filter_map(|entry| entry.pointer(&format!("/content/act/{kind}"))).cloned().collect())
}

#[test]
fn every_role_and_every_wrong_certificate_against_every_call() {
    if need::root() && need::tool("tc").is_some() {
        matrix().unwrap();
    }
}

fn matrix() -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(Plan { sets: vec![set(FOREIGN4, 5000)], ..Plan::default() })?;
    let remote = Remote::new(&deployment)?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    let (versions, _) = remote.versions(&lab.receiving)?;
    let digest = versions["set_sha256"].as_str().context("a set")?.to_owned();
    let mut made: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for right in RIGHTS {
        let path = right.path.replace("{measure}", MEASURE);
        let path = path.replace("{set_sha256}", &digest).replace("{other_sha256}", &digest);
        let body = body_of(right);
        let call = Call { method: right.method, path: &path, etag: right.conditional.then_some("0"), body };
        for role in Role::ALL {
            let outcome = remote.outcome(&lab.receiving, role.name(), &call)?;
            let denied = outcome == "role";
            ensure!(denied != right.roles.contains(&role), "{} {role:?}: {outcome}", right.name);
            // Nothing of it was in order, but for what only reads.
            let reads = matches!(right.verb, Verb::Document | Verb::Status | Verb::List | Verb::Contents | Verb::Diff);
            let expected = match right.verb {
                _ if denied => "role",
                _ if reads => "done",
                _ if right.conditional => "stale",
                _ => "refused",
            };
            // A proposal is checked before its state is.
            let refused = matches!(right.verb, Verb::Propose | Verb::RollBack) && outcome == "refused";
            ensure!(outcome == expected || refused, "{} {role:?}: {outcome}, not {expected}", right.name);
            *made.entry((role.name().into(), right.name.into(), outcome)).or_default() += 1;
        }
        let outcome = remote.outcome(&lab.receiving, "stranger", &call)?;
        ensure!(outcome == "stranger", "{}: {outcome}", right.name);
        *made.entry((String::new(), right.name.into(), outcome)).or_default() += 1;
        for name in ["expired", "revoked", "foreign"] {
            let outcome = remote.outcome(&lab.receiving, name, &call)?;
            ensure!(outcome == "no-connection", "{name}: {}: {outcome}", right.name);
        }
        without_certificate(&lab, &deployment, right.method, &path)?;
    }
    // The only thing that changed is the log: every call is in it, as it ended.
    let status = deployment.status()?;
    ensure!(status.measures[0].lease.live && status.measures[0].selectors.generation == 1, "{status:?}");
    let mut logged: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for leaf in leaves(&deployment, "api-call")? {
        let text = |key: &str| leaf[key].as_str().unwrap_or_default().to_owned();
        *logged.entry((text("client"), text("verb"), text("outcome"))).or_default() += 1;
    }
    *made.entry(("auditor".into(), "list".into(), "done".into())).or_default() += 1;
    ensure!(made == logged, "made {made:#?}, logged {logged:#?}");
    let turned_away = leaves(&deployment, "api-turned-away")?;
    for kind in ["expired", "revoked", "wrong-authority", "no-certificate"] {
        ensure!(turned_away.iter().any(|leaf| leaf["kind"] == kind), "{kind}: {turned_away:?}");
    }
    for process in [&mut agent, &mut receiver] {
        ensure!(process.terminate(PATIENCE)?.success(), "{}", process.output());
    }
    Ok(())
}

/// A body of the right form that nothing comes of.
fn body_of(right: &Right) -> Option<Vec<u8>> {
    let body = match right.verb {
        Verb::Propose => json!({"set": "{}", "activation": "note"}),
        Verb::Stop | Verb::Resume => json!({"reason": ""}),
        _ if right.body_bytes_max > 0 => json!({"note": "note"}),
        _ => return None,
    };
    Some(body.to_string().into_bytes())
}

/// The same call by somebody who shows no certificate.
fn without_certificate(lab: &Lab, deployment: &Deployment, method: &str, path: &str) -> Result<()> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(deployment.file("tls/ca.pem"))?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let answer = lab.receiving.enter(|| -> Result<String> {
        let mut session = rustls::ClientConnection::new(Arc::new(config), HOST_NAME.try_into()?)?;
        let mut stream = TcpStream::connect((MIRROR, API_PORT))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut tls = rustls::Stream::new(&mut session, &mut stream);
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {HOST_NAME}\r\nConnection: close\r\n\r\n");
        tls.write_all(request.as_bytes())?;
        let mut answer = String::new();
        tls.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    match answer {
        Err(_refused) => Ok(()),
        Ok(answer) => bail!("answered without a certificate: {answer}"),
    }
}

#[test]
fn two_persons_steer_a_tap_from_afar_while_traffic_flows() {
    if need::root() && need::tool("tc").is_some() {
        steered().unwrap();
    }
}

fn steered() -> Result<()> {
    let lab = Lab::new()?;
    let sets = vec![set("198.51.100.0/24", 5001), set(CANARY, 5000)];
    let deployment = Deployment::new(Plan { sets, ..Plan::default() })?;
    let remote = Remote::new(&deployment)?;
    // The first set is on the host's disk, too.
    let seal = |set: &str, to: &str, out: &str| deployment.gwtap(["selectors", "seal", set, "--to", to, "--out", out]);
    let host = format!("keys/{HOST_NAME}.seal.pub");
    seal("selectors-1.json", &host, "first.sealed")?;
    seal("selectors-2.json", &host, "second.sealed")?;
    seal("selectors-2.json", "keys/facility.seal.pub", "foreign.sealed")?;
    let configuration = std::fs::read_to_string(deployment.file("gwtap.toml"))?;
    ensure!(configuration.contains("set_file = \"selectors-1.json\""));
    let configuration = configuration.replace("set_file = \"selectors-1.json\"", "set_file = \"first.sealed\"");
    std::fs::write(deployment.file("gwtap.toml"), configuration)?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    lab.start_mirror()?;
    let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
    let from = (&lab.foreign, FOREIGN4.parse()?);
    let load = UdpLoad::start(from, 0, 16, (&lab.domestic, to), b"beacon", Rate::new(200_000))?;
    let now = || deployment.status().map(|status| selected(&status));
    let at = &lab.receiving;
    let refused = |who: &str, words: &[&str], why: &str| -> Result<()> {
        let said = remote.run(at, who, words).err().with_context(|| format!("{who} {words:?} was done"))?.to_string();
        ensure!(said.contains(why), "{who} {words:?}: {said}");
        Ok(())
    };

    // The author signs and proposes; alone that is nothing.
    let sign = |set: &str, number: &str, key: &str, out: &str| {
        let key = format!("keys/{key}.key");
        let words = ["selectors", "activate", set, "--order", "order.note", "--number", number, "--key", &key];
        deployment.gwtap(words.into_iter().chain(["--out", out])).map(drop)
    };
    let propose = ["propose", "--set", "selectors-2.json", "--activation"];
    let proposing = |note: &'static str| [&propose[..], &[note]].concat();
    sign("selectors-2.json", "3", "author", "third.note")?;
    refused("selector-author", &proposing("third.note"), "not the next one, 2")?;
    sign("selectors-2.json", "2", "ministry", "ministry.note")?;
    refused("selector-author", &proposing("ministry.note"), "selector-author")?;
    sign("selectors-1.json", "2", "author", "other.note")?;
    refused("selector-author", &proposing("other.note"), "set_sha256")?;
    sign("selectors-2.json", "2", "author", "second.note")?;
    refused("approver", &proposing("second.note"), "role")?;
    let sealed = |set: &'static str| ["propose", "--set", set, "--activation", "second.note"];
    refused("selector-author", &sealed("foreign.sealed"), "not sealed to this host")?;
    let said = remote.run(at, "selector-author", &sealed("second.sealed"))?;
    ensure!(said.contains("waits for the approver"), "{said}");
    let activate = ["activate", "--measure", MEASURE, "--number", "2"];
    refused("selector-author", &activate, "the approver has not signed")?;
    // Nor with the author's key by the approver's hand, nor by a person who has not read this set.
    let approve = ["approve", "--measure", MEASURE, "--set", "selectors-2.json", "--key"];
    refused("approver", &[&approve[..], &["keys/author.key"]].concat(), "")?;
    let other = ["approve", "--measure", MEASURE, "--set", "selectors-1.json", "--key", "keys/approver.key"];
    refused("approver", &other, "is not what is proposed")?;
    refused("selector-author", &[&approve[..], &["keys/approver.key"]].concat(), "role")?;

    // The approver reads what is proposed, and only that role does.
    refused("auditor", &["contents", "--measure", MEASURE, "--out", "seen.json"], "role")?;
    remote.run(at, "approver", &["contents", "--measure", MEASURE, "--out", "seen.json"])?;
    ensure!(std::fs::read(deployment.file("seen.json"))? == std::fs::read(deployment.file("selectors-2.json"))?);
    let (_, before) = remote.versions(at)?;
    let approve = ["approve", "--measure", MEASURE, "--set", "seen.json", "--key", "keys/approver.key"];
    let said = remote.run(at, "approver", &approve)?;
    ensure!(said.contains("approved"), "{said}");
    // Who has seen the state before the approval decides about another state.
    let path = format!("/v1/measures/{MEASURE}/proposal/activation");
    let stale = Call { method: "POST", path: &path, etag: Some(&before), body: None };
    ensure!(remote.outcome(at, "approver", &stale)? == "stale");
    ensure!(now()? == 0, "selected before the activation");
    let asked = Instant::now();
    let said = remote.run(at, "approver", &activate)?;
    println!("activated from afar after {:?}: {}", asked.elapsed(), said.trim());
    wait_until("selected packets", PATIENCE, || now().is_ok_and(|count| count > 0))?;
    // Done once: nothing is proposed any more, and the number is used.
    refused("approver", &activate, "is not proposed")?;
    refused("selector-author", &proposing("second.note"), "not the next one, 3")?;

    // It stays so across a kill; so does a proposal.
    sign("selectors-1.json", "3", "author", "back.note")?;
    let diff = remote.run(
        at,
        "auditor",
        &["diff", "--measure", MEASURE, &digest(&deployment, 1)?, &digest(&deployment, 2)?],
    )?;
    ensure!(diff.starts_with("1 added, 1 removed, 0 kept"), "{diff}");
    let back = ["rollback", "--measure", MEASURE, "--to", &digest(&deployment, 1)?, "--order", "order.note"];
    remote.run(at, "selector-author", &[&back[..], &["--key", "keys/author.key"]].concat())?;
    agent.kill()?;
    let mut agent = again(&deployment, &lab)?;
    let (state, _) = remote.versions(at)?;
    ensure!(state["number"] == 2 && state["proposal"]["number"] == 3, "{state}");
    let approve = ["approve", "--measure", MEASURE, "--set", "selectors-1.json", "--key", "keys/approver.key"];
    remote.run(at, "approver", &approve)?;
    nowhere_in_clear(&deployment, &remote, &lab)?;
    remote.run(at, "selector-author", &["activate", "--measure", MEASURE, "--number", "3"])?;
    let after = now()?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(now()? == after, "the set before decides after the roll-back");

    // A proposal is taken back; the carrier stops and resumes; a withdrawal leaves no set.
    sign("selectors-2.json", "4", "author", "fourth.note")?;
    remote.run(at, "selector-author", &proposing("fourth.note"))?;
    remote.run(at, "approver", &["discard", "--measure", MEASURE])?;
    refused("approver", &["discard", "--measure", MEASURE], "nothing is proposed")?;
    remote.run(at, "operator", &["stop", "--reason", "ticket 4711"])?;
    ensure!(!deployment.status()?.measures[0].lease.live, "it has a lease after the kill switch");
    remote.run(at, "operator", &["resume", "--reason", "ticket 4711 is closed"])?;
    wait_until("a lease", PATIENCE, || deployment.status().is_ok_and(|status| status.measures[0].lease.live))?;
    let words = ["selectors", "withdraw", "--order", "order.note", "--number", "4", "--key", "keys/approver.key"];
    deployment.gwtap(words.into_iter().chain(["--out", "withdrawal.note"]))?;
    let withdraw = ["withdraw", "--measure", MEASURE, "--note", "withdrawal.note"];
    refused("operator", &withdraw, "role")?;
    remote.run(at, "approver", &withdraw)?;
    let (state, _) = remote.versions(at)?;
    ensure!(state["number"] == 4 && state["set_sha256"].is_null() && state["kept"] == json!([]), "{state}");
    let sealed = std::fs::read_dir(deployment.file(&format!("state/measure-{MEASURE}/versions")))?;
    ensure!(sealed.count() == 1, "a set is kept after the withdrawal");

    load.stop()?;
    for process in [&mut agent, &mut receiver] {
        ensure!(process.terminate(PATIENCE)?.success(), "{}", process.output());
    }
    let logged: Vec<Value> = leaves(&deployment, "activation")?;
    ensure!(logged.len() == 4, "{logged:?}");
    // An inspector sees who consented, whichever way it came.
    let elsewhere = tempfile::tempdir()?;
    deployment.public_keys(&elsewhere.path().join("public"))?;
    deployment.bundle(&elsewhere.path().join("bundle.tar"), &[])?;
    let said = gwtap::run(elsewhere.path(), ["inspect", "verify", "bundle.tar", "--keys", "public", "--json"])?;
    let said: Value = serde_json::from_str(&said)?;
    let activations = said["measures"][0]["activations"].as_array().with_context(|| format!("{said:#}"))?;
    let numbers: Vec<_> = activations.iter().map(|activation| activation["number"].as_u64()).collect();
    ensure!(numbers == [Some(1), Some(2), Some(3)], "{activations:?}");
    Ok(())
}

fn again(deployment: &Deployment, lab: &Lab) -> Result<Process> {
    let mut command = lab.mirror.command(gwtap::binary()?);
    command.args(["run", "--config"]).arg(deployment.file("gwtap.toml"));
    let mut agent = Process::start("gwtap run", command, &deployment.file("again.log"))?;
    agent.wait_until("an answer", PATIENCE, || deployment.status().is_ok())?;
    Ok(agent)
}

fn digest(deployment: &Deployment, version: usize) -> Result<String> {
    let [set, _] = deployment.set(version);
    Ok(hex::encode(tap_userspace::keys::sha256(&std::fs::read(set)?)))
}

/// What the second set looks for stands in no file that the tap writes, and in no answer but the team's.
fn nowhere_in_clear(deployment: &Deployment, remote: &Remote<'_>, lab: &Lab) -> Result<()> {
    let canary = CANARY.as_bytes();
    let has = |bytes: &[u8]| bytes.windows(canary.len()).any(|window| window == canary);
    // The search finds what is there.
    ensure!(has(&std::fs::read(deployment.file("selectors-2.json"))?));
    let mut folders = vec![deployment.file("state"), deployment.file("log")];
    let mut files = vec![deployment.file("agent.log"), deployment.file("again.log")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    ensure!(files.iter().any(|file| file.extension().is_some_and(|extension| extension == "sealed")), "{files:?}");
    for file in files {
        ensure!(!has(&std::fs::read(&file)?), "{} has a selector in clear", file.display());
    }
    ensure!(!has(deployment.metrics(&lab.mirror)?.as_bytes()), "the metrics page has a selector");
    for role in ["operator", "auditor"] {
        for words in [&["status", "--json"][..], &["list", "--measure", MEASURE, "--json"]] {
            let said = remote.run(&lab.receiving, role, words)?;
            ensure!(!has(said.as_bytes()), "{role} {words:?}: {said}");
        }
    }
    Ok(())
}

#[test]
fn a_fuzzer_that_knows_the_document_finds_no_failure() {
    if !need::root() || need::tool("tc").is_none() {
        return;
    }
    if let Some(schemathesis) = need::tool("schemathesis") {
        fuzzed(&schemathesis).unwrap();
    }
}

/// What it sends as an example of a set, from the document.
const EXAMPLE: &str = "203.0.113.9";

/// One fuzzer for each role at once, each at its client's rate.
fn fuzzed(schemathesis: &std::path::Path) -> Result<()> {
    const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
        response_headers_conformance,response_schema_conformance,negative_data_rejection,unsupported_method,\
        allow_header_conformance";
    let seconds = if need::long() { "600" } else { "20" };
    let lab = Lab::new()?;
    let deployment = Deployment::new(Plan { sets: vec![set(FOREIGN4, 5000)], ..Plan::default() })?;
    let _remote = Remote::new(&deployment)?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    // It does not know that 413 refuses, too.
    let refusals = "expected-statuses = [\"4XX\"]\n";
    std::fs::write(deployment.file("schemathesis.toml"), format!("[checks.negative_data_rejection]\n{refusals}"))?;
    std::fs::write(deployment.file("openapi.json"), tap_userspace::control::api::DOCUMENT)?;
    ensure!(tap_userspace::control::api::DOCUMENT.contains(EXAMPLE));
    let mut fuzzers = Vec::new();
    for role in Role::ALL.map(Role::name) {
        let mut command = lab.receiving.command(schemathesis);
        command.current_dir(deployment.path()).args(["run", "openapi.json", "--checks", CHECKS]);
        command.args(["--url", &format!("https://{MIRROR}:{API_PORT}"), "--tls-verify", "false"]);
        command.args(["--request-cert", &format!("tls/{role}.pem"), "--request-cert-key", &format!("tls/{role}.key")]);
        command.args(["--rate-limit", "5/s", "--request-timeout", "10", "--max-time", seconds, "--no-color"]);
        command.args(["--warnings", "off"]);
        let log = deployment.file(&format!("schemathesis-{role}.log"));
        fuzzers.push((role, Process::start("schemathesis", command, &log)?));
    }
    for (role, fuzzer) in &mut fuzzers {
        let ended = fuzzer.wait(Duration::from_secs(seconds.parse::<u64>()? + 60))?;
        ensure!(ended.success(), "{role}: {}", fuzzer.output());
        let said = fuzzer.output();
        println!("{role}: {}", said.lines().rev().find(|line| line.contains("generated")).unwrap_or("no count"));
    }
    // It goes on, and the log has what became of every call: no failure among it, and nothing that was sent.
    ensure!(deployment.status()?.measures[0].selectors.generation == 1);
    let calls = leaves(&deployment, "api-call")?;
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    calls.iter().for_each(|leaf| *outcomes.entry(leaf["outcome"].as_str().unwrap_or_default()).or_default() += 1);
    println!("{outcomes:?}");
    ensure!(
        calls.len() > 200 && !outcomes.contains_key("failed") && !outcomes.contains_key("unlogged"),
        "{outcomes:?}"
    );
    ensure!(outcomes.contains_key("refused") && outcomes.contains_key("malformed"), "{outcomes:?}");
    let said = deployment.gwtap(["audit", "show", "log"])? + &std::fs::read_to_string(deployment.file("agent.log"))?;
    ensure!(!said.contains(EXAMPLE), "a log has what was sent");
    for process in [&mut agent, &mut receiver] {
        ensure!(process.terminate(PATIENCE)?.success(), "{}", process.output());
    }
    Ok(())
}
