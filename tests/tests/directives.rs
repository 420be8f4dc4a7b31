//! Directives of the Commission, the carrier's kill switch and extensions of an order, as a running agent takes them: what
//! they take away is gone from the kernel within a second, and stays away across restarts.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use tap_tests::deployment::{Deployment, MEASURE, MeasurePlan, Plan, rule, selected};
use tap_tests::gwtap;
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Lab, Process, wait_until};
use tap_tests::need;
use tap_userspace::control::status::{MeasureStatus, Status};
use tap_userspace::control::{Request, Response, client};
use tap_userspace::directive::{Directive, Kind};
use tap_userspace::keys::note::{self, SecretKey};
use tap_userspace::order;

/// How long things may take that take a moment.
const PATIENCE: Duration = Duration::from_secs(20);
/// From the signature to the kernel's refusal, for 99 of 100.
const LATENCY_MAX: Duration = Duration::from_secs(1);

fn able() -> bool {
    need::root() && need::tool("tc").is_some()
}

fn plan() -> Plan {
    Plan { sets: vec![vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")]], ..Plan::default() }
}

fn beacons(lab: &Lab, bits_per_second: u64) -> Result<UdpLoad> {
    let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
    UdpLoad::start((&lab.foreign, FOREIGN4.parse()?), 0, 4, (&lab.domestic, to), b"beacon", Rate::new(bits_per_second))
}

fn selects(deployment: &Deployment, more: u64) -> Result<()> {
    let before = selected(&deployment.status()?);
    let grown = || deployment.status().is_ok_and(|now| selected(&now) >= before + more);
    wait_until("selected packets", PATIENCE, grown).with_context(|| format!("{:?}", deployment.status()))
}

fn measure(deployment: &Deployment) -> Result<MeasureStatus> {
    deployment.status()?.measures.into_iter().next().context("a measure")
}

fn key(deployment: &Deployment, name: &str) -> Result<SecretKey> {
    Ok(SecretKey::from_file(&deployment.file(&format!("keys/{name}.key")))?)
}

/// A directive about the deployment's order, signed with the key of `signer`.
fn directive(deployment: &Deployment, signer: &SecretKey, number: u64, kind: Kind) -> Result<String> {
    let order = order::parse_unsigned(&std::fs::read_to_string(deployment.file("order.note"))?)?;
    let directive = Directive {
        measure: MEASURE.to_owned(),
        order_sha256: order.sha256,
        number,
        kind,
        reason: "laboratory".to_owned(),
        issued: Timestamp::now(),
    };
    Ok(note::sign(&directive.text(), signer)?)
}

/// What the agent answers: `Ok` when it is done, else the refusal's words.
fn ask(deployment: &Deployment, request: &Request) -> Result<Result<Vec<String>, String>> {
    match client::ask(&deployment.file("control.sock"), request)? {
        Response::Done { done } => Ok(Ok(done)),
        Response::Refused { reason } => Ok(Err(reason)),
        other @ (Response::Status(_) | Response::Loaded(_) | Response::Failed { .. }) => bail!("{other:?}"),
    }
}

fn send(deployment: &Deployment, note: &str) -> Result<Result<Vec<String>, String>> {
    ask(deployment, &Request::Directive { note: note.to_owned() })
}

fn must(answer: Result<Vec<String>, String>) -> Result<()> {
    answer.map(drop).map_err(anyhow::Error::msg)
}

fn must_refuse(answer: Result<Vec<String>, String>, says: &str) -> Result<()> {
    match answer {
        Ok(done) => bail!("taken, although {says}: {done:?}"),
        Err(reason) => {
            ensure!(reason.contains(says), "should say {says}: {reason}");
            Ok(())
        }
    }
}

/// Starts an agent that may have no lease, and waits until it answers.
fn start_stopped(deployment: &Deployment, lab: &Lab) -> Result<Process> {
    let mut command = lab.mirror.command(gwtap::binary()?);
    command.args(["run", "--config"]).arg(deployment.file("gwtap.toml"));
    let mut process = Process::start("gwtap run", command, &deployment.file("agent.log"))?;
    process.wait_until("answer", PATIENCE, || {
        let answers = |measure: &MeasureStatus| measure.lease.live || measure.lease.refused.is_some();
        deployment.status().is_ok_and(|status| status.measures.iter().all(answers))
    })?;
    Ok(process)
}

/// The kernel refuses: packets meet no lease, and none is selected any more.
fn selects_nothing(deployment: &Deployment) -> Result<()> {
    let before = deployment.status()?;
    wait_until("packets without a lease", PATIENCE, || {
        deployment.status().is_ok_and(|now| without_lease(&now) > without_lease(&before) + 10)
    })?;
    let after = deployment.status()?;
    ensure!(selected(&after) == selected(&before), "selected without a lease: {before:?}, then {after:?}");
    Ok(())
}

fn without_lease(status: &Status) -> u64 {
    status.counters.verdicts.get("no_lease").copied().unwrap_or_default()
}

#[test]
fn directives_narrow_a_running_measure_and_outlive_its_agent() {
    if able() {
        narrowed().unwrap();
    }
}

fn narrowed() -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(plan())?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    lab.start_mirror()?;
    let load = beacons(&lab, 200_000)?;
    selects(&deployment, 50)?;
    let (commission, ministry) = (key(&deployment, "commission")?, key(&deployment, "ministry")?);

    let strangers = directive(&deployment, &ministry, 3, Kind::LowerShare(100_000))?;
    must_refuse(send(&deployment, &strangers)?, "none by a commission key")?;
    let third = directive(&deployment, &commission, 3, Kind::LowerShare(100_000))?;
    must(send(&deployment, &third)?)?;
    let share = || -> Result<f64> { Ok(measure(&deployment)?.share.limit) };
    ensure!((share()? - 0.1).abs() < 1e-9, "the share is lowered: {}", share()?);
    selects(&deployment, 50)?;
    for (number, kind, says) in [
        (3, Kind::Stop, "number: 3 is not above 3"),
        (2, Kind::Stop, "number: 2 is not above 3"),
        (4, Kind::LowerShare(200_000), "share_ppm: 200000 is not below 100000"),
        (4, Kind::Shorten(Timestamp::now() + SignedDuration::from_hours(72)), "not_after: "),
    ] {
        must_refuse(send(&deployment, &directive(&deployment, &commission, number, kind)?)?, says)?;
    }

    // A killed agent's successor, with the old order, knows.
    agent.kill()?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    ensure!((share()? - 0.1).abs() < 1e-9, "the share stays lowered: {}", share()?);
    must_refuse(send(&deployment, &third)?, "number: 3 is not above 3")?;
    let end = Timestamp::now() + SignedDuration::from_secs(4);
    must(send(&deployment, &directive(&deployment, &commission, 4, Kind::Shorten(end))?)?)?;
    ensure!(measure(&deployment)?.order.not_after_seconds == end.as_second(), "the end that is left is shown");
    selects(&deployment, 20)?;
    std::thread::sleep(Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default());
    selects_nothing(&deployment)?;

    // As a file, at a start: the fifth stops, and stays.
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    std::fs::create_dir(deployment.file("directives"))?;
    let fifth = directive(&deployment, &commission, 5, Kind::Stop)?;
    for (name, note) in [("3.note", &third), ("5.note", &fifth)] {
        std::fs::write(deployment.file("directives").join(name), note)?;
    }
    let configuration = std::fs::read_to_string(deployment.file("gwtap.toml"))?;
    let more = configuration + "\n[oversight]\ndirectives_directory = \"directives\"\n";
    std::fs::write(deployment.file("gwtap.toml"), more)?;
    let mut agent = start_stopped(&deployment, &lab)?;
    let oversight = measure(&deployment)?.oversight;
    ensure!(oversight.number == 5 && oversight.stopped.as_deref() == Some("laboratory"), "{oversight:?}");
    selects_nothing(&deployment)?;
    let listed = deployment.gwtap(["directive", "list", "--socket", "control.sock"])?;
    ensure!(listed.contains("directive 5 of") && listed.contains(": stop (laboratory)"), "{listed}");
    let page = deployment.metrics(&lab.mirror)?;
    ensure!(page.contains("gwtap_directive_stopped{measure=\"m-1\"} 1"), "{page}");
    must_refuse(
        ask(&deployment, &Request::Resume { measure: None, reason: "try".into() })?,
        "the carrier's kill switch is not thrown",
    )?;
    load.stop()?;
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    ensure!(receiver.terminate(PATIENCE)?.success(), "{}", receiver.output());
    Ok(())
}

#[test]
fn the_kill_switch_outlives_the_agent_and_is_taken_back_by_word_only() {
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
    let load = beacons(&lab, 200_000)?;
    selects(&deployment, 50)?;
    let socket = ["--socket", "control.sock"];
    let verb = |words: &[&'static str]| deployment.gwtap(words.iter().copied().chain(socket));
    ensure!(verb(&["stop", "--reason", ""]).is_err(), "a stop without a reason");
    verb(&["stop", "--reason", "ticket 4711"])?;
    selects_nothing(&deployment)?;
    agent.kill()?;
    let mut agent = start_stopped(&deployment, &lab)?;
    selects_nothing(&deployment)?;
    let status = verb(&["status"])?;
    ensure!(status.contains("STOPPED by the carrier since") && status.contains("ticket 4711"), "{status}");
    ensure!(deployment.metrics(&lab.mirror)?.contains("gwtap_kill_switch{measure=\"m-1\"} 1"), "metric");
    verb(&["resume", "--reason", "ticket 4711 closed"])?;
    selects(&deployment, 50)?;
    load.stop()?;
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    ensure!(receiver.terminate(PATIENCE)?.success(), "{}", receiver.output());
    Ok(())
}

#[test]
fn a_stop_is_in_the_kernel_within_a_second_of_its_signature() {
    if able() {
        latency().unwrap();
    }
}

fn latency() -> Result<()> {
    // Half of them by a directive, half by the switch.
    let tries = if need::long() { 2 * 200 } else { 2 * 10 };
    let lab = Lab::new()?;
    let deployment = Deployment::new(plan())?;
    let _receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    lab.start_mirror()?;
    let load = beacons(&lab, 20_000_000)?;
    let commission = key(&deployment, "commission")?;
    let [mut by_switch, mut by_note] = [Vec::new(), Vec::new()];
    for number in 0..tries {
        selects(&deployment, 20)?;
        let before = without_lease(&deployment.status()?);
        let begun = Instant::now();
        let by_directive = number % 2 == 0;
        if by_directive {
            must(send(&deployment, &directive(&deployment, &commission, 1, Kind::Stop)?)?)?;
        } else {
            must(ask(&deployment, &Request::Stop { measure: None, reason: "laboratory".into() })?)?;
        }
        wait_until("the kernel's refusal", PATIENCE, || {
            deployment.status().is_ok_and(|status| without_lease(&status) > before)
        })?;
        if by_directive { &mut by_note } else { &mut by_switch }.push(begun.elapsed());
        if by_directive {
            // Nothing takes a directive back: the next try is another host's first.
            ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
            forget_restrictions(&deployment)?;
            agent = deployment.start_agent(&lab.mirror)?;
        } else {
            must(ask(&deployment, &Request::Resume { measure: None, reason: "laboratory".into() })?)?;
        }
    }
    for (what, mut times) in [("the kill switch", by_switch), ("a directive", by_note)] {
        times.sort();
        let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        let (median, high) = (at(50).context("tries")?, at(99).context("tries")?);
        let worst = at(100).context("tries")?;
        println!("{what}: {} tries, median {median:?}, p99 {high:?}, worst {worst:?}", times.len());
        ensure!(high < LATENCY_MAX, "{what}: p99 {high:?} of {} tries", times.len());
    }
    load.stop()?;
    Ok(())
}

fn forget_restrictions(deployment: &Deployment) -> Result<()> {
    let file = deployment.file("state/state.json");
    let mut state: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    state.as_object_mut().and_then(|state| state.remove("restrictions")).context("restrictions are kept")?;
    Ok(std::fs::write(&file, state.to_string())?)
}

#[test]
fn an_extension_goes_on_where_its_order_ends_and_a_gap_stops_the_tap() {
    if able() {
        extended().unwrap();
    }
}

fn extended() -> Result<()> {
    let lab = Lab::new()?;
    // To the second: an order's text is shown and read again.
    let end = Timestamp::from_second(Timestamp::now().as_second() + 20)?;
    let beside = |id: &str, port: u16| MeasurePlan {
        id: id.to_owned(),
        basis: "foreign-to-domestic",
        share_ppm: 300_000,
        sampling_ppm: 1_000_000,
        sets: plan().sets,
        not_after: Some(end),
        port,
    };
    let deployment = Deployment::new(Plan { beside: vec![beside("m-2", 4741), beside("m-3", 4742)], ..plan() })?;
    let receivers: Vec<_> = deployment
        .measures()
        .iter()
        .map(|measure| deployment.start_receiver_of(measure, &lab.receiving))
        .collect::<Result<_>>()?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    lab.start_mirror()?;
    let load = beacons(&lab, 200_000)?;

    let order = std::fs::read_to_string(deployment.file("m-2-order.toml"))?;
    let hash = hex::encode(tap_userspace::keys::sha256(order.as_bytes()));
    let extension = |previous: &str, from: Timestamp, until: Timestamp| -> Result<String> {
        let line = |line: &str| match line.split(' ').next() {
            Some("not_before") => format!("previous = \"{previous}\"\nnot_before = \"{from}\""),
            Some("not_after") => format!("not_after = \"{until}\""),
            _ => line.to_owned(),
        };
        let text = order.lines().map(line).collect::<Vec<_>>().join("\n") + "\n";
        let by_ministry = note::sign(&text, &key(&deployment, "ministry")?)?;
        Ok(note::sign(&by_ministry, &key(&deployment, "commission")?)?)
    };
    let later = |hours: i64| end + SignedDuration::from_hours(hours);
    let extend = |note: String| ask(&deployment, &Request::OrderExtend { note });
    let second = SignedDuration::from_secs(1);
    must_refuse(extend(extension(&"0".repeat(64), end, later(24))?)?, "measure.previous: is not")?;
    must_refuse(extend(extension(&hash, end + second, later(24))?)?, "measure.not_before: ")?;
    must_refuse(extend(extension(&hash, end, later(24 * 93))?)?, "measure.not_after: over the 3 calendar months")?;
    let wider = extension(&hash, end, later(24))?.replace("payload_offsets = [0]", "payload_offsets = [0, 1]");
    must_refuse(extend(wider)?, "signatures: ")?;
    let good = extension(&hash, end, later(24))?;
    std::fs::write(deployment.file("extension.note"), &good)?;
    deployment.gwtap(["order", "extend", "extension.note", "--socket", "control.sock"])?;
    must_refuse(extend(good)?, "measure.previous: is not")?;
    // Rules and activations end with their order: the extension has its own.
    let set = std::fs::read_to_string(deployment.file("m-2-selectors-1.json"))?;
    let longer = set.replace(&end.to_string(), &later(23).to_string()).replace("\"version\": 1", "\"version\": 2");
    ensure!(longer != set, "the rules' end is in the set");
    std::fs::write(deployment.file("m-2-selectors-2.json"), longer)?;
    let valid_until = later(22).to_string();
    let keys = ["--key", "keys/author.key", "--key", "keys/approver.key"];
    let activate = ["selectors", "activate", "m-2-selectors-2.json", "--order", "extension.note", "--number", "2"];
    let more = ["--out", "m-2-activation-2.note", "--valid-until", &valid_until];
    deployment.gwtap(activate.into_iter().chain(more).chain(keys))?;
    deployment.load_of(deployment.measures().get(1).context("m-2")?, 2)?;

    std::thread::sleep(Duration::try_from((end + second).duration_since(Timestamp::now())).unwrap_or_default());
    let lives = || -> Result<Vec<bool>> {
        Ok(deployment.status()?.measures.iter().map(|measure| measure.lease.live).collect())
    };
    ensure!(lives()? == [true, true, false], "m-2 was extended, m-3 was not: {:?}", deployment.status()?.measures);
    // The configuration still names the old order; what was handed over is kept.
    let configuration = std::fs::read_to_string(deployment.file("gwtap.toml"))?;
    let without = |configuration: &str| {
        let tables: Vec<_> = configuration.split("[[measure]]").collect();
        let [head, first, second, third] = tables.as_slice() else { return None };
        let (_, rest) = third.split_once("[mirror]")?;
        Some(format!("{head}[[measure]]{first}[[measure]]{second}[mirror]{rest}"))
    };
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    for name in ["selectors-{}.json", "activation-{}.note"] {
        let [new, old] = ["2", "1"].map(|version| deployment.file(&format!("m-2-{}", name.replace("{}", version))));
        std::fs::copy(new, old)?;
    }
    std::fs::write(deployment.file("gwtap.toml"), without(&configuration).context("three measures")?)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    ensure!(lives()? == [true, true], "an extension outlives the agent");
    selects(&deployment, 20)?;
    load.stop()?;
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    drop(receivers);
    Ok(())
}
