//! What we send as a flow collector that people run reads it (nfcapd and nfdump), and what an exporter that people run sends as
//! we store it (softflowd). In: sessions over TLS, whose other end is socat. Out: every record compared, and sums against the exporter's own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helper reports by panicking"
)]
#![allow(dead_code, reason = "the parts are shared with the other interoperation tests")]

mod interop;

use std::net::{Ipv6Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use interop::kit::{Kit, records};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tap_tests::need;
use tap_userspace::ipfix::decode::{Templates, message};
use tap_userspace::ipfix::message::Header;
use tap_userspace::ipfix::template::RecordTemplate;
use tap_userspace::path::PseudonymisedRecord;

/// Elements of IANA's registry: octetDeltaCount, packetDeltaCount, protocolIdentifier.
const OCTETS: u16 = 1;
const PACKETS: u16 = 2;
const PROTOCOL: u16 = 4;

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

impl Running {
    fn ended(&mut self, what: &str) {
        for _ in 0..1_000 {
            if self.0.try_wait().unwrap().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what} did not end");
    }
}

#[test]
fn nfdump_reads_time_packets_and_octets_of_every_record() {
    let tools = ["socat", "nfcapd", "nfdump"].map(need::tool);
    let [Some(socat), Some(nfcapd), Some(nfdump)] = tools else { return };
    let kit = Kit::new();
    let records = records(700);
    let (session, _) = kit.session_through_socat(&socat, &records, RecordTemplate::Flow);

    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let flows = kit.path("flows");
    std::fs::create_dir(&flows).unwrap();
    let mut command = Command::new(nfcapd);
    command.args(["-b", "127.0.0.1", "-t", "3600", "-p"]).arg(port.to_string()).arg("-w").arg(&flows);
    let mut collector = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    listening(port);
    // It takes IPFIX over UDP alone: a message a datagram (RFC 7011, section 10.3).
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for message in messages(&session) {
        sender.send_to(message, ("127.0.0.1", port)).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    kill(Pid::from_raw(i32::try_from(collector.0.id()).unwrap()), Signal::SIGTERM).unwrap();
    collector.ended("nfcapd");

    let output = Command::new(nfdump).env("TZ", "UTC").args(["-o", "json", "-R"]).arg(&flows).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found.len(), records.len());
    for (number, (found, record)) in found.iter().zip(&records).enumerate() {
        let values = nfdump_values(record);
        for (key, value) in &values {
            assert_eq!(found[*key], *value, "record {number}, {key}: {found}");
        }
    }
}

fn nfdump_values(record: &PseudonymisedRecord) -> Vec<(&'static str, Value)> {
    let milliseconds = i64::try_from(record.time.0 / 1_000_000).unwrap();
    let time = jiff::Timestamp::from_millisecond(milliseconds).unwrap();
    let time = format!("{time:.3}").replace('Z', "");
    let address = |bytes| Value::from(Ipv6Addr::from(bytes).to_string());
    vec![
        ("first", time.clone().into()),
        ("last", time.into()),
        ("in_packets", 1.into()),
        ("in_bytes", record.ip_length.into()),
        ("proto", record.protocol.into()),
        ("src_port", record.source_port.unwrap_or(0).into()),
        ("dst_port", record.destination_port.unwrap_or(0).into()),
        ("src6_addr", address(record.source.bytes)),
        ("dst6_addr", address(record.destination.bytes)),
    ]
}

/// Waits until somebody listens on the UDP port.
fn listening(port: u16) {
    let local = format!("0100007F:{port:04X} ");
    for _ in 0..500 {
        if std::fs::read_to_string("/proc/net/udp").unwrap().contains(&local) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nobody listens on UDP port {port}");
}

/// The messages of a session, one after another.
fn messages(mut session: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some(header) = session.first_chunk().and_then(Header::read) {
        let (message, rest) = session.split_at(usize::from(header.length));
        messages.push(message);
        session = rest;
    }
    assert!(session.is_empty(), "{} octets are left", session.len());
    messages
}

#[test]
fn what_softflowd_exports_is_stored_whole() {
    let (Some(socat), Some(softflowd)) = (need::tool("socat"), need::tool("softflowd")) else { return };
    let kit = Kit::new();
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/zeek__wikipedia.pcap");
    let (said, stored_records) = kit.received(|facility| {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut tls = Running(
            Command::new(&socat)
                .arg("-u")
                .arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr"))
                .arg(format!(
                    "OPENSSL:localhost:{facility},openssl-min-proto-version=TLS1.3,cafile={},cert={},key={}",
                    kit.path("ca.pem").display(),
                    kit.path("host.pem").display(),
                    kit.path("host.key").display()
                ))
                .stdin(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let said = softflowd_run(&softflowd, &capture, port, &kit.path("softflowd.pid"));
        tls.ended("socat");
        said
    });
    let sums = peer_sums(&kit.path("store/peers"));
    assert_eq!(u64::from(sums.records), stored_records);
    assert_eq!(sums.records, number_before(&said, " records)"), "{said}");
    for (protocol, name) in [(6, "tcp (6):"), (17, "udp (17):")] {
        let line = said.lines().find(|line| line.contains(name)).unwrap();
        let mut told = line.split(name).nth(1).unwrap().split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
        let stored = sums.of(protocol);
        assert_eq!((Some(stored.0), Some(stored.1)), (told.next(), told.next()), "octets and packets of {name} {said}");
        assert!(stored.1 > 0);
    }
}

/// Flows of the capture to a collector on `port`; what it says at its end. A collector that does not listen yet is tried again.
fn softflowd_run(softflowd: &Path, capture: &Path, port: u16, pid: &Path) -> String {
    for _ in 0..100 {
        let output = Command::new(softflowd)
            .args(["-d", "-v", "10", "-P", "tcp", "-n"])
            .arg(format!("127.0.0.1:{port}"))
            .arg("-r")
            .arg(capture)
            .arg("-p")
            .arg(pid)
            .args(["-c", "none"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if said.contains("(0 failures)") {
            return said;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("softflowd reaches no collector");
}

/// The number in front of `words`.
fn number_before(text: &str, words: &str) -> u32 {
    let before = text.split(words).next().unwrap();
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap();
    digits.parse().unwrap()
}

/// What lies in the store of other exporters.
#[derive(Default)]
struct Sums {
    records: u32,
    /// Protocol, octets, packets of each flow.
    flows: Vec<(u64, u64, u64)>,
}

impl Sums {
    /// Octets and packets of a protocol.
    fn of(&self, protocol: u64) -> (u64, u64) {
        let of = self.flows.iter().filter(|flow| flow.0 == protocol);
        of.fold((0, 0), |sum, flow| (sum.0 + flow.1, sum.1 + flow.2))
    }
}

fn peer_sums(peers: &Path) -> Sums {
    let mut sums = Sums::default();
    for peer in std::fs::read_dir(peers).unwrap() {
        for session in std::fs::read_dir(peer.unwrap().path()).unwrap() {
            for file in std::fs::read_dir(session.unwrap().path()).unwrap() {
                let bytes = std::fs::read(file.unwrap().path()).unwrap();
                let mut templates = Templates::default();
                for octets in messages(&bytes) {
                    let decoded = message(octets, &mut templates).unwrap();
                    for (template, record) in decoded.records().filter(|(template, _)| template.scope == 0) {
                        let value = |id: u16| {
                            let place =
                                template.fields.iter().position(|field| field.id == id && field.enterprise.is_none());
                            place.map_or(0, |place| {
                                record.values[place].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
                            })
                        };
                        sums.records += 1;
                        sums.flows.push((value(PROTOCOL), value(OCTETS), value(PACKETS)));
                    }
                }
            }
        }
    }
    sums
}
