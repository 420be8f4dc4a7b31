//! Notices to the Commission (Art. 30): the real tap, receiving facility and endpoint, and whoever of them is killed.
//!
//! In: traffic or receipts, and processes that end at random moments. Out: what the endpoint has and what the outbox has, held
//! against what the law asks: each kind once for a measure's day with records and once for its end, without a gap.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use jiff::civil::Date;
use tap_tests::deployment::{Deployment, MEASURE, Plan, rule, selected};
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Lab, wait_until};
use tap_tests::need;
use tap_tests::random::Random;
use tap_tests::told::{ENDPOINT_PROCESS, RECEIVER_PROCESS, TAP_PROCESS, Taps, Told, subjects};
use tap_userspace::control::{Request, Response, client};
use tap_userspace::directive::{Directive, Kind as What};
use tap_userspace::keys::{SecretKey, note};
use tap_userspace::notice::{self, Event, Kind, Occasion};
use tap_userspace::order;

const PATIENCE: Duration = Duration::from_secs(30);
/// Rounds of killing, and in a long run.
const ROUNDS: u64 = 10;
const ROUNDS_LONG: u64 = 250;
/// Some are killed before they are up, some at work.
const ROUND_MS_MAX: u64 = 700;
fn plan() -> Plan {
    Plan { sets: vec![vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")]], ..Plan::default() }
}

fn able() -> bool {
    need::root() && need::tool("tc").is_some()
}

/// Both kinds of each occasion.
fn both(occasions: impl IntoIterator<Item = Occasion>) -> BTreeSet<(Kind, Occasion)> {
    let kinds = |occasion: Occasion| [(Kind::Selection, occasion.clone()), (Kind::DeIdentification, occasion)];
    occasions.into_iter().flat_map(kinds).collect()
}

fn today() -> Date {
    notice::day(notice::day_number(u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default()))
}

fn order_sha256(deployment: &Deployment) -> Result<[u8; 32]> {
    Ok(order::parse_unsigned(&std::fs::read_to_string(deployment.file("order.note"))?)?.sha256)
}

#[test]
fn a_measures_day_and_end_are_noticed_once_whoever_is_killed() {
    if able() && need::tool("curl").is_some() {
        whoever_is_killed().unwrap();
    }
}

fn whoever_is_killed() -> Result<()> {
    let rounds = if need::long() { ROUNDS_LONG } else { ROUNDS };
    let mut random = Random::printed("kills of tap, receiving side and endpoint");
    let began = today();
    let lab = Lab::new()?;
    let deployment = Deployment::new(plan())?;
    let mut told = Told::new(&deployment, &lab.receiving, Some(&lab.mirror))?;
    // The endpoint is away at first: what it does not acknowledge is late, and says so.
    told.start_one(RECEIVER_PROCESS)?;
    told.start_one(TAP_PROCESS)?;
    wait_until("an answer", PATIENCE, || deployment.status().is_ok()).with_context(|| told.said())?;
    lab.start_mirror()?;
    let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
    let load =
        UdpLoad::start((&lab.foreign, FOREIGN4.parse()?), 0, 4, (&lab.domestic, to), b"beacon", Rate::new(200_000))?;
    wait_until("selected packets", PATIENCE, || deployment.status().is_ok_and(|status| selected(&status) > 0))?;
    wait_until("late notices", PATIENCE, || told.metric("gwtap_receive_notices_late") == Some(2))
        .with_context(|| told.said())?;
    ensure!(told.metric("gwtap_receive_notice_failures_total") > Some(0), "failures are counted");
    told.start()?;
    wait_until("no late notices", PATIENCE, || told.metric("gwtap_receive_notices_late") == Some(0))?;
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(random.below(0..ROUND_MS_MAX)));
        told.kill(random.index(0..3))?;
        told.start()?;
    }
    wait_until("a lease", PATIENCE, || {
        deployment.status().is_ok_and(|status| status.measures.iter().all(|measure| measure.lease.live))
    })
    .with_context(|| told.said())?;
    // The end, and whoever of them dies around it.
    let order_sha256 = order_sha256(&deployment)?;
    let directive = Directive {
        measure: MEASURE.to_owned(),
        order_sha256,
        number: 1,
        kind: What::Stop,
        reason: "laboratory".to_owned(),
        issued: Timestamp::now(),
    };
    let commission = SecretKey::from_file(&deployment.file("keys/commission.key"))?;
    let request = Request::Directive { note: note::sign(&directive.text(), &commission)? };
    let answer = client::ask(&deployment.file("control.sock"), &request)?;
    ensure!(matches!(answer, Response::Done { .. }), "{answer:?}");
    for which in [TAP_PROCESS, RECEIVER_PROCESS, ENDPOINT_PROCESS] {
        std::thread::sleep(Duration::from_millis(random.below(0..ROUND_MS_MAX)));
        told.kill(which)?;
        told.start()?;
    }
    let days: BTreeSet<Date> = [began, today()].into();
    let expected = both(days.iter().copied().map(Occasion::Day).chain([Occasion::End(hex::encode(order_sha256))]));
    let all = told.acknowledged(expected.len())?;
    ensure!(subjects(&all) == expected, "{:?}", subjects(&all));
    ensure!(all.iter().all(|kept| kept.notice.measure == MEASURE), "of the measure");
    load.stop()?;
    let arguments =
        ["notices", "--store", "store", "--key", "keys/facility.pub", "--commission", "keys/commission.pub"];
    let listed = deployment.gwtap(arguments)?;
    ensure!(listed.matches("acknowledged").count() == expected.len(), "{listed}");
    println!("{rounds} kills: {} notices", all.len());
    Ok(())
}

#[test]
fn many_days_are_noticed_once_each_while_receiving_side_and_endpoint_are_killed() {
    if able() {
        many_days().unwrap();
    }
}

fn many_days() -> Result<()> {
    let rounds = if need::long() { ROUNDS_LONG } else { ROUNDS };
    let mut random = Random::printed("kills of receiving side and endpoint");
    let lab = Lab::new()?;
    let deployment = Deployment::new(plan())?;
    let taps = Taps::new(&deployment)?;
    let _exporter = taps.export(&deployment, &lab.mirror)?;
    let mut told = Told::new(&deployment, &lab.receiving, None)?;
    let mut days = BTreeSet::new();
    let order = "ab".repeat(32);
    // Its tap never says the end.
    taps.say(&order, Event::Opened { not_after: Timestamp::now() + jiff::SignedDuration::from_secs(1) })?;
    for round in 0..rounds {
        told.start()?;
        for _ in 0..8 {
            // Some again, as a tap says them that starts anew.
            let number = 20_000 + random.below(0..(round + 1) * 5);
            taps.say(&order, Event::Day { day: notice::day(number) })?;
            days.insert(notice::day(number));
            std::thread::sleep(Duration::from_millis(random.below(0..ROUND_MS_MAX / 8)));
        }
        told.kill(random.index(0..2))?;
    }
    told.start()?;
    let expected = both(days.into_iter().map(Occasion::Day).chain([Occasion::End(order)]));
    let all = told.acknowledged(expected.len())?;
    ensure!(subjects(&all) == expected, "{:?}", subjects(&all));
    println!("{rounds} kills: {} notices", all.len());
    Ok(())
}

#[test]
fn receipts_from_before_the_table_are_noticed_and_bad_ones_hold_nothing_up() {
    if able() && need::tool("curl").is_some() {
        from_before_the_table().unwrap();
    }
}

fn from_before_the_table() -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(plan())?;
    let taps = Taps::new(&deployment)?;
    let _exporter = taps.export(&deployment, &lab.mirror)?;
    let mut told = Told::untold(&deployment, &lab.receiving, None)?;
    told.start_one(RECEIVER_PROCESS)?;
    let order = "ab".repeat(32);
    let days = [20_000, 20_001, 20_002].map(notice::day);
    let say = |day: Date| taps.say(&order, Event::Day { day });
    taps.say(&order, Event::Opened { not_after: Timestamp::now() })?;
    say(days[0])?;
    // Nothing that a host's key signed, and something that another key did.
    taps.raw("neither a note nor a receipt")?;
    let other = SecretKey::generate("mirror-9")?;
    taps.raw(&notice::sign(&Acknowledged { nothing: 1 }, &other)?)?;
    say(days[1])?;
    wait_until("all messages", PATIENCE, || told.metric("gwtap_receive_stored_messages_total") >= Some(5))
        .with_context(|| told.said())?;
    let aside = "gwtap_receive_receipts_set_aside";
    ensure!(told.metric(aside) == Some(2), "{:?} are set aside", told.metric(aside));
    ensure!(told.outbox().is_err() || told.outbox()?.is_empty(), "nobody is to be told");
    told.kill(RECEIVER_PROCESS)?;
    told.tell()?;
    told.start()?;
    say(days[2])?;
    let expected = both(days.map(Occasion::Day).into_iter().chain([Occasion::End(order.clone())]));
    let all = told.acknowledged(expected.len())?;
    ensure!(subjects(&all) == expected, "{:?}", subjects(&all));
    // Whoever looked into them moves them away.
    ensure!(told.metric(aside) == Some(2), "they are kept across a start");
    std::fs::remove_dir_all(deployment.file("store/set-aside"))?;
    ensure!(told.metric(aside) == Some(0), "{:?} are set aside", told.metric(aside));
    Ok(())
}

/// A form that is none of the product's.
#[derive(serde::Serialize)]
struct Acknowledged {
    nothing: u32,
}
