//! What the tests share: an authority, both sides' files, a spool with records, a running receiving facility.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ipfix::encode::{self, Anonymisation, RuleTable};
use crate::ipfix::template::RecordTemplate;
use crate::keys::{HostKeyId, sha256};
use crate::path::export::{self, Acknowledgement, ExportConfig, ExportError, ExportStatus};
use crate::path::spool::{Spool, SpoolKey, SpoolLimits};
use crate::path::{AddressKind, ExportedAddress, PseudonymisedRecord, UnixNs};
use crate::receive::config::ReceiveConfig;
use crate::receive::read::{StoredRecord, records};
use crate::receive::status::ReceiveStatus;
use crate::receive::{ReceiveError, Receiver};
use crate::transport::tls::TlsFiles;

pub(super) const HOST: HostKeyId = HostKeyId([0x11; 32]);
pub(super) const INSTANCE: [u8; 16] = [0x22; 16];

/// A directory with an authority's certificate and those of both sides.
pub(super) struct Kit {
    pub(super) directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    /// Number of the next certificate.
    certificates: AtomicU64,
}

/// An authority of its own, whose certificates nobody else trusts.
fn issuer(directory: &Path, name: &str) -> Issuer<'static, KeyPair> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
    Issuer::new(params, key)
}

impl Kit {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let issuer = issuer(directory.path(), "ca");
        let kit = Self { directory, issuer, certificates: AtomicU64::new(1) };
        kit.certificate("facility", &kit.issuer);
        kit.certificate("host", &kit.issuer);
        kit
    }

    /// Makes `NAME.pem` and `NAME.key`; gives the certificate's SHA-256.
    fn certificate(&self, name: &str, issuer: &Issuer<'_, KeyPair>) -> [u8; 32] {
        self.certificate_until(name, issuer, OffsetDateTime::now_utc() + time::Duration::days(1))
    }

    /// The same, valid from yesterday until `not_after`.
    fn certificate_until(&self, name: &str, issuer: &Issuer<'_, KeyPair>, not_after: OffsetDateTime) -> [u8; 32] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = OffsetDateTime::now_utc() - time::Duration::days(2);
        params.not_after = not_after;
        let serial = self.certificates.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.signed_by(&key, issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        sha256(certificate.der())
    }

    /// A certificate of the same authority that no host is listed with.
    pub(super) fn another_certificate(&self, name: &str) {
        self.certificate(name, &self.issuer);
    }

    /// A certificate of the authority that ended an hour ago.
    pub(super) fn expired_certificate(&self, name: &str) {
        self.certificate_until(name, &self.issuer, OffsetDateTime::now_utc() - time::Duration::hours(1));
    }

    /// Makes `revoked.pem`, the authority's list of the certificates it made with these numbers (from 1); current for a day, or not.
    pub(super) fn revoke(&self, serials: &[u64], is_current: bool) {
        let now = OffsetDateTime::now_utc();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now - time::Duration::hours(1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now - time::Duration::days(2),
            next_update: if is_current { now + time::Duration::days(1) } else { now - time::Duration::hours(1) },
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        std::fs::write(self.path("revoked.pem"), list.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
    }

    /// A certificate of an authority that is not trusted.
    pub(super) fn foreign_certificate(&self, name: &str) {
        let foreign = issuer(self.directory.path(), "foreign-ca");
        self.certificate(name, &foreign);
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn files(&self, name: &str) -> TlsFiles {
        TlsFiles {
            ca: self.path("ca.pem"),
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
            revocations: Some(self.path("revoked.pem")).filter(|path| path.exists()),
        }
    }

    pub(super) fn fingerprint(&self, name: &str) -> [u8; 32] {
        use rustls::pki_types::pem::PemObject as _;
        let certificate = rustls::pki_types::CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).unwrap();
        sha256(&certificate)
    }

    pub(super) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Starts a receiving facility on `port` (0: any).
    pub(super) async fn receiver(&self, port: u16) -> Result<Running, ReceiveError> {
        self.receiver_with(port, "store", "").await
    }

    /// The same with a store of its own, and `more` about its host.
    pub(super) async fn receiver_with(&self, port: u16, store: &str, more: &str) -> Result<Running, ReceiveError> {
        let revocations = if self.path("revoked.pem").exists() { "revocations_file = \"revoked.pem\"\n" } else { "" };
        let text = format!(
            "[listen]\naddress = \"127.0.0.1:{port}\"\n[tls]\nca_file = \"ca.pem\"\n\
             certificate_file = \"facility.pem\"\nkey_file = \"facility.key\"\n{revocations}[store]\n\
             directory = \"{store}\"\n[[host]]\nid = \"{HOST}\"\ncertificate_sha256 = \"{}\"\n{more}",
            hex::encode(self.fingerprint("host"))
        );
        std::fs::write(self.path("receive.toml"), text).unwrap();
        let receiver = Receiver::bind(ReceiveConfig::read(&self.path("receive.toml")).unwrap()).await?;
        let (address, status) = (receiver.address().unwrap(), receiver.status());
        let (stop, shutdown) = watch::channel(false);
        Ok(Running { address, status, stop, task: tokio::spawn(receiver.serve(shutdown)) })
    }

    pub(super) fn spool(&self) -> Spool {
        let limits = SpoolLimits { bytes_max: 64 << 20, segment_bytes: 1 << 20 };
        Spool::open(&self.path("spool"), &SpoolKey::new([7; 32]), limits).unwrap()
    }

    /// Starts an exporter with the certificate `name`.
    pub(super) fn exporter(&self, name: &str, address: SocketAddr, spool: &Spool, how: Acknowledgement) -> Exporter {
        self.exporter_to(name, &[address], spool, how)
    }

    /// As [`Kit::exporter`], to several receiving facilities.
    pub(super) fn exporter_to(
        &self,
        name: &str,
        addresses: &[SocketAddr],
        spool: &Spool,
        how: Acknowledgement,
    ) -> Exporter {
        let receiver =
            |address: &SocketAddr| export::Receiver { endpoint: address.to_string(), server_name: "localhost".into() };
        let config = ExportConfig {
            receivers: addresses.iter().map(receiver).collect(),
            tls: self.files(name),
            acknowledgement: how,
            anonymisation: Anonymisation::Deterministic,
            stream: None,
        };
        let status = Arc::new(ExportStatus::default());
        let (stop, shutdown) = watch::channel(false);
        let task = tokio::spawn(export::run(config, HOST, spool.clone(), Arc::clone(&status), shutdown));
        Exporter { status, stop, task }
    }

    /// All records in the store.
    pub(super) fn stored(&self) -> Vec<StoredRecord> {
        self.stored_in("store")
    }

    /// All records in the store of this name.
    pub(super) fn stored_in(&self, store: &str) -> Vec<StoredRecord> {
        let mut all = Vec::new();
        records(&self.path(store), |record| {
            all.push(record.clone());
            true
        })
        .unwrap();
        all
    }
}

pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) status: Arc<ReceiveStatus>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    pub(super) async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }

    /// As if it were killed: no session ends in order.
    pub(super) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

pub(super) struct Exporter {
    pub(super) status: Arc<ExportStatus>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), ExportError>>,
}

impl Exporter {
    pub(super) async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap().unwrap();
    }

    /// Waits until the exporter has failed with `code`; gives the text.
    pub(super) async fn failure(&self, code: &str) -> String {
        let mut text = String::new();
        eventually(|| match self.status.last_error() {
            Some((found, reason)) => {
                text = format!("{found}: {reason}");
                found == code
            }
            None => false,
        })
        .await
        .unwrap_or_else(|()| panic!("the exporter did not fail with {code} but: {text}"));
        text
    }
}

/// Waits for something that happens soon.
pub(super) async fn eventually(mut what: impl FnMut() -> bool) -> Result<(), ()> {
    for _ in 0..1_000 {
        if what() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(())
}

/// Waits until the spool holds nothing any more.
pub(super) async fn emptied(spool: &Spool) {
    let emptied = eventually(|| spool.first_sequence() == spool.next_sequence()).await;
    assert!(emptied.is_ok(), "still {} messages in the spool", spool.status().messages);
}

pub(super) fn record(sequence: u64) -> PseudonymisedRecord {
    PseudonymisedRecord {
        time: UnixNs(1_800_000_000_000_000_000 + sequence),
        source: ExportedAddress { bytes: [0xaa; 16], kind: AddressKind::Deterministic },
        destination: ExportedAddress {
            bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 5],
            kind: AddressKind::Clear,
        },
        source_port: sequence.is_multiple_of(2).then_some(443),
        destination_port: sequence.is_multiple_of(2).then_some(50_000),
        protocol: 6,
        tcp_flags: sequence.is_multiple_of(3).then_some(18),
        ip_version: 4,
        direction: 1,
        line_bytes: 84,
        ip_length: 60,
        fragment: 0,
        sliced: false,
        measure: 0,
        generation: 1,
        rules: [0b101, 0, 0, 0],
        cpu: 0,
        sequence,
        key_epoch: 3,
    }
}

/// Spools the rule table of generation 1.
pub(super) fn append_rules(spool: &Spool) {
    let rules = ["r-one", "r-two", "r-three"].map(String::from);
    let table =
        RuleTable { measure: 0, measure_id: "m-1", generation: 1, set_sha256: [9; 32], rules: rules.as_slice() };
    for body in encode::rule_table(&table) {
        spool.append(&body).unwrap();
    }
}

/// Spools records `from..to`, `per` in a message.
pub(super) fn append(spool: &Spool, from: u64, to: u64, per: usize) {
    let all: Vec<_> = (from..to).map(record).collect();
    for chunk in all.chunks(per) {
        for body in encode::record_sets(chunk, RecordTemplate::Psamp, &INSTANCE) {
            spool.append(&body).unwrap();
        }
    }
}
