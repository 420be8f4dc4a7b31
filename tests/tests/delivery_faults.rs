//! Delivery when something is missing: the receiving facility, room on a disk, the other side of a line, a peer's haste. Real
//! processes, a real mirror port. Each fault has its stated outcome, and afterwards the stored set is what entered the rings, by
//! identity, but for what was refused and counted.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;
use tap_tests::deployment::{Deployment, MEASURE, Plan, identities, lost, rule, selected};
use tap_tests::lab::disk::{SmallDisk, own_mounts};
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Lab, MIRROR, Process, RECEIVING, wait_until};
use tap_tests::need;
use tap_userspace::control::status::{MeasureStatus, Status};
use tap_userspace::path::spool::{Spool, SpoolKey, SpoolLimits};

/// How long things may take that take a moment; a pause between connections is part of it.
const PATIENCE: Duration = Duration::from_secs(40);
/// Payload of a datagram; with its headers it has 34 octets.
const BEACON: &[u8] = b"beacon";
const BEACON_BITS: u64 = 34 * 8;

/// How long the receiving facility is away, and records a second meanwhile: what a build without optimisation bears on two busy cores,
/// and what a release must show.
const AWAY: (Duration, u64) = (Duration::from_secs(10), 5_000);
const AWAY_LONG: (Duration, u64) = (Duration::from_secs(600), 50_000);
/// Room for the long run's records in the spool.
const AWAY_LONG_SPOOL_BYTES: u64 = 16 << 30;

/// Room for a spool and a store on the small disks: a few seconds of records.
const SMALL_KIB: u64 = 512;
/// Records a second where a disk fills or a peer is slow.
const QUIET: u64 = 500;

/// Records a second that fill a ring within a lease.
const RING_RATE: u64 = 80_000;

/// By then a side has noticed that the other is gone: 10 s of the kernel's patience, a probe's interval, and a busy machine.
const NOTICED_MAX: Duration = Duration::from_secs(15);

fn able() -> bool {
    need::root() && need::tool("tc").is_some()
}

/// A laboratory with a tap that selects datagrams to one port.
struct Scene {
    lab: Lab,
    deployment: Deployment,
}

impl Scene {
    fn new() -> Result<Self> {
        let sets = vec![vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")]];
        Ok(Self { lab: Lab::new()?, deployment: Deployment::new(Plan { sets, ..Plan::default() })? })
    }

    /// Replaces `from` by `to` in a file of the deployment.
    fn edit(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let file = self.deployment.file(file);
        let text = std::fs::read_to_string(&file)?;
        ensure!(text.contains(from), "{}: has no `{from}`", file.display());
        Ok(std::fs::write(&file, text.replace(from, to))?)
    }

    fn agent(&self) -> Result<Process> {
        let agent = self.deployment.start_agent(&self.lab.mirror)?;
        self.lab.start_mirror()?;
        Ok(agent)
    }

    fn load(&self, records_per_second: u64) -> Result<UdpLoad> {
        let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
        let from = (&self.lab.foreign, FOREIGN4.parse()?);
        UdpLoad::start(from, 0, 4, (&self.lab.domestic, to), BEACON, Rate::new(records_per_second * BEACON_BITS))
    }

    fn measure(&self) -> Result<MeasureStatus> {
        self.deployment.status()?.measures.first().cloned().context("a measure")
    }

    /// Waits until the measure's status satisfies `holds`.
    fn wait(&self, what: &str, holds: impl Fn(&MeasureStatus) -> bool) -> Result<()> {
        wait_until(what, PATIENCE, || self.measure().is_ok_and(|measure| holds(&measure)))
            .with_context(|| format!("{:?}", self.measure()))
    }

    /// The agent ends, and what it declared to the end is what the kernel and the store say.
    fn declared(&self, mut agent: Process, status: &Status) -> Result<()> {
        ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
        let declared = self.deployment.declared()?;
        let [of] = declared.as_slice() else { bail!("of one instance: {declared:?}") };
        let said = |key: &str| of.get(key).and_then(Value::as_u64).with_context(|| key.to_owned());
        let measure = status.measures.first().context("a measure")?;
        let counted = (selected(status), measure.counters.ring_lost, measure.records.refused, 0);
        let lost = (said("declared_lost_in_rings")?, said("declared_lost_at_spool")?);
        ensure!((said("declared_selected")?, lost.0, lost.1, said("outstanding")?) == counted, "{of}, {counted:?}");
        ensure!(said("stored")? + lost.0 + lost.1 == counted.0, "{of}");
        ensure!(of.get("measure").and_then(Value::as_str) == Some(MEASURE), "{of}");
        Ok(())
    }

    /// Everything that was selected is stored once and in order, or was refused and counted.
    fn balanced(&self, status: &Status) -> Result<u64> {
        let found = identities(&self.deployment.file("store"))?;
        let (selected, lost) = (selected(status), lost(status));
        ensure!(selected == found.stored + lost, "{selected} selected, {} stored, {lost} lost", found.stored);
        ensure!(found.missing <= lost, "{} numbers are missing, {lost} were lost", found.missing);
        Ok(found.stored)
    }
}

#[test]
fn what_is_selected_while_the_receiving_facility_is_away_arrives_when_it_is_back() {
    if able() {
        away().unwrap();
    }
}

fn away() -> Result<()> {
    let (away, rate) = if need::long() { AWAY_LONG } else { AWAY };
    let scene = Scene::new()?;
    if need::long() {
        let room = format!("key_file = \"keys/spool.key\"\nbytes_max = {AWAY_LONG_SPOOL_BYTES}");
        scene.edit("gwtap.toml", "key_file = \"keys/spool.key\"", &room)?;
    }
    let mut agent = scene.agent()?;
    let load = scene.load(rate)?;
    std::thread::sleep(away);
    let waiting = scene.measure()?;
    ensure!(!waiting.delivery.connected && waiting.records.spooled > 0, "{waiting:?}");

    // It comes back while records go on.
    let since = Instant::now();
    let mut receiver = scene.deployment.start_receiver(&scene.lab.receiving)?;
    let mut connected = None;
    let until = since + away + PATIENCE;
    let caught_up = loop {
        let measure = scene.measure()?;
        if measure.delivery.connected {
            connected.get_or_insert_with(Instant::now);
        }
        // What is on its way now entered within the last moment.
        if measure.delivery.acknowledged_records + rate >= measure.records.spooled && connected.is_some() {
            break measure.delivery.acknowledged_records;
        }
        ensure!(Instant::now() < until, "not caught up: {measure:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let took = connected.context("connected")?.elapsed();
    load.stop()?;
    let status = scene.deployment.settle(|| Ok(())).with_context(|| agent.output())?;
    let stored = scene.balanced(&status)?;
    ensure!(lost(&status) == 0, "{} records were lost", lost(&status));
    let per_second = u128::from(caught_up) * 1_000 / took.as_millis().max(1);
    println!(
        "away for {away:?} at {rate} records/s: {stored} records stored once, {caught_up} of them caught up in {took:?} \
         ({per_second} records/s), {:?} after the start of the facility",
        since.elapsed()
    );
    ensure!(agent.terminate(PATIENCE)?.success(), "{}", agent.output());
    ensure!(receiver.terminate(PATIENCE)?.success(), "{}", receiver.output());
    Ok(())
}

#[test]
fn a_full_disk_under_the_spool_refuses_the_newest_counted_and_takes_again_after_acknowledgements() {
    if able() {
        spool_disk_full().unwrap();
    }
}

fn spool_disk_full() -> Result<()> {
    let scene = Scene::new()?;
    let spool = scene.deployment.file("spool");
    let _disk = scene.lab.mirror.enter(|| SmallDisk::new(&spool, SMALL_KIB))??;
    let agent = scene.agent()?;
    let load = scene.load(4 * QUIET)?;
    scene.wait("refused records", |measure| measure.records.refused > 0)?;
    // The kernel's path goes on: it selects, and the rings are drained although nothing can be spooled.
    let full = scene.measure()?;
    scene.wait("more refused records", |measure| measure.records.refused > full.records.refused + QUIET)?;
    let later = scene.measure()?;
    ensure!(later.counters.verdicts.get("selected") > full.counters.verdicts.get("selected"), "{later:?}");
    ensure!(later.counters.ring_lost == 0, "a full disk lost {} records in the rings", later.counters.ring_lost);
    ensure!(agent.output().contains("the spool refused records: they are lost"), "{}", agent.output());
    let page = scene.deployment.metrics(&scene.lab.mirror)?;
    ensure!(page.lines().any(|line| line.contains("refused") && !line.ends_with(" 0")), "no metric says so: {page}");

    // Nobody gives the disk room but the acknowledgements.
    let receiver = scene.deployment.start_receiver(&scene.lab.receiving)?;
    scene.wait("records that are taken again", |measure| measure.records.spooled > later.records.spooled + QUIET)?;
    load.stop()?;
    let status = scene.deployment.settle(|| Ok(())).with_context(|| agent.output())?;
    let stored = scene.balanced(&status)?;
    println!("{stored} records stored once, {} refused, counted and declared", lost(&status));
    scene.declared(agent, &status)?;
    drop(receiver);
    Ok(())
}

#[test]
fn what_a_full_ring_lost_is_counted_and_declared_in_the_export() {
    if able() {
        full_ring().unwrap();
    }
}

/// An agent that stands still renews no lease: what comes in within its five seconds is more than a ring takes.
fn full_ring() -> Result<()> {
    let scene = Scene::new()?;
    let receiver = scene.deployment.start_receiver(&scene.lab.receiving)?;
    let agent = scene.agent()?;
    let load = scene.load(RING_RATE)?;
    scene.wait("spooled records", |measure| measure.records.spooled > 0)?;
    agent.signal(Signal::SIGSTOP)?;
    std::thread::sleep(Duration::from_secs(6));
    agent.signal(Signal::SIGCONT)?;
    load.stop()?;
    let status = scene.deployment.settle(|| Ok(())).with_context(|| agent.output())?;
    let stored = scene.balanced(&status)?;
    ensure!(lost(&status) > 0, "no ring was full: {stored} records stored");
    println!("{stored} records stored once, {} lost by full rings, counted and declared", lost(&status));
    scene.declared(agent, &status)?;
    drop(receiver);
    Ok(())
}

#[test]
fn a_full_disk_under_the_store_acknowledges_nothing_that_is_not_stored_and_all_arrives_when_there_is_room() {
    if able() {
        // Mounts end with the thread that made them.
        std::thread::spawn(store_disk_full).join().unwrap().unwrap();
    }
}

fn store_disk_full() -> Result<()> {
    let scene = Scene::new()?;
    own_mounts()?;
    let disk = SmallDisk::new(&scene.deployment.file("store"), SMALL_KIB)?;
    let receiver = scene.deployment.start_receiver(&scene.lab.receiving)?;
    let agent = scene.agent()?;
    let load = scene.load(2 * QUIET)?;
    wait_until("a store that cannot", PATIENCE, || receiver.output().contains("store: cannot"))
        .with_context(|| receiver.output())?;
    scene.wait("records that wait", |measure| measure.spool.messages > 20)?;
    let acknowledged = scene.measure()?.delivery.acknowledged_records;
    let stored = identities(&scene.deployment.file("store"))?.stored;
    ensure!(acknowledged > 0 && acknowledged <= stored, "{acknowledged} acknowledged, {stored} stored");
    ensure!(scene.measure()?.delivery.last_error.as_deref() == Some("refused"), "{:?}", scene.measure()?.delivery);

    disk.resize(64 * SMALL_KIB)?;
    scene.wait("acknowledged records", |measure| measure.delivery.acknowledged_records > acknowledged + QUIET)?;
    load.stop()?;
    let status = scene.deployment.settle(|| Ok(())).with_context(|| agent.output())?;
    ensure!(lost(&status) == 0, "{} records were lost", lost(&status));
    println!("{stored} records stored when the disk was full, {} at the end", scene.balanced(&status)?);
    drop((agent, receiver));
    Ok(())
}

#[test]
fn a_peer_that_vanished_without_a_word_is_noticed_by_both_sides_and_delivery_goes_on_when_it_is_back() {
    if able() {
        half_open().unwrap();
    }
}

fn half_open() -> Result<()> {
    let scene = Scene::new()?;
    let receiver = scene.deployment.start_receiver(&scene.lab.receiving)?;
    let agent = scene.agent()?;
    let load = scene.load(QUIET)?;
    scene.wait("acknowledged records", |measure| measure.delivery.acknowledged_records > QUIET)?;
    // Frames go to hardware addresses that nobody has: no FIN, no RST, no error.
    let ends = [(&scene.lab.mirror, RECEIVING, "m1"), (&scene.lab.receiving, MIRROR, "c0")];
    for (host, address, interface) in ends {
        let words = ["neigh", "replace", address, "lladdr", "02:00:00:00:99:99", "dev", interface, "nud", "permanent"];
        host.run("ip", words)?;
    }
    let since = Instant::now();
    let ended = |said: &str| said.matches("session ended").count();
    let (mut by_agent, mut by_receiver) = (None, None);
    while by_agent.is_none() || by_receiver.is_none() {
        ensure!(since.elapsed() < NOTICED_MAX, "noticed by agent {by_agent:?}, by receiver {by_receiver:?}");
        if by_agent.is_none() && ended(&agent.output()) > 0 {
            by_agent = Some(since.elapsed());
        }
        if by_receiver.is_none() && ended(&receiver.output()) > 0 {
            by_receiver = Some(since.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for (host, address, interface) in ends {
        host.run("ip", ["neigh", "del", address, "dev", interface])?;
    }
    let before = scene.measure()?.delivery.acknowledged_records;
    scene.wait("acknowledged records again", |measure| measure.delivery.acknowledged_records > before)?;
    load.stop()?;
    let status = scene.deployment.settle(|| Ok(())).with_context(|| agent.output())?;
    ensure!(lost(&status) == 0, "{} records were lost", lost(&status));
    let stored = scene.balanced(&status)?;
    println!(
        "noticed by the agent after {by_agent:?}, by the facility after {by_receiver:?}; {stored} records stored once"
    );
    drop((agent, receiver));
    Ok(())
}

#[test]
fn a_peer_that_reads_a_little_and_then_waits_keeps_its_session_and_loses_nothing() {
    if able() {
        slow_peer().unwrap();
    }
}

/// What the slow way takes at once, and how long it then waits: some 100 kB/s.
const SLOW: (usize, Duration) = (2_048, Duration::from_millis(20));
/// After so many octets it takes nothing at all for a while.
const SLOW_PAUSE: (u64, Duration) = (60_000, Duration::from_secs(4));
/// Where the facility listens behind the slow way.
const BEHIND: u16 = 4_741;

fn slow_peer() -> Result<()> {
    let scene = Scene::new()?;
    scene.edit("receive.toml", &format!("{RECEIVING}:4740"), &format!("{RECEIVING}:{BEHIND}"))?;
    let receiver = scene.deployment.start_receiver(&scene.lab.receiving)?;
    let passed = slow_way(&scene)?;
    let agent = scene.agent()?;
    let load = scene.load(QUIET)?;
    wait_until("octets behind the pause", PATIENCE, || passed.load(Ordering::Relaxed) > 2 * SLOW_PAUSE.0)?;
    load.stop()?;
    let status = scene.deployment.settle(|| Ok(())).with_context(|| agent.output())?;
    ensure!(lost(&status) == 0, "{} records were lost", lost(&status));
    let delivery = scene.measure()?.delivery;
    ensure!((delivery.sessions, delivery.failures, delivery.resent_messages) == (1, 0, 0), "{delivery:?}");
    println!(
        "{} records stored once, {} octets through one slow session",
        scene.balanced(&status)?,
        passed.load(Ordering::Relaxed)
    );
    drop((agent, receiver));
    Ok(())
}

/// Stands where the facility is expected, with next to no buffer; counts what it passes on. It ends with the connection.
fn slow_way(scene: &Scene) -> Result<Arc<AtomicU64>> {
    let listener = scene.lab.receiving.enter(|| TcpListener::bind((RECEIVING, 4_740)))??;
    setsockopt(&listener, sockopt::RcvBuf, &4_096)?;
    let passed = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&passed);
    drop(scene.lab.receiving.spawn("slow", move || {
        let (near, _) = listener.accept()?;
        let far = TcpStream::connect((RECEIVING, BEHIND))?;
        let (mut answers, mut back) = (far.try_clone()?, near.try_clone()?);
        std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
        let (mut near, mut far) = (near, far);
        let mut buffer = [0; SLOW.0];
        let mut paused = false;
        loop {
            let octets = near.read(&mut buffer)?;
            if octets == 0 {
                return Ok(());
            }
            far.write_all(buffer.get(..octets).unwrap_or_default())?;
            let all = count.fetch_add(octets as u64, Ordering::Relaxed);
            let pause = !paused && all > SLOW_PAUSE.0;
            paused |= pause;
            std::thread::sleep(if pause { SLOW_PAUSE.1 } else { SLOW.1 });
        }
    })?);
    Ok(passed)
}

#[test]
fn a_spool_on_a_disk_without_any_room_takes_again_when_all_it_holds_is_acknowledged() {
    if need::root() {
        // Mounts end with the thread that made them.
        std::thread::spawn(no_room_at_all).join().unwrap().unwrap();
    }
}

fn no_room_at_all() -> Result<()> {
    let directory = tempfile::tempdir()?;
    own_mounts()?;
    let _disk = SmallDisk::new(directory.path(), SMALL_KIB)?;
    let limits = SpoolLimits { bytes_max: 1 << 30, segment_bytes: 64 << 20 };
    let spool = Spool::open(&directory.path().join("spool"), &SpoolKey::new([7; 32]), limits)?;
    let message = [1; 1_000];
    let mut appended = 0;
    while spool.append(&message).is_ok() {
        appended += 1;
    }
    // Somebody else takes whatever room is left.
    let mut filler = std::fs::File::create(directory.path().join("filler"))?;
    while filler.write(&[0; 4_096]).is_ok_and(|written| written > 0) {}
    ensure!(spool.append(&message).is_err(), "there was room");
    ensure!(spool.next_sequence() == appended && spool.status().refused_total == 2, "{:?}", spool.status());
    for sequence in 0..appended {
        ensure!(spool.read(sequence)?.as_deref() == Some(&message[..]), "message {sequence}");
    }
    spool.trim(appended - 1)?;
    ensure!(spool.append(&message)? == appended, "the numbers go on");
    drop(spool);
    let spool = Spool::open(&directory.path().join("spool"), &SpoolKey::new([7; 32]), limits)?;
    ensure!(spool.first_sequence() == appended && spool.next_sequence() == appended + 1, "{:?}", spool.status());
    ensure!(spool.read(appended)?.as_deref() == Some(&message[..]), "what was taken last");
    Ok(())
}
