//! Who is refused, on both sides, and what is said about it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::kit::{HOST, Kit, append, emptied, eventually};
use crate::path::export::{self, Acknowledgement};
use crate::receive::config::ReceiveConfig;
use crate::receive::read::records;
use crate::transport::tls;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_authority_is_refused() {
    let kit = Kit::new();
    kit.foreign_certificate("foreign");
    let receiver = kit.receiver(0).await.unwrap();
    let spool = kit.spool();
    append(&spool, 0, 10, 10);
    let exporter = kit.exporter("foreign", receiver.address, &spool, Acknowledgement::Required);
    let text = exporter.failure("connection").await;
    assert!(text.contains("alert"), "{text}");
    let status = receiver.status.clone();
    assert!(eventually(|| status.refused_sessions().contains_key("tls")).await.is_ok());
    assert_eq!((spool.first_sequence(), status.stored_messages.load(Relaxed)), (0, 0));
    exporter.stop().await;
    receiver.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_certificate_is_refused() {
    let kit = Kit::new();
    let receiver = kit.receiver(0).await.unwrap();
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject as _;
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(kit.path("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(receiver.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut session = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let error = session.read_u8().await.unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    receiver.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_facility_under_another_name_is_refused() {
    let kit = Kit::new();
    let receiver = kit.receiver(0).await.unwrap();
    let spool = kit.spool();
    append(&spool, 0, 10, 10);
    let (_stop, shutdown) = tokio::sync::watch::channel(false);
    let config = export::ExportConfig {
        receivers: vec![export::Receiver {
            endpoint: receiver.address.to_string(),
            server_name: "facility.example".into(),
        }],
        tls: kit.files("host"),
        acknowledgement: Acknowledgement::Required,
        anonymisation: Default::default(),
        stream: None,
    };
    let status = Arc::new(export::ExportStatus::default());
    let task = tokio::spawn(export::run(config, HOST, spool.clone(), Arc::clone(&status), shutdown));
    assert!(eventually(|| status.last_error().is_some()).await.is_ok());
    let (code, text) = status.last_error().unwrap();
    assert!(code == "connection" && text.contains("certificate"), "{text}");
    assert_eq!(spool.first_sequence(), 0);
    task.abort();
    receiver.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_refused_with_a_certificate_that_is_not_its_own_and_is_told_why() {
    let kit = Kit::new();
    kit.another_certificate("other");
    let receiver = kit.receiver(0).await.unwrap();
    let spool = kit.spool();
    append(&spool, 0, 10, 10);
    let exporter = kit.exporter("other", receiver.address, &spool, Acknowledgement::Required);
    let text = exporter.failure("refused").await;
    assert!(text.contains("the certificate is not the one listed for this host key id"), "{text}");
    let status = receiver.status.clone();
    assert!(eventually(|| status.refused_sessions().contains_key("host")).await.is_ok());
    assert_eq!((spool.first_sequence(), status.stored_messages.load(Relaxed)), (0, 0));
    exporter.stop().await;
    receiver.stop().await;
    assert_eq!(records(&kit.store(), |_| true).unwrap().records, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_acknowledges_nothing_gets_nothing_unless_that_is_accepted() {
    let kit = Kit::new();
    let mut config: rustls::ServerConfig = (*tls::server(&kit.files("facility")).unwrap()).clone();
    config.alpn_protocols.clear();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let collected = Arc::new(std::sync::Mutex::new(Vec::new()));
    let collector = {
        let collected = Arc::clone(&collected);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(mut session) = acceptor.accept(tcp).await else { continue };
                let mut buffer = [0; 4_096];
                while let Ok(count @ 1..) = session.read(&mut buffer).await {
                    collected.lock().unwrap().extend_from_slice(&buffer[..count]);
                }
            }
        })
    };
    let spool = kit.spool();
    append(&spool, 0, 10, 10);

    let exporter = kit.exporter("host", address, &spool, Acknowledgement::Required);
    let text = exporter.failure("no_acknowledgement").await;
    assert!(text.contains("acknowledgement = \"none\""), "{text}");
    exporter.stop().await;
    assert!(collected.lock().unwrap().is_empty());
    assert_eq!(spool.first_sequence(), 0);

    let exporter = kit.exporter("host", address, &spool, Acknowledgement::None);
    emptied(&spool).await;
    assert!(!exporter.status.acknowledging.load(Relaxed));
    assert!(eventually(|| collected.lock().unwrap().len() > 1_000).await.is_ok());
    exporter.stop().await;
    collector.abort();
}

#[tokio::test]
async fn a_taken_address_and_a_missing_file_are_named() {
    let kit = Kit::new();
    let receiver = kit.receiver(0).await.unwrap();
    let port = receiver.address.port();
    let mut config = ReceiveConfig::read(&kit.path("receive.toml")).unwrap();
    config.store.directory = kit.path("another-store");
    config.listen.as_mut().unwrap().address.set_port(port);
    let error = crate::receive::Receiver::bind(config.clone()).await.unwrap_err().to_string();
    assert!(error.contains("listen.address"), "{error}");
    config.tls.key_file = kit.path("absent.key");
    let error = crate::receive::Receiver::bind(config).await.unwrap_err().to_string();
    assert!(error.contains("absent.key"), "{error}");
    receiver.stop().await;
}
