//! From the wire to the receiving facility's disk: the programs as they are deployed, real traffic, a change of selectors on the
//! way. What was selected is stored, nothing else is anywhere.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tap_tests::deployment::{Deployment, Plan, lost, rule, with_payload};
use tap_tests::lab::traffic::{Rate, TcpLoad, UdpLoad};
use tap_tests::lab::{DOMESTIC4, DOMESTIC6, FOREIGN4, FOREIGN4_OTHER, FOREIGN6, Lab, MIRROR_PORT, wait_until};
use tap_tests::need;
use tap_userspace::control::status::Status;

/// Stands in every payload, and as the payload condition's bytes in the selector sets; must stand nowhere else.
const CANARY: &[u8] = b"canary-5b2f-of-the-payload";
/// How long either program may take to end.
const END_MAX: Duration = Duration::from_secs(15);
/// How long traffic may take to reach the counts that a test waits for.
const TRAFFIC_MAX: Duration = Duration::from_secs(60);

#[test]
fn what_the_kernel_selects_lies_in_the_store_and_nothing_else_is_anywhere() {
    if !need::root() || need::tool("tc").is_none() {
        return;
    }
    end_to_end().unwrap();
}

fn end_to_end() -> Result<()> {
    let lab = Lab::new()?;
    let sets = [5000, 5001].map(|port| {
        vec![
            rule("answers", "198.51.100.0/24", "source-port", 8443, "tcp"),
            with_payload(rule(&format!("beacon-{port}"), "198.51.100.0/24", "destination-port", port, "udp"), CANARY),
            with_payload(rule("none", "198.51.100.0/24", "destination-port", 5010, "udp"), b"another payload"),
        ]
    });
    let deployment = Deployment::new(Plan { sets: sets.to_vec(), ..Plan::default() })?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    lab.start_mirror()?;

    // What a machine of software can carry; what is selected is the same.
    let (rate, pause_ms, count) = if need::inside_machine() { (10_000, 50, 120) } else { (300_000, 5, 500) };
    let udp = |from: &str, to: &str, port: u16| -> Result<UdpLoad> {
        let to = SocketAddr::new(to.parse()?, port);
        UdpLoad::start((&lab.foreign, from.parse()?), 0, 4, (&lab.domestic, to), CANARY, Rate::new(rate))
    };
    let loads = [
        udp(FOREIGN4, DOMESTIC4, 5000)?,
        udp(FOREIGN4, DOMESTIC4, 5001)?,
        udp(FOREIGN4_OTHER, DOMESTIC4, 5002)?,
        udp(FOREIGN6, DOMESTIC6, 5000)?,
        udp(FOREIGN4, DOMESTIC4, 5010)?,
    ];
    let server = (&lab.foreign, SocketAddr::new(FOREIGN4.parse()?, 8443));
    let tcp = TcpLoad::start(&lab.domestic, server, CANARY, CANARY, Duration::from_millis(pause_ms))?;

    records_arrive(&deployment, count)?;
    deployment.load(2).context("changing the selectors under load")?;
    records_arrive(&deployment, count)?;
    let metrics = deployment.metrics(&lab.mirror)?;

    tcp.stop()?;
    for load in loads {
        load.stop()?;
    }
    let status = deployment.settle(|| Ok(()))?;
    let books = deployment.books(status, &lab.mirror, MIRROR_PORT)?;
    for (holds, words) in books.equations() {
        ensure!(holds, "{words}: {:?}, {} stored", books.status, books.records.len());
    }
    ensure!(lost(&books.status) == 0, "lost on an idle facility: {:?}", books.status);
    let names = |id: &str| books.records.iter().filter(|record| record["rules"].to_string().contains(id)).count();
    ensure!(
        names("beacon") > 100 && names("none") == 0,
        "{} beacons, {} without the bytes",
        names("beacon"),
        names("none")
    );
    let generations = books.generations();
    ensure!([1, 2].iter().all(|number| generations.get(number) > Some(&(count / 5))), "{generations:?}");

    for process in [&mut agent, &mut receiver] {
        let ended = process.terminate(END_MAX)?;
        ensure!(ended.success(), "{ended}: {}", process.output());
    }
    std::fs::write(deployment.file("metrics.txt"), &metrics)?;
    // The bytes of the domestic host's addresses, which no order may clear, and of a foreign one that no rule names.
    let traces: [(&str, &[u8]); 7] = [
        ("payload", CANARY),
        ("domestic IPv4 address, text", DOMESTIC4.as_bytes()),
        ("domestic IPv4 address", &[192, 0, 2, 10]),
        ("domestic IPv6 address, text", DOMESTIC6.as_bytes()),
        ("domestic IPv6 address", &[0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10]),
        ("foreign address without a rule, text", FOREIGN4_OTHER.as_bytes()),
        ("foreign address without a rule", &[203, 0, 113, 10]),
    ];
    for file in files(deployment.path())? {
        let bytes = std::fs::read(&file)?;
        for (what, trace) in traces {
            ensure!(!contains(&bytes, trace), "{what} found in {}", file.display());
        }
        let is_set = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("selectors-"));
        let digits = hex::encode(CANARY);
        ensure!(is_set == contains(&bytes, digits.as_bytes()), "payload, hex: {} {is_set}", file.display());
    }
    // The search has teeth: the one address that a rule clears is in the store.
    let stored = files(&deployment.file("store"))?;
    let cleared = |file: &PathBuf| std::fs::read(file).is_ok_and(|bytes| contains(&bytes, &[198, 51, 100, 10]));
    ensure!(stored.iter().any(cleared), "no cleared facility address in the store");
    check_metrics(&metrics)
}

/// Waits until so many more records are acknowledged.
fn records_arrive(deployment: &Deployment, count: u64) -> Result<()> {
    let acknowledged =
        |status: &Status| status.measures.iter().map(|one| one.delivery.acknowledged_records).sum::<u64>();
    let before = acknowledged(&deployment.status()?);
    let arrived = || deployment.status().is_ok_and(|now| acknowledged(&now) >= before + count);
    wait_until("acknowledged records", TRAFFIC_MAX, arrived).with_context(|| format!("{:?}", deployment.status()))
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else if entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn contains(bytes: &[u8], trace: &[u8]) -> bool {
    bytes.windows(trace.len()).any(|window| window == trace)
}

/// The foreign judge of the metrics page.
fn check_metrics(page: &str) -> Result<()> {
    use std::io::Write as _;
    let Some(promtool) = need::tool("promtool") else { return Ok(()) };
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("promtool's input")?.write_all(page.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "promtool check metrics: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
