//! What changes while records are delivered: the receiving facility, the certificates, who is trusted.

use std::fs;
use std::sync::atomic::Ordering::Relaxed;

use super::kit::{Kit, append, emptied, eventually};
use crate::path::export::Acknowledgement;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_facility_takes_over_and_together_they_have_every_record_once() {
    let kit = Kit::new();
    let spool = kit.spool();
    append(&spool, 0, 1_000, 5);
    let first = kit.receiver(0).await.unwrap();
    let second = kit.receiver_with(0, "second", "").await.unwrap();
    let exporter = kit.exporter_to("host", &[first.address, second.address], &spool, Acknowledgement::Required);
    emptied(&spool).await;
    assert_eq!(second.status.sessions_total.load(Relaxed), 0, "the first one is preferred");
    // A session that ends while the first one is there: a file that changed, though its certificate is the same.
    let certificate = fs::read(kit.path("host.pem")).unwrap();
    fs::write(kit.path("host.pem"), [certificate.as_slice(), b"\n"].concat()).unwrap();
    let sessions = || [&first, &second].map(|facility| facility.status.sessions_total.load(Relaxed));
    assert!(eventually(|| sessions() != [1, 0]).await.is_ok());
    assert_eq!(sessions(), [2, 0], "the search begins with the first one");
    let port = first.address.port();
    first.stop().await;
    append(&spool, 1_000, 1_500, 5);
    emptied(&spool).await;
    // The second one goes away and the first is back: the search begins with it.
    second.stop().await;
    let first = kit.receiver(port).await.unwrap();
    append(&spool, 1_500, 2_000, 5);
    emptied(&spool).await;
    exporter.stop().await;
    first.stop().await;
    let numbers = |store| kit.stored_in(store).iter().map(|stored| stored.record.sequence).collect::<Vec<_>>();
    assert_eq!(numbers("store"), (0..1_000).chain(1_500..2_000).collect::<Vec<_>>());
    assert_eq!(numbers("second"), (1_000..1_500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_both_sides_change_without_a_restart() {
    let kit = Kit::new();
    kit.another_certificate("next");
    let next = format!("next_certificate_sha256 = \"{}\"\n", hex::encode(kit.fingerprint("next")));
    let receiver = kit.receiver_with(0, "store", &next).await.unwrap();
    let spool = kit.spool();
    let exporter = kit.exporter("host", receiver.address, &spool, Acknowledgement::Required);
    append(&spool, 0, 100, 5);
    emptied(&spool).await;
    let sessions = || receiver.status.sessions_total.load(Relaxed);
    let before = sessions();

    // A certificate without its key fits nothing: what was there goes on.
    fs::copy(kit.path("next.pem"), kit.path("host.pem")).unwrap();
    tokio::time::sleep(crate::limits::CREDENTIALS_CHECK_INTERVAL * 2).await;
    append(&spool, 100, 200, 5);
    emptied(&spool).await;
    assert_eq!(sessions(), before, "nothing fits, nothing changes");
    fs::copy(kit.path("next.key"), kit.path("host.key")).unwrap();
    assert!(eventually(|| sessions() > before).await.is_ok(), "a session with the new certificate");
    append(&spool, 200, 300, 5);
    emptied(&spool).await;

    // The facility's: those who connect from now on meet it.
    kit.another_certificate("facility");
    let shown = async || {
        let stream = tokio::net::TcpStream::connect(receiver.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(crate::transport::tls::client(&kit.files("host")).unwrap());
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let session = connector.connect(name, stream).await.unwrap();
        let certificate = session.get_ref().1.peer_certificates().unwrap().first().unwrap().clone();
        crate::transport::tls::fingerprint(&certificate)
    };
    let until = tokio::time::Instant::now() + crate::limits::CREDENTIALS_CHECK_INTERVAL * 4;
    while shown().await != kit.fingerprint("facility") {
        assert!(tokio::time::Instant::now() < until, "the facility's new certificate is not shown");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    exporter.stop().await;
    receiver.stop().await;
    assert_eq!(kit.stored().len(), 300);
}

/// Starts both sides and waits for what the exporter complains of; nothing may have been stored.
async fn refused(kit: &Kit) -> String {
    let receiver = kit.receiver(0).await.unwrap();
    let spool = kit.spool();
    append(&spool, 0, 10, 10);
    let exporter = kit.exporter("host", receiver.address, &spool, Acknowledgement::Required);
    let text = exporter.failure("connection").await;
    assert_eq!((spool.first_sequence(), receiver.status.stored_messages.load(Relaxed)), (0, 0));
    exporter.stop().await;
    receiver.stop().await;
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ended_is_refused() {
    let kit = Kit::new();
    kit.expired_certificate("host");
    let text = refused(&kit).await;
    assert!(text.contains("CertificateExpired"), "{text}");
    let kit = Kit::new();
    kit.expired_certificate("facility");
    let text = refused(&kit).await;
    assert!(text.contains("expired"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_is_refused_and_so_is_everybody_under_a_list_out_of_date() {
    // The facility's certificate is the first one, the host's the second.
    let kit = Kit::new();
    kit.revoke(&[2], true);
    let text = refused(&kit).await;
    assert!(text.contains("CertificateRevoked"), "{text}");
    let kit = Kit::new();
    kit.revoke(&[1], true);
    let text = refused(&kit).await;
    assert!(text.contains("Revoked"), "{text}");
    let kit = Kit::new();
    kit.revoke(&[], false);
    let text = refused(&kit).await;
    assert!(text.contains("ExpiredRevocationList") || text.contains("revocation list"), "{text}");
    let kit = Kit::new();
    kit.revoke(&[7], true);
    let receiver = kit.receiver(0).await.unwrap();
    let spool = kit.spool();
    append(&spool, 0, 10, 10);
    let exporter = kit.exporter("host", receiver.address, &spool, Acknowledgement::Required);
    emptied(&spool).await;
    exporter.stop().await;
    receiver.stop().await;
}
