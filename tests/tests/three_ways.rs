//! "Did you exceed the limit in any second?", answered three ways for a load above the cap: by PromQL against a real
//! Prometheus that scraped the tap, by the signed statement, and by a capture that tcpdump took on the router's side of the
//! mirror, whose times and lengths are its own. They must agree on the limit, on a lower one that was exceeded, on the bytes,
//! and on the height of the worst second.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use tap_tests::deployment::{Deployment, HOST_NAME, Plan, lost, rule, selected};
use tap_tests::lab::{DOMESTIC4, FOREIGN4, Host, Lab, MIRROR_PORT, Process};
use tap_tests::need;
use tap_tests::prometheus::Prometheus;
use tap_userspace::keys::PublicKey;
use tap_userspace::laboratory::capture::Capture;
use tap_userspace::statement::{FACILITY, Statement, read_all};

const CAPACITY_BITS_PER_SECOND: u64 = 40_000_000;
const CAPACITY_BYTES_PER_SECOND: f64 = 5_000_000.0;
const SHARE_PPM: u32 = 300_000;
const SHARE: f64 = 0.3;
/// Three times the cap.
const OFFERED_BITS_PER_SECOND: u64 = 36_000_000;
const FLOWS: u16 = 8;
/// Payload lengths go round from the shortest: a flow's datagrams of one length are this many datagrams, seconds, apart, so
/// that a record's flow, length and time name one captured frame.
const LENGTHS: std::ops::Range<usize> = 200..1_200;
/// Preamble, frame check sequence and gap: what a frame has on the line beside what is captured of it.
const LINE_BYTES: u64 = 24;
/// Half the time after which a flow's length comes again is well above this.
const MATCH_MAX_NS: i128 = 300_000_000;
/// Packets that the laboratory's hosts send by themselves (IPv6 neighbour discovery), and the longest of them on the line.
const STRAYS_MAX: u64 = 20;
const STRAY_BYTES_MAX: f64 = 200.0;
/// The agent looks at what was admitted every 20 ms: its window of a second or more is up to one look longer at either end
/// than the worst second itself.
const LOOKS_MS: i128 = 2 * 20;
const LOOKS: f64 = LOOKS_MS as f64 / 1e3;
/// A reading of the counters takes up to 0.2 ms, and is given the moment in its middle, at either end of a second; twice that, for a
/// machine that is busy with the test itself.
const READ: f64 = 2.0 * 0.0004;
const SECOND_NS: i128 = 1_000_000_000;
const PATIENCE: Duration = Duration::from_secs(15);

#[test]
fn promql_statement_and_capture_agree_whether_the_limit_was_exceeded_in_any_second() {
    let Some(prometheus) = need::tool("prometheus") else { return };
    let Some(tcpdump) = need::tool("tcpdump") else { return };
    if need::root() && need::tool("tc").is_some() {
        three_ways(&prometheus, &tcpdump).unwrap();
    }
}

/// What each way says of the run.
#[derive(Debug)]
struct Answer {
    /// Highest part of the capacity admitted in a second or longer.
    most: f64,
    /// Bytes admitted in all.
    bytes: f64,
}

fn three_ways(prometheus: &Path, tcpdump: &Path) -> Result<()> {
    let lab = Lab::new()?;
    let deployment = Deployment::new(Plan {
        capacity_bits_per_second: CAPACITY_BITS_PER_SECOND,
        share_ppm: SHARE_PPM,
        sets: vec![vec![rule("all", "198.51.100.0/24", "destination-port", 5000, "udp")]],
        ..Plan::default()
    })?;
    let mut receiver = deployment.start_receiver(&lab.receiving)?;
    let mut agent = deployment.start_agent(&lab.mirror)?;
    // A scrape each 250 ms: four of its samples make a second.
    let prometheus = Prometheus::start(&lab.mirror, prometheus, 60)?;
    let file = deployment.file("mirrored.pcap");
    let mut capture = capture(&lab.router, tcpdump, &file, &deployment.file("tcpdump.log"))?;
    lab.start_mirror()?;
    let begun = Instant::now();
    load(&lab, Duration::from_secs(if need::long() { 60 } else { 6 }))?;
    let status = deployment.settle(|| Ok(()))?;
    // At once: the hosts themselves send a packet now and then.
    let books = deployment.books(status, &lab.mirror, MIRROR_PORT)?;
    ensure!(books.balance() && lost(&books.status) == 0, "{:?}", books.equations());
    // Everything that happened has been scraped.
    std::thread::sleep(Duration::from_millis(700));
    let range = format!("{}s", begun.elapsed().as_secs() + 5);
    let (by_promql, offered_by_promql) = by_promql(&prometheus, &range)?;
    capture.terminate(PATIENCE)?;
    ensure!(capture.output().contains("\n0 packets dropped by kernel"), "{}", capture.output());
    agent.terminate(PATIENCE)?;
    receiver.terminate(PATIENCE)?;
    let statements = statements(&deployment)?;
    let by_statement = by_statement(&statements)?;
    let frames = Frames::read(&file)?;
    let (by_capture, apart) = by_capture(&frames, &books.records)?;
    let strays = books.measure().counters.admitted_packets - selected(&books.status);
    println!(
        "limit {SHARE}: PromQL {by_promql:?}, statement {by_statement:?}, capture {by_capture:?} with stamps up to {apart:.6} s \
         apart; offered {:.3} by capture, {offered_by_promql:.3} by PromQL; {strays} packets of the hosts' own",
        frames.worst_second(),
    );

    // The question was worth asking: far more was offered.
    ensure!(frames.worst_second() > 2.0 * SHARE && offered_by_promql > 2.0 * SHARE, "the load was no load");
    let statement_exceeds = |share: f64| {
        let ppm = ppm(share);
        statements.iter().any(|statement| {
            let most = [statement.most_in_a_second, statement.most_in_a_minute, statement.most_in_an_hour];
            most.iter().flatten().any(|most| most.exceeds(statement.capacity_bits_per_second, ppm))
        })
    };
    ensure!(!exceeded_by_promql(&prometheus, &range)?, "PromQL says that the limit was exceeded");
    ensure!(
        !statements.iter().any(Statement::exceeded),
        "the statement says that the limit was exceeded: {statements:?}"
    );
    ensure!(by_capture.most <= SHARE, "the capture says that the limit was exceeded: {by_capture:?}");
    // The same question with a limit that was exceeded: all three say so.
    let lower = by_statement.most * 0.9;
    ensure!(
        by_promql.most > lower && statement_exceeds(lower) && by_capture.most > lower,
        "not all see {lower} exceeded"
    );

    // The page and the statement are made of the same looks.
    ensure!((by_promql.most - by_statement.most).abs() < 1e-6, "{by_promql:?} {by_statement:?}");
    ensure!((by_promql.bytes - by_statement.bytes).abs() < 0.5, "{by_promql:?} {by_statement:?}");
    // The capture has its own times. What it has not is what no rule selected, a handful.
    ensure!(strays <= STRAYS_MAX, "everything but strays is selected");
    let missing = by_statement.bytes - by_capture.bytes;
    ensure!(
        (0.0..=STRAY_BYTES_MAX * 20.0).contains(&missing),
        "{missing} bytes are in no captured frame: {strays} strays"
    );
    let stray_share = missing / CAPACITY_BYTES_PER_SECOND;
    ensure!(
        by_capture.most <= by_statement.most * (1.0 + LOOKS + READ + 2.0 * apart),
        "{by_capture:?} {by_statement:?}"
    );
    ensure!(
        by_statement.most <= by_capture.most * (1.0 + READ + 2.0 * apart) + stray_share,
        "{by_statement:?} {by_capture:?} {apart}"
    );
    Ok(())
}

fn ppm(share: f64) -> u32 {
    // A share is far below a million millionths.
    format!("{:.0}", share * 1e6).parse().unwrap_or(u32::MAX)
}

/// Sends for `time`, above the cap.
fn load(lab: &Lab, time: Duration) -> Result<()> {
    let to = SocketAddr::new(DOMESTIC4.parse()?, 5000);
    // Somebody takes them, or the host would answer with ICMP.
    let sink = lab.domestic.enter(|| UdpSocket::bind(to))??;
    sink.set_read_timeout(Some(Duration::from_millis(50)))?;
    let over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&over);
    let taking = std::thread::spawn(move || {
        let mut buffer = [0_u8; 2_048];
        while !ends.load(Ordering::Relaxed) {
            sink.recv(&mut buffer).ok();
        }
    });
    let sent = lab.foreign.enter(|| send(to, time))?;
    over.store(true, Ordering::Relaxed);
    ensure!(taking.join().is_ok(), "the sink");
    sent
}

fn send(to: SocketAddr, time: Duration) -> Result<()> {
    let socket = |flow: u16| -> Result<UdpSocket> {
        let socket = UdpSocket::bind((FOREIGN4, 20_000 + flow))?;
        socket.connect(to)?;
        Ok(socket)
    };
    let sockets: Vec<UdpSocket> = (0..FLOWS).map(socket).collect::<Result<_>>()?;
    let payload = vec![b'x'; LENGTHS.end];
    let begun = Instant::now();
    let mut sent_bits = 0;
    for length in LENGTHS.cycle() {
        for socket in &sockets {
            // What a full queue loses is not in the capture either.
            socket.send(payload.get(..length).context("a payload")?).ok();
            sent_bits += length as u64 * 8;
        }
        while u128::from(sent_bits) * 1_000_000_000 > begun.elapsed().as_nanos() * u128::from(OFFERED_BITS_PER_SECOND) {
            if begun.elapsed() >= time {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if begun.elapsed() >= time {
            break;
        }
    }
    Ok(())
}

/// tcpdump on the router's end of the mirror: what goes to the tap, before the tap.
fn capture(router: &Host, tcpdump: &Path, file: &Path, log: &Path) -> Result<Process> {
    let mut command = router.command(tcpdump);
    command.args([
        "-i",
        "r-mirror",
        "-n",
        "-s",
        "64",
        "-B",
        "65536",
        "--time-stamp-precision=nano",
        "-Z",
        "root",
        "-w",
    ]);
    command.arg(file);
    let mut process = Process::start("tcpdump", command, log)?;
    process.wait_until("capture", PATIENCE, || {
        std::fs::read_to_string(log).is_ok_and(|said| said.contains("listening on"))
    })?;
    Ok(process)
}

/// The answer in numbers, and the highest part of the capacity that was offered between two scrapes a second apart.
fn by_promql(prometheus: &Prometheus, range: &str) -> Result<(Answer, f64)> {
    let most = prometheus.value(&format!("max_over_time(gwtap_facility_share_used_max_ratio[{range}])"))?;
    let bytes = prometheus.value("gwtap_facility_admitted_bytes_total")?;
    // Between two scrapes the counters alone prove it: bytes by the time that the pages themselves state.
    let rate = |series: &str, milliseconds: u32| {
        format!(
            "max_over_time((({series} - {series} offset {milliseconds}ms) / on (job, instance) group_left () \
             (gwtap_counters_read_boottime_seconds - gwtap_counters_read_boottime_seconds offset {milliseconds}ms))[{range}:250ms])"
        )
    };
    let admitted = prometheus.value(&rate("gwtap_facility_admitted_bytes_total", 1_250))? / CAPACITY_BYTES_PER_SECOND;
    ensure!(admitted <= most + 1e-9, "counters show {admitted} between scrapes, the maximum is {most}");
    // The sample falls a second or so after the load has begun, and with it what is admitted: half a second lies before that whole.
    let reached = prometheus.value(&rate("gwtap_facility_admitted_bytes_total", 500))? / CAPACITY_BYTES_PER_SECOND;
    ensure!(reached > 0.8 * SHARE, "counters show {reached}: the cap was not reached");
    Ok((
        Answer { most, bytes },
        prometheus.value(&rate("gwtap_observed_bytes_total", 1_250))? / CAPACITY_BYTES_PER_SECOND,
    ))
}

/// The question itself, as `deploy/README.md` has it.
fn exceeded_by_promql(prometheus: &Prometheus, range: &str) -> Result<bool> {
    let question = format!(
        "max_over_time((gwtap_facility_share_used_max_ratio > bool gwtap_facility_share_limit_ratio)[{range}:250ms])"
    );
    Ok(prometheus.value(&question)? > 0.0)
}

/// The facility's chain of statements, verified with the public key of the host alone.
fn statements(deployment: &Deployment) -> Result<Vec<Statement>> {
    let key = PublicKey::from_file(&deployment.file(&format!("keys/{HOST_NAME}.pub")))?;
    let directory: PathBuf = deployment.file("state/statements").join(FACILITY);
    let statements = read_all(&directory, &key)?;
    ensure!(statements.last().is_some_and(|last| last.last), "the last statement is missing: {statements:?}");
    Ok(statements)
}

fn by_statement(statements: &[Statement]) -> Result<Answer> {
    let most = |statement: &Statement| {
        let most = statement.most_in_a_second?;
        Some(most.bytes as f64 / (most.window_ns as f64 / 1e9) / CAPACITY_BYTES_PER_SECOND)
    };
    let most = statements.iter().filter_map(most).fold(0.0, f64::max);
    let bytes: u64 = statements.iter().map(|statement| statement.counted.admitted_bytes).sum();
    ensure!(most > 0.0, "no second is stated: {statements:?}");
    Ok(Answer { most, bytes: bytes as f64 })
}

/// What was captured, in order.
struct Frames {
    /// Time in nanoseconds, bytes on the line.
    all: Vec<(i128, u64)>,
    /// Places in it by source port and IP length.
    places: HashMap<(u64, u64), Vec<usize>>,
}

impl Frames {
    fn read(file: &Path) -> Result<Self> {
        let mut frames = Self { all: Vec::new(), places: HashMap::new() };
        for packet in Capture::open(file)? {
            let packet = packet?;
            let two = |at: usize| match packet.frame.get(at..at + 2) {
                Some([high, low]) => u64::from(u16::from_be_bytes([*high, *low])),
                _ => 0,
            };
            if two(12) == 0x0800 {
                frames.places.entry((two(34), two(16))).or_default().push(frames.all.len());
            }
            frames.all.push((i128::from(packet.time_ns), u64::from(packet.original_bytes) + LINE_BYTES));
        }
        Ok(frames)
    }

    /// Part of the capacity in the worst second of everything captured.
    fn worst_second(&self) -> f64 {
        worst_second(&self.all)
    }
}

/// What the capture says of what was admitted: every record names a captured frame, and the frame's own time and length
/// count. Gives also the most that a frame's stamp is apart from its record's, in seconds.
fn by_capture(frames: &Frames, records: &[Value]) -> Result<(Answer, f64)> {
    let mut taken = vec![false; frames.all.len()];
    let mut apart_ns = 0;
    for record in records {
        let number = |name: &str| record.get(name).and_then(Value::as_u64).with_context(|| format!("{name}: {record}"));
        let time: Timestamp = record.get("time").and_then(Value::as_str).context("a time")?.parse()?;
        let places = frames.places.get(&(number("source_port")?, number("ip_length")?));
        let away =
            |place: &usize| frames.all.get(*place).map_or(i128::MAX, |(at, _)| (at - time.as_nanosecond()).abs());
        let place = places.into_iter().flatten().copied().min_by_key(away);
        let place =
            place.filter(|place| away(place) < MATCH_MAX_NS).with_context(|| format!("not captured: {record}"))?;
        let (slot, bytes) = taken.get_mut(place).zip(frames.all.get(place)).context("a frame")?;
        ensure!(!std::mem::replace(slot, true), "two records are of one captured frame: {record}");
        ensure!(bytes.1 == number("line_bytes")?, "{} bytes were captured: {record}", bytes.1);
        apart_ns = apart_ns.max(away(&place));
    }
    let admitted: Vec<(i128, u64)> =
        frames.all.iter().zip(&taken).filter(|(_, taken)| **taken).map(|(frame, _)| *frame).collect();
    let bytes: u64 = admitted.iter().map(|(_, bytes)| bytes).sum();
    Ok((Answer { most: worst_second_or_longer(&admitted), bytes: bytes as f64 }, apart_ns as f64 / 1e9))
}

/// Part of the capacity in the worst second: for each frame, those up to it that are less than a second older.
fn worst_second(frames: &[(i128, u64)]) -> f64 {
    let mut first = frames.iter().peekable();
    let (mut bytes, mut worst) = (0, 0);
    for (time, more) in frames {
        bytes += more;
        while let Some((_, gone)) = first.next_if(|(old, _)| time - old >= SECOND_NS) {
            bytes -= gone;
        }
        worst = worst.max(bytes);
    }
    worst as f64 / CAPACITY_BYTES_PER_SECOND
}

/// The same of a second or longer, up to [`LOOKS`] longer, as the agent's windows are: credit comes in epochs, and a window with one more
/// of them may be fuller than every second in it.
fn worst_second_or_longer(frames: &[(i128, u64)]) -> f64 {
    let longest_ns = SECOND_NS + SECOND_NS * LOOKS_MS / 1_000;
    let mut worst = worst_second(frames);
    for (last, (end, _)) in frames.iter().enumerate() {
        let mut bytes = 0;
        for (start, more) in frames.iter().take(last + 1).rev().take_while(|(start, _)| end - start <= longest_ns) {
            bytes += more;
            let length = (end - start).max(SECOND_NS) as f64 / SECOND_NS as f64;
            worst = worst.max(bytes as f64 / length / CAPACITY_BYTES_PER_SECOND);
        }
    }
    worst
}
