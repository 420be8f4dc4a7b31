//! Activations under load: sets that take turns while both their traffics flow. Every record's rule is its generation's, none is lost,
//! and how long it takes from the call to the first packet that the new set judged.
#![allow(clippy::indexing_slicing, reason = "helpers of a test")]

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tap_tests::deployment::{Deployment, MEASURE, MeasurePlan, Plan, Remote, identities, lost, rule, selected};
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Lab};
use tap_tests::need;
use tap_userspace::control::api::client::Call;
use tap_userspace::receive::read::records;

const PATIENCE: Duration = Duration::from_secs(20);
/// The ports that the two sets look for, in turns.
const PORTS: [u16; 2] = [5001, 5000];
/// Where a set's other indicators lie: in a prefix that the order approves.
const OTHERS: u128 = 0x2001_0db8_0002_0000_0000_0000_0000_0000;
/// A set's indicators; a debug build takes seconds for the longer ones.
const INDICATORS: u32 = 500;
const INDICATORS_LONG: u32 = 10_000;
/// Between two activations: both sets meet their traffic, and no client is above its rate.
const PAUSE: Duration = Duration::from_millis(600);

#[test]
fn every_record_is_of_its_generation_and_none_is_lost_while_sets_take_turns() {
    if need::root() && need::tool("tc").is_some() {
        let (activations, indicators, rate) =
            if need::long() { (200, INDICATORS_LONG, 10_000_000) } else { (8, INDICATORS, 4_000_000) };
        run(activations, indicators, rate).unwrap();
    }
}

#[test]
fn sets_of_a_million_take_turns() {
    if need::long() && need::root() && need::tool("tc").is_some() {
        run(10, 1_000_000, 10_000_000).unwrap();
    }
}

#[test]
fn a_set_that_waits_and_is_overtaken_decides_all_the_same_and_a_discarded_one_is_gone() {
    if need::root() && need::tool("tc").is_some() {
        overtaken().unwrap();
    }
}

fn overtaken() -> Result<()> {
    let lab = Lab::new()?;
    let sets: Vec<_> = PORTS.iter().cycle().take(3).map(|port| set(*port, INDICATORS)).collect();
    let beside = MeasurePlan {
        id: "m-2".to_owned(),
        basis: "foreign-to-domestic",
        share_ppm: 100_000,
        sampling_ppm: 1_000_000,
        sets: sets.clone(),
        not_after: None,
        port: 4741,
    };
    let deployment = Deployment::new(Plan { sets, beside: vec![beside.clone()], ..Plan::default() })?;
    let remote = Remote::new(&deployment)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    let waiting = || -> Result<usize> {
        let directory = deployment.file(&format!("state/measure-{MEASURE}"));
        let files = std::fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
        Ok(files.filter_map(Result::ok).filter(|file| file.path().extension().is_some_and(|of| of == "ahead")).count())
    };
    let proposal = format!("/v1/measures/{MEASURE}/proposal");
    let call = |name: &str, method: &'static str, path: &str, body: Option<Vec<u8>>| -> Result<()> {
        let (_, etag) = remote.versions(&lab.receiving)?;
        remote
            .call(&lab.receiving, name, &Call { method, path, etag: Some(&etag), body })?
            .map(drop)
            .map_err(Into::into)
    };
    let propose = |number: usize| -> Result<()> {
        let [set, note] = deployment.set(number).map(std::fs::read_to_string);
        let body = json!({"set": set?, "activation": note?}).to_string().into_bytes();
        call("selector-author", "PUT", &proposal, Some(body))
    };
    let decides = |number: u64| -> Result<()> {
        let status = deployment.status()?;
        let found = status.measure(MEASURE).context("the measure")?.selectors.generation;
        ensure!(found == number, "{found} decides, not {number}");
        Ok(())
    };
    propose(2)?;
    ensure!(waiting()? == 1, "the approved set is not sealed ahead");
    decides(1)?;
    // By the socket, too, an edit does.
    let [set, edit] = ["m-2-selectors-2.json", "m-2-selectors-2.edit"];
    deployment.gwtap(["selectors", "edit", set, "--base", "m-2-selectors-1.json", "--out", edit])?;
    std::fs::rename(deployment.file(edit), deployment.file(set))?;
    deployment.load_of(&beside, 2)?;
    call("approver", "POST", &format!("{proposal}/activation"), None)?;
    decides(2)?;
    let output = agent.output();
    ensure!(!output.contains("the generation that waited is taken"), "its number was another's: {output}");
    ensure!(waiting()? == 0, "what decides is sealed twice");

    propose(3)?;
    ensure!(waiting()? == 1, "the approved set is not sealed ahead");
    call("selector-author", "DELETE", &proposal, None)?;
    ensure!(waiting()? == 0, "a discarded set is still sealed ahead");
    propose(3)?;
    ensure!(waiting()? == 1, "the approved set is not sealed ahead");
    call("approver", "POST", &format!("{proposal}/activation"), None)?;
    decides(3)?;
    let output = agent.output();
    ensure!(output.contains("the generation that waited is taken"), "it did not wait: {output}");
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    Ok(())
}

/// A rule with one address that sends, among many that do not.
fn set(port: u16, indicators: u32) -> Vec<Value> {
    let mut rule = rule("beacon", FOREIGN4, "destination-port", port, "udp");
    // The sets differ in a thousand of a million, anywhere among the others.
    let apart = |index: u32| if port == PORTS[0] && index.is_multiple_of(1_000) { 1 } else { 0 };
    let address = |index: u32| OTHERS + u128::from(index) * 0x1_0001_0083 + apart(index);
    let others = (1..indicators).map(|index| Ipv6Addr::from(address(index)).to_string());
    rule["conditions"][0]["any"] = json!(others.chain([FOREIGN4.to_owned()]).collect::<Vec<_>>());
    rule["id"] = json!(format!("port-{port}"));
    vec![rule]
}

/// What is new in a set beside the one before it.
fn edited(deployment: &Deployment, number: u64) -> Result<String> {
    let name = |number: u64| format!("selectors-{number}.json");
    let out = format!("selectors-{number}.edit");
    deployment.gwtap(["selectors", "edit", &name(number), "--base", &name(number - 1), "--out", &out])?;
    Ok(std::fs::read_to_string(deployment.file(&out))?)
}

fn run(activations: u64, indicators: u32, bits_per_second: u64) -> Result<()> {
    let lab = Lab::new()?;
    let both = PORTS.map(|port| set(port, indicators));
    let of = |number: u64| usize::from(number.is_multiple_of(2));
    let sets = (1..=activations + 1).map(|number| both[of(number)].clone()).collect();
    let deployment = Deployment::new(Plan { sets, ..Plan::default() })?;
    let remote = Remote::new(&deployment)?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    lab.start_mirror()?;
    let mut loads = Vec::new();
    for port in PORTS {
        let to = SocketAddr::new(DOMESTIC4.parse()?, port);
        let from = (&lab.foreign, FOREIGN4.parse()?);
        loads.push(UdpLoad::start(from, 0, 16, (&lab.domestic, to), b"beacon", Rate::new(bits_per_second))?);
    }
    std::thread::sleep(Duration::from_millis(500));

    let (mut asked, mut proposals, mut edit_bytes) = (BTreeMap::new(), Vec::new(), 0);
    for number in 2..=activations + 1 {
        let edit = edited(&deployment, number)?;
        let note = std::fs::read_to_string(&deployment.set(usize::try_from(number)?)[1])?;
        edit_bytes = edit_bytes.max(edit.len());
        let body = json!({"set": edit, "activation": note}).to_string().into_bytes();
        let (_, etag) = remote.versions(&lab.receiving)?;
        let proposing = Instant::now();
        let path = format!("/v1/measures/{MEASURE}/proposal");
        let call = Call { method: "PUT", path: &path, etag: Some(&etag), body: Some(body) };
        let proposed = remote.call(&lab.receiving, "selector-author", &call)??;
        proposals.push(proposing.elapsed().as_secs_f64() * 1e3);
        let etag = proposed.etag.context("an ETag")?;
        let path = format!("{path}/activation");
        let call = Call { method: "POST", path: &path, etag: Some(&etag), body: None };
        let began = jiff::Timestamp::now().as_nanosecond();
        remote.call(&lab.receiving, "approver", &call)??;
        asked.insert(number, (began, jiff::Timestamp::now().as_nanosecond()));
        std::thread::sleep(PAUSE);
    }
    for load in loads {
        load.stop()?;
    }
    let status = deployment.settle(|| Ok(()))?;

    let counters = &status.counters;
    let measure = status.measure(MEASURE).context("the measure")?;
    let verdicts: u64 = counters.verdicts.values().chain(measure.counters.verdicts.values()).sum();
    ensure!(counters.observed_packets == verdicts + measure.counters.idle_packets, "{counters:?}");
    let found = identities(&deployment.file("store"))?;
    ensure!(lost(&status) == 0 && found.missing == 0, "{} lost, {} missing", lost(&status), found.missing);
    ensure!(found.stored == selected(&status), "{} stored of {}", found.stored, selected(&status));
    let (mut first, mut wrong) = (BTreeMap::new(), None);
    records(&deployment.file("store"), |stored| {
        let (record, port) = (&stored.record, PORTS[of(stored.record.generation)]);
        if record.destination_port != Some(port) || stored.rules != [format!("port-{port}")] {
            wrong = Some(format!("generation {}: port {:?}", record.generation, record.destination_port));
            return false;
        }
        let time = i128::from(record.time.0);
        let first = first.entry(record.generation).or_insert(time);
        *first = (*first).min(time);
        true
    })?;
    ensure!(wrong.is_none(), "{}", wrong.unwrap_or_default());
    ensure!(first.len() as u64 == activations + 1, "{} generations have records", first.len());

    let ms = |from: i128, to: i128| (to - from) as f64 / 1e6;
    let sorted = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times
    };
    let judged = sorted(asked.iter().map(|(number, (began, _))| ms(*began, first[number])).collect());
    let answered = sorted(asked.values().map(|(began, ended)| ms(*began, *ended)).collect());
    // Before it is asked for nothing of a generation is judged.
    ensure!(judged[0] > 0.0, "a packet was judged {} ms before the call", -judged[0]);
    let at = |times: &[f64], percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
    let proposals = sorted(proposals);
    println!(
        "edits of at most {edit_bytes} bytes proposed after {:.0} ms (median), {:.0} (most)",
        at(&proposals, 50),
        at(&proposals, 100)
    );
    println!(
        "{activations} activations of {indicators} indicators, {} records: first packet judged after {:.0} ms (median), \
         {:.0} (p99), {:.0} (most); answered after {:.0}, {:.0}, {:.0}",
        found.stored,
        at(&judged, 50),
        at(&judged, 99),
        at(&judged, 100),
        at(&answered, 50),
        at(&answered, 99),
        at(&answered, 100),
    );
    // Each of them waited in the loader for its call.
    let output = agent.output();
    let waited = output.matches("the generation that waited is taken").count() as u64;
    ensure!(waited == activations, "{waited} of {activations} waited: {output}");
    for process in [&mut agent, &mut receiver] {
        ensure!(process.terminate(PATIENCE)?.success(), "{}", process.output());
    }
    Ok(())
}
