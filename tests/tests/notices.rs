//! Notices to the Commission (Art. 30): the real tap, receiving facility and endpoint, and whoever of them is killed.
//!
//! In: traffic or receipts, and processes that end at random moments. Out: what the endpoint has and what the outbox has, held
//! against what the law asks: each kind once for a measure's day with records and once for its end, without a gap.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use jiff::civil::Date;
use tap_tests::deployment::{Deployment, HOST_NAME, MEASURE, Plan, SERVER_NAME, rule, selected};
use tap_tests::lab::traffic::{Rate, UdpLoad};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Host, Lab, Process, RECEIVING, wait_until};
use tap_tests::random::Random;
use tap_tests::{gwtap, need};
use tap_userspace::control::{Request, Response, client};
use tap_userspace::directive::{Directive, Kind as What};
use tap_userspace::ipfix::encode::receipt_set;
use tap_userspace::keys::note;
use tap_userspace::keys::{HostKeyId, PublicKey, SecretKey};
use tap_userspace::notice::outbox::{Kept, read_all};
use tap_userspace::notice::{self, Event, Kind, Occasion, Receipt, Totals, VERSION};
use tap_userspace::order;
use tap_userspace::path::export::{self, ExportConfig};
use tap_userspace::path::spool::{Spool, SpoolKey, SpoolLimits};
use tap_userspace::transport::tls::TlsFiles;

const PATIENCE: Duration = Duration::from_secs(30);
/// Rounds of killing, and in a long run.
const ROUNDS: u64 = 10;
const ROUNDS_LONG: u64 = 250;
/// Some are killed before they are up, some at work.
const ROUND_MS_MAX: u64 = 700;
/// Where the endpoint listens, in the receiving side's namespace.
const ENDPOINT: &str = "127.0.0.1:8443";
const METRICS: &str = "127.0.0.1:9465";
/// Without an acknowledgement for so long a notice is late, and an end that no tap reports is noticed without one.
const LATE_SECONDS: u64 = 2;

fn plan() -> Plan {
    Plan { sets: vec![vec![rule("beacon", "198.51.100.0/24", "destination-port", 5000, "udp")]], ..Plan::default() }
}

fn able() -> bool {
    need::root() && need::tool("tc").is_some()
}

/// The three processes, and those of them that run.
struct Told<'a> {
    deployment: &'a Deployment,
    receiving: &'a Host,
    mirror: Option<&'a Host>,
    running: [Option<Process>; 3],
}

const ENDPOINT_PROCESS: usize = 0;
const RECEIVER_PROCESS: usize = 1;
const TAP_PROCESS: usize = 2;

impl<'a> Told<'a> {
    fn new(deployment: &'a Deployment, receiving: &'a Host, mirror: Option<&'a Host>) -> Result<Self> {
        let told = Self::untold(deployment, receiving, mirror)?;
        told.tell()?;
        Ok(told)
    }

    /// Nobody is to be told yet.
    fn untold(deployment: &'a Deployment, receiving: &'a Host, mirror: Option<&'a Host>) -> Result<Self> {
        let file = deployment.file("receive.toml");
        let mut text = std::fs::read_to_string(&file)?;
        write!(text, "\n[metrics]\nlisten = \"{METRICS}\"\n")?;
        std::fs::write(&file, text)?;
        Ok(Self { deployment, receiving, mirror, running: [None, None, None] })
    }

    /// Adds the table that says whom to tell.
    fn tell(&self) -> Result<()> {
        let file = self.deployment.file("receive.toml");
        let mut text = std::fs::read_to_string(&file)?;
        write!(
            text,
            "\n[notices]\nname = \"receiving-1\"\nkey_file = \"keys/facility.key\"\n\
             endpoint = \"{ENDPOINT}\"\nserver_name = \"{SERVER_NAME}\"\nca_file = \"tls/ca.pem\"\n\
             commission_key_file = \"keys/commission.pub\"\nlate_seconds = {LATE_SECONDS}\n"
        )?;
        Ok(std::fs::write(&file, text)?)
    }

    /// Starts who is away, without waiting for them.
    fn start(&mut self) -> Result<()> {
        for which in [ENDPOINT_PROCESS, RECEIVER_PROCESS, TAP_PROCESS] {
            self.start_one(which)?;
        }
        Ok(())
    }

    fn start_one(&mut self, which: usize) -> Result<()> {
        let host = if which == TAP_PROCESS { self.mirror } else { Some(self.receiving) };
        let Some(host) = host else { return Ok(()) };
        let slot = self.running.get_mut(which).context("a process")?;
        if slot.is_some() {
            return Ok(());
        }
        let mut command = host.command(gwtap::binary()?);
        command.current_dir(self.deployment.path());
        let verb = match which {
            ENDPOINT_PROCESS => {
                command.args(["commission", "--listen", ENDPOINT, "--ca", "tls/ca.pem", "--certificate"]);
                command.args([
                    &format!("tls/{SERVER_NAME}.pem"),
                    "--certificate-key",
                    &format!("tls/{SERVER_NAME}.key"),
                ]);
                command.args(["--key", "keys/commission.key", "--facility", "keys/facility.pub"]);
                command.args(["--directory", "commission"]);
                "commission"
            }
            RECEIVER_PROCESS => {
                command.args(["receive", "--config", "receive.toml"]);
                "receive"
            }
            _ => {
                // A host with a BPF file system of its own has no place for a working directory.
                command.args(["run", "--config"]).arg(self.deployment.file("gwtap.toml"));
                "run"
            }
        };
        *slot = Some(Process::start(verb, command, &self.deployment.file(&format!("{verb}.log")))?);
        Ok(())
    }

    fn kill(&mut self, which: usize) -> Result<()> {
        self.running.get_mut(which).and_then(Option::take).map_or(Ok(()), |mut process| process.kill())
    }

    fn said(&self) -> String {
        self.running
            .iter()
            .flatten()
            .map(|process| process.output().chars().rev().take(2_000).collect::<String>())
            .map(|tail| tail.chars().rev().collect::<String>() + "\n")
            .collect()
    }

    /// The outbox, verified whole, as `gwtap notices` does.
    fn outbox(&self) -> Result<Vec<Kept>> {
        let public = |name: &str| PublicKey::from_file(&self.deployment.file(&format!("keys/{name}.pub")));
        Ok(read_all(&self.deployment.file("store/notices"), &public("facility")?, &public("commission")?)?)
    }

    /// Waits for the acknowledgement of so many notices, and for no more than those.
    fn acknowledged(&self, count: usize) -> Result<Vec<Kept>> {
        let done = || {
            self.outbox().is_ok_and(|all| all.len() >= count && all.iter().all(|kept| kept.acknowledgement.is_some()))
        };
        wait_until("acknowledged notices", PATIENCE, done)
            .with_context(|| format!("{:?} of {count}; {}", self.outbox().map(|all| all.len()), self.said()))?;
        // What is said twice would come now.
        std::thread::sleep(Duration::from_millis(500));
        let all = self.outbox()?;
        ensure!(all.len() == count, "{} notices instead of {count}: {:?}", all.len(), subjects(&all));
        self.endpoint_has(&all)?;
        Ok(all)
    }

    /// The endpoint's files are the outbox's, octet for octet, and no others.
    fn endpoint_has(&self, all: &[Kept]) -> Result<()> {
        let directory = self.deployment.file("commission");
        let files = std::fs::read_dir(&directory)?.filter_map(Result::ok).map(|entry| entry.path());
        let notes = files.filter(|path| path.extension().is_some_and(|extension| extension == "note")).count();
        ensure!(notes == all.len(), "the endpoint has {notes} of {}", all.len());
        for (number, kept) in (1..).zip(all) {
            let there = std::fs::read_to_string(directory.join(format!("{number:08}.note")))?;
            ensure!(there == kept.text && kept.notice.number == number, "notice {number} differs at the endpoint");
        }
        Ok(())
    }

    fn metric(&self, name: &str) -> Option<u64> {
        let page = self.receiving.run("curl", ["-s", &format!("http://{METRICS}/metrics")]).ok()?;
        page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

fn subjects(all: &[Kept]) -> BTreeSet<(Kind, Occasion)> {
    all.iter().map(|kept| (kept.notice.kind, kept.notice.occasion.clone())).collect()
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

/// Receipts as a tap signs them, out of a spool of this process.
struct Taps {
    key: SecretKey,
    spool: Spool,
}

impl Taps {
    fn new(deployment: &Deployment) -> Result<Self> {
        let limits = SpoolLimits { bytes_max: 64 << 20, segment_bytes: 1 << 20 };
        let spool = Spool::open(&deployment.file("receipts"), &SpoolKey::new([7; 32]), limits)?;
        Ok(Self { key: SecretKey::from_file(&deployment.file(&format!("keys/{HOST_NAME}.key")))?, spool })
    }

    fn say(&self, order: &str, event: Event) -> Result<()> {
        let receipt = Receipt {
            version: VERSION,
            host_key: self.key.public().to_string(),
            measure: MEASURE.to_owned(),
            facility: "facility-1".to_owned(),
            order_sha256: order.to_owned(),
            chain_sha256: String::new(),
            time: Timestamp::now(),
            event,
            totals: Totals::default(),
        };
        self.raw(&notice::sign(&receipt, &self.key)?)
    }

    fn raw(&self, note: &str) -> Result<()> {
        self.spool.append(&receipt_set(note).context("a receipt's set")?)?;
        Ok(())
    }

    /// Exports from `host` until `stop` says so.
    fn export(&self, deployment: &Deployment, host: &Host) -> Result<tokio::sync::watch::Sender<bool>> {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let tls = |name: &str| deployment.file(&format!("tls/{name}"));
        let config = ExportConfig {
            receivers: vec![export::Receiver {
                endpoint: format!("{RECEIVING}:4740"),
                server_name: SERVER_NAME.to_owned(),
            }],
            tls: TlsFiles {
                ca: tls("ca.pem"),
                certificate: tls(&format!("{HOST_NAME}.pem")),
                key: tls(&format!("{HOST_NAME}.key")),
                revocations: None,
            },
            acknowledgement: export::Acknowledgement::Required,
            anonymisation: tap_userspace::ipfix::encode::Anonymisation::default(),
        };
        let (id, spool) = (HostKeyId::of(&self.key.public()), self.spool.clone());
        host.spawn("exporter", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(export::run(config, id, spool, Arc::default(), stopped))?)
        })?;
        Ok(stop)
    }
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
