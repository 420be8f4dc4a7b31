//! The cap, measured on what was recorded: every admitted packet of this laboratory is selected, so the records themselves say
//! what was admitted in every window, not a counter.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use tap_tests::deployment::{Deployment, HOST_NAME, Plan, lost, rule, selected};
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Lab, MIRROR_PORT};
use tap_tests::need;
use tap_userspace::control::status::MeasureStatus;

/// A facility whose cap two senders exceed several times on any machine.
const CAPACITY_BITS_PER_SECOND: u64 = 40_000_000;
const SHARE_PPM: u32 = 300_000;
/// What each of the senders offers.
const OFFERED_BITS_PER_SECOND: u64 = 20_000_000;
/// Bytes that may be admitted in a second.
const CAP_BYTES_PER_SECOND: i128 = 40_000_000 * 300_000 / 1_000_000 / 8;
const SECOND_NS: i128 = 1_000_000_000;
/// Packets that the laboratory's hosts may send by themselves.
const STRAYS_MAX: u64 = 20;
/// The longest of them on the line.
const STRAY_BYTES_MAX: i128 = 200;

#[test]
fn in_every_window_from_a_second_up_no_more_is_admitted_than_the_share_allows() {
    if !need::root() || need::tool("tc").is_none() {
        return;
    }
    cap().unwrap();
}

fn cap() -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(Plan {
        capacity_bits_per_second: CAPACITY_BITS_PER_SECOND,
        share_ppm: SHARE_PPM,
        sets: vec![
            [5000, 5001]
                .map(|port| rule(&format!("all-{port}"), "198.51.100.0/24", "destination-port", port, "udp"))
                .to_vec(),
        ],
        ..Plan::default()
    })?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    lab.start_mirror()?;
    // Frames of two sizes, by two threads: small ones are many, large ones fill the line.
    let load = |port: u16, bytes: usize| -> Result<UdpLoad> {
        let to = SocketAddr::new(DOMESTIC4.parse()?, port);
        let rate = Rate::new(OFFERED_BITS_PER_SECOND);
        UdpLoad::start((&lab.foreign, FOREIGN4.parse()?), 0, 8, (&lab.domestic, to), &vec![b'x'; bytes], rate)
    };
    let loads = [load(5000, 200)?, load(5001, 1_200)?];
    std::thread::sleep(if need::long() { Duration::from_secs(20) } else { Duration::from_secs(5) });
    for load in loads {
        load.stop()?;
    }
    let status = deployment.settle(|| Ok(()))?;
    let books = deployment.books(status, &lab.mirror, MIRROR_PORT)?;
    let measure = books.measure();
    let counters = &measure.counters;
    ensure!(books.balance() && lost(&books.status) == 0, "{:?}", books.equations());
    ensure!(counters.verdicts.get("over_cap") > Some(&0), "the load did not reach the cap: {counters:?}");

    let admitted = admitted(&books.records)?;
    let bytes: i128 = admitted.iter().map(|(_, bytes)| bytes).sum();
    // Beside the load there is what hosts say by themselves (IPv6 neighbour discovery): admitted, matched by no rule. It is a
    // handful, and counted as if every window held all of it.
    let strays = counters.admitted_packets - selected(&books.status);
    let stray_bytes = i128::from(counters.admitted_bytes) - bytes;
    ensure!(strays <= STRAYS_MAX, "everything but strays is selected: {counters:?}");
    ensure!((0..=i128::from(strays) * STRAY_BYTES_MAX).contains(&stray_bytes), "{bytes} bytes recorded: {counters:?}");
    let worst = worst_excess(&admitted) + stray_bytes * SECOND_NS;
    ensure!(worst <= 0, "a window holds {} bytes more than the share allows", worst / SECOND_NS);
    let used_max = measure.share.used_max;
    ensure!(used_max <= 0.3, "the agent saw a share of {used_max}");

    let cpus: BTreeSet<u64> = books.records.iter().filter_map(|record| record.get("cpu")?.as_u64()).collect();
    let available = std::thread::available_parallelism()?.get();
    ensure!(available < 2 || cpus.len() > 1, "the load met CPUs {cpus:?} only");
    agent.terminate(Duration::from_secs(15))?;
    receiver.terminate(Duration::from_secs(15))?;
    stated(&deployment, &measure)
}

/// What the host signed when it ended says the same as the records do.
fn stated(deployment: &Deployment, measure: &MeasureStatus) -> Result<()> {
    let key = format!("keys/{HOST_NAME}.pub");
    let said = deployment.gwtap(["report", "--statements", "state/statements", "--key", &key, "--json"])?;
    let months: Vec<Value> = serde_json::from_str(&said)?;
    ensure!(months.len() == 2, "the measure's and the facility's: {said}");
    for month in &months {
        let counted = |name: &str| month.pointer(&format!("/counted/{name}")).and_then(Value::as_u64);
        ensure!(month.pointer("/exceeded") == Some(&Value::Bool(false)), "{said}");
        ensure!(counted("admitted_bytes") == Some(measure.counters.admitted_bytes), "{said} beside {measure:?}");
        ensure!(counted("over_cap_packets") == measure.counters.verdicts.get("over_cap").copied(), "{said}");
        ensure!(counted("selected_packets") == measure.counters.verdicts.get("selected").copied(), "{said}");
    }
    println!("{said}");
    Ok(())
}

/// Time in nanoseconds and bytes on the line of every record, in order of time.
fn admitted(records: &[Value]) -> Result<Vec<(i128, i128)>> {
    let mut admitted = Vec::with_capacity(records.len());
    for record in records {
        let time: Timestamp = record.get("time").and_then(Value::as_str).context("a record's time")?.parse()?;
        let bytes = record.get("line_bytes").and_then(Value::as_u64).context("a record's bytes")?;
        admitted.push((time.as_nanosecond(), i128::from(bytes)));
    }
    admitted.sort_unstable();
    Ok(admitted)
}

/// The most that any closed window of at least a second holds beyond the share, in bytes × 10⁹; at most 0 is right.
///
/// A window that begins with record i and ends with record j holds P(j + 1) - P(i) bytes, P being the sums from the start, and
/// lasts max(1 s, t(j) - t(i)). For those longer than a second the excess is (P(j + 1) - r t(j)) - (P(i) - r t(i)): for each
/// j the least of the second term over all i that lie a second or more before is enough.
fn worst_excess(admitted: &[(i128, i128)]) -> i128 {
    let rate = CAP_BYTES_PER_SECOND;
    let mut sum = 0;
    let before = admitted.iter().map(|(time, bytes)| {
        sum += bytes;
        (*time, (sum - bytes) * SECOND_NS)
    });
    let before: Vec<(i128, i128)> = before.collect();
    let mut starts = before.iter().peekable();
    let (mut worst, mut least) = (i128::MIN, i128::MAX);
    for ((end, bytes), (_, sum_before)) in admitted.iter().zip(&before) {
        let sum_after = sum_before + bytes * SECOND_NS;
        while let Some((time, sum)) = starts.next_if(|(time, _)| time + SECOND_NS <= *end) {
            least = least.min(sum - rate * time);
        }
        if let Some((_, sum)) = starts.peek() {
            worst = worst.max(sum_after - sum - rate * SECOND_NS);
        }
        if least != i128::MAX {
            worst = worst.max(sum_after - rate * end - least);
        }
    }
    worst
}

#[test]
fn a_window_that_holds_too_much_is_found() {
    let even: Vec<(i128, i128)> = (0..4_000).map(|n| (n * SECOND_NS / 1_000, CAP_BYTES_PER_SECOND / 1_010)).collect();
    assert!(worst_excess(&even) <= 0);
    // Half a second's bytes more, at once: too much for the second around it and for the two seconds around that.
    let mut burst = even.clone();
    burst[2_000].1 += CAP_BYTES_PER_SECOND / 2;
    assert!(worst_excess(&burst) > CAP_BYTES_PER_SECOND / 3 * SECOND_NS);
    // One that no single second shows: twice the rate for less than a second would, 1.2 times the rate for three does.
    let slow: Vec<(i128, i128)> = (0..4_000).map(|n| (n * SECOND_NS / 1_000, CAP_BYTES_PER_SECOND / 833)).collect();
    assert!(worst_excess(&slow) > CAP_BYTES_PER_SECOND / 2 * SECOND_NS);
}
