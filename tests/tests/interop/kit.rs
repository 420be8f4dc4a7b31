//! Records, certificates, a session behind socat, a stored file.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tap_userspace::ipfix::encode::{self, Anonymisation, RuleTable};
use tap_userspace::ipfix::selection::{self, Step, Totals};
use tap_userspace::ipfix::template::RecordTemplate;
use tap_userspace::keys::HostKeyId;
use tap_userspace::path::export::{self, Acknowledgement, ExportConfig, ExportStatus};
use tap_userspace::path::spool::{Spool, SpoolKey, SpoolLimits};
use tap_userspace::path::{AddressKind, ExportedAddress, PseudonymisedRecord, UnixNs};
use tap_userspace::receive::Receiver;
use tap_userspace::receive::config::ReceiveConfig;
use tap_userspace::transport::tls::TlsFiles;
use tempfile::TempDir;
use tokio::sync::watch;

pub(crate) const HOST: HostKeyId = HostKeyId([0x11; 32]);
pub(crate) const INSTANCE: [u8; 16] = [0x22; 16];
pub(crate) const SET_SHA256: [u8; 32] = [0x33; 32];
/// What the measure's steps were given and let through; a full ring lost 9 records, the spool none.
pub(crate) const TOTALS: Totals = Totals {
    measure: 1,
    sample: Step { observed: 1_000, selected: 251 },
    selection: Step { observed: 251, selected: 40 },
    ring: Step { observed: 40, selected: 31 },
    spool: Step { observed: 30, selected: 30 },
};
pub(crate) const RULES: [&str; 3] = ["r-one", "r-two", "r-three"];

/// Records that differ in every field, with each optional field there and not there.
pub(crate) fn records(count: u64) -> Vec<PseudonymisedRecord> {
    let kinds = [AddressKind::Clear, AddressKind::Deterministic, AddressKind::PrefixPreserving];
    (0..count)
        .map(|n| {
            let byte = u8::try_from(n % 251).unwrap();
            let pick = |offset: u64| kinds[usize::try_from((n + offset) % 3).unwrap()];
            PseudonymisedRecord {
                time: UnixNs(1_790_000_000_000_000_000 + n * 7_000_000_013),
                source: ExportedAddress { bytes: [byte; 16], kind: pick(0) },
                destination: ExportedAddress {
                    bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 203, 0, 113, byte],
                    kind: pick(1),
                },
                source_port: (!n.is_multiple_of(4)).then_some(1_024 + u16::from(byte)),
                destination_port: (!n.is_multiple_of(4)).then_some(443),
                protocol: if n.is_multiple_of(2) { 6 } else { 17 },
                tcp_flags: n.is_multiple_of(2).then_some(byte),
                ip_version: if n.is_multiple_of(3) { 4 } else { 6 },
                direction: u8::try_from(1 + n % 3).unwrap(),
                line_bytes: 84 + u32::try_from(n).unwrap(),
                ip_length: 60 + u32::try_from(n).unwrap(),
                fragment: u8::try_from(n % 3).unwrap(),
                sliced: n.is_multiple_of(5),
                measure: byte % 8,
                generation: u64::MAX - n,
                rules: [1 << (n % 64), n, 0, 1 << 63],
                cpu: u32::try_from(n % 128).unwrap(),
                sequence: n,
                key_epoch: u32::MAX - u32::try_from(n).unwrap(),
            }
        })
        .collect()
}

/// A directory with an authority and both sides' certificates.
pub(crate) struct Kit {
    directory: TempDir,
}

impl Kit {
    pub(crate) fn new() -> Self {
        let kit = Self { directory: tempfile::tempdir().unwrap() };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        std::fs::write(kit.path("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for name in ["facility", "host"] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(kit.path(&format!("{name}.pem")), certificate.pem()).unwrap();
            std::fs::write(kit.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
            let sha256 = hex::encode(tap_userspace::keys::sha256(certificate.der()));
            std::fs::write(kit.path(&format!("{name}.sha256")), sha256).unwrap();
        }
        kit
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A spool with a rule table, a selection sequence and `records`.
    fn spool(&self, records: &[PseudonymisedRecord], template: RecordTemplate) -> Spool {
        let limits = SpoolLimits { bytes_max: 64 << 20, segment_bytes: 1 << 20 };
        let spool = Spool::open(&self.path("spool"), &SpoolKey::new([7; 32]), limits).unwrap();
        let rules = RULES.map(String::from);
        let table =
            RuleTable { measure: 1, measure_id: "m-1", generation: 5, set_sha256: SET_SHA256, rules: rules.as_slice() };
        let mut bodies = encode::rule_table(&table);
        bodies.push(selection::body(&TOTALS, 250_000, &INSTANCE));
        bodies.extend(encode::record_sets(records, template, &INSTANCE));
        for body in bodies {
            spool.append(&body).unwrap();
        }
        spool
    }

    /// Exports a spool with `records` to `port` until it is empty.
    async fn export(&self, port: u16, spool: &Spool, acknowledgement: Acknowledgement) {
        let config = ExportConfig {
            receivers: vec![export::Receiver {
                endpoint: format!("127.0.0.1:{port}"),
                server_name: "localhost".into(),
            }],
            tls: TlsFiles {
                ca: self.path("ca.pem"),
                certificate: self.path("host.pem"),
                key: self.path("host.key"),
                revocations: None,
            },
            acknowledgement,
            anonymisation: Anonymisation::Deterministic,
            stream: None,
        };
        let status = Arc::new(ExportStatus::default());
        let (stop, shutdown) = watch::channel(false);
        let task = tokio::spawn(export::run(config, HOST, spool.clone(), Arc::clone(&status), shutdown));
        for _ in 0..2_000 {
            if spool.first_sequence() == spool.next_sequence() {
                stop.send(true).unwrap();
                task.await.unwrap().unwrap();
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the spool was not delivered: {:?}", status.last_error());
    }

    /// The octets of the session in which `records` are exported, as a collector behind socat gets them, and the
    /// spool's UUID.
    pub(crate) fn session_through_socat(
        &self,
        socat: &Path,
        records: &[PseudonymisedRecord],
        template: RecordTemplate,
    ) -> (Vec<u8>, [u8; 16]) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = self.path("session");
        let listen = format!(
            "OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,verify=1,openssl-min-proto-version=TLS1.3,cafile={},cert={},key={}",
            self.path("ca.pem").display(),
            self.path("facility.pem").display(),
            self.path("facility.key").display()
        );
        let into = format!("OPEN:{},creat,append", file.display());
        let mut socat = Socat(Command::new(socat).args(["-u", &listen, &into]).stdin(Stdio::null()).spawn().unwrap());
        let spool = self.spool(records, template);
        runtime().block_on(self.export(port, &spool, Acknowledgement::None));
        // The session is over: socat writes what it has and ends by itself.
        for _ in 0..1_000 {
            if socat.0.try_wait().unwrap().is_some() {
                return (std::fs::read(file).unwrap(), spool.uuid());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("socat did not end with its session");
    }

    /// Runs `work` beside a receiving facility, whose port it is given; its answer, and how many records were stored.
    pub(crate) fn received<T>(&self, work: impl FnOnce(u16) -> T) -> (T, u64) {
        let runtime = runtime();
        let receiver = runtime.block_on(Receiver::bind(self.receive_config())).unwrap();
        let (port, status) = (receiver.address().unwrap().port(), receiver.status());
        let (stop, shutdown) = watch::channel(false);
        let serving = runtime.spawn(receiver.serve(shutdown));
        let answer = work(port);
        // What was sent is read to its end before the sessions are.
        for _ in 0..500 {
            if status.sessions_open.load(Relaxed) == 0 && status.sessions_total.load(Relaxed) > 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.send(true).unwrap();
        runtime.block_on(serving).unwrap();
        (answer, status.stored_records.load(Relaxed))
    }

    fn receive_config(&self) -> ReceiveConfig {
        let text = format!(
            "[listen]\naddress = \"127.0.0.1:0\"\n[tls]\nca_file = \"ca.pem\"\ncertificate_file = \"facility.pem\"\n\
             key_file = \"facility.key\"\n[store]\ndirectory = \"store\"\n[[host]]\nid = \"{HOST}\"\n\
             certificate_sha256 = \"{}\"\n",
            std::fs::read_to_string(self.path("host.sha256")).unwrap()
        );
        std::fs::write(self.path("receive.toml"), text).unwrap();
        ReceiveConfig::read(&self.path("receive.toml")).unwrap()
    }

    /// The stored file with `records`, which fit one message.
    pub(crate) fn stored_file(&self, records: &[PseudonymisedRecord], template: RecordTemplate) -> PathBuf {
        let config = self.receive_config();
        let spool = self.spool(records, template);
        let last = spool.next_sequence() - 1;
        runtime().block_on(async {
            let receiver = Receiver::bind(config).await.unwrap();
            let port = receiver.address().unwrap().port();
            let (stop, shutdown) = watch::channel(false);
            let serving = tokio::spawn(receiver.serve(shutdown));
            self.export(port, &spool, Acknowledgement::Required).await;
            stop.send(true).unwrap();
            serving.await.unwrap();
        });
        let spool = hex::encode(spool.uuid());
        self.path("store").join(HOST.to_string()).join(spool).join(format!("{last:020}.ipfix"))
    }
}

/// A process that ends with the test.
struct Socat(Child);

impl Drop for Socat {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
