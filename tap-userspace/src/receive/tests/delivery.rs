//! From the spool to the store and back.

use std::sync::atomic::Ordering::Relaxed;

use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::kit::{HOST, INSTANCE, Kit, append, append_rules, emptied, eventually, record};
use crate::ipfix::encode::{self, Anonymisation};
use crate::ipfix::message::{OBSERVATION_DOMAIN, message};
use crate::ipfix::template::RecordTemplate;
use crate::ipfix::typed::Identity;
use crate::path::export::{Acknowledgement, ExportStatus};
use crate::receive::store::sorted;
use crate::transport::tls;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_stored_as_it_was_then_acknowledged_then_forgotten() {
    let kit = Kit::new();
    let receiver = kit.receiver(0).await.unwrap();
    let spool = kit.spool();
    append_rules(&spool);
    append(&spool, 0, 1_000, 100);
    let exporter = kit.exporter("host", receiver.address, &spool, Acknowledgement::Required);
    emptied(&spool).await;
    // While it runs, more comes.
    append(&spool, 1_000, 1_500, 100);
    emptied(&spool).await;
    counted(&exporter.status, 1_500).await;
    assert!(exporter.status.connected.load(Relaxed) && exporter.status.acknowledging.load(Relaxed));
    for count in [&exporter.status.sent_records, &exporter.status.acknowledged_records, &receiver.status.stored_records]
    {
        assert_eq!(count.load(Relaxed), 1_500);
    }
    assert_eq!(exporter.status.acknowledged_sequence.load(Relaxed), spool.next_sequence());
    exporter.stop().await;
    receiver.stop().await;

    let stored = kit.stored();
    assert_eq!(stored.len(), 1_500);
    for (sequence, stored) in (0..).zip(&stored) {
        assert_eq!(stored.record, record(sequence));
        assert_eq!((stored.instance, stored.host.as_str()), (INSTANCE, HOST.to_string().as_str()));
        assert_eq!(stored.rules, ["r-one", "r-three"]);
        assert_eq!(stored.measure_id.as_deref(), Some("m-1"));
        assert_eq!(stored.spool, hex::encode(spool.uuid()));
        assert_eq!(stored.spool_sequence, 1 + sequence / 100);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_killed_again_and_again_stores_everything_once() {
    let kit = Kit::new();
    let spool = kit.spool();
    append(&spool, 0, 4_000, 5);
    let mut receiver = kit.receiver(0).await.unwrap();
    let address = receiver.address;
    let exporter = kit.exporter("host", address, &spool, Acknowledgement::Required);
    for round in 0..4 {
        let goal = spool.first_sequence() + 20;
        assert!(eventually(|| spool.first_sequence() >= goal).await.is_ok(), "round {round}");
        receiver.kill().await;
        // Its blocking work may still hold the store for a moment.
        receiver = loop {
            match kit.receiver(address.port()).await {
                Ok(receiver) => break receiver,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        };
    }
    emptied(&spool).await;
    counted(&exporter.status, 4_000).await;
    assert_eq!(exporter.status.sent_records.load(Relaxed), 4_000);
    assert_eq!(exporter.status.acknowledged_records.load(Relaxed), 4_000);
    assert!(exporter.status.reconnects.load(Relaxed) >= 4);
    exporter.stop().await;
    receiver.stop().await;
    let sequences: Vec<u64> = kit.stored().iter().map(|stored| stored.record.sequence).collect();
    assert_eq!(sequences, (0..4_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exporter_begun_anew_sends_again_and_nothing_is_stored_twice() {
    let kit = Kit::new();
    let receiver = kit.receiver(0).await.unwrap();
    let spool = kit.spool();
    append(&spool, 0, 100, 10);
    let identity = |sequence| Identity { host: HOST.0, spool: spool.uuid(), sequence, first_sequence: 0 };
    // The same spool's first messages over a session that does not negotiate acknowledgements, twice each.
    let mut config = (*tls::client(&kit.files("host")).unwrap()).clone();
    config.alpn_protocols.clear();
    let tcp = TcpStream::connect(receiver.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = TlsConnector::from(std::sync::Arc::new(config)).connect(name, tcp).await.unwrap();
    let opening = encode::session_sets(Anonymisation::Deterministic);
    let opening: Vec<&[u8]> = opening.iter().map(Vec::as_slice).collect();
    session.write_all(&message(1, 0, OBSERVATION_DOMAIN, &opening).unwrap()).await.unwrap();
    for sequence in [0, 1, 2, 0, 1, 2] {
        let body = spool.read(sequence).unwrap().unwrap();
        let sets = [encode::identity_set(&identity(sequence)), body];
        let sets: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
        session.write_all(&message(1, 0, OBSERVATION_DOMAIN, &sets).unwrap()).await.unwrap();
    }
    session.shutdown().await.unwrap();
    let status = receiver.status.clone();
    assert!(eventually(|| status.repeated_messages.load(Relaxed) == 3).await.is_ok());
    assert_eq!((status.stored_messages.load(Relaxed), status.stored_records.load(Relaxed)), (3, 30));

    let exporter = kit.exporter("host", receiver.address, &spool, Acknowledgement::Required);
    emptied(&spool).await;
    exporter.stop().await;
    receiver.stop().await;
    let sequences: Vec<u64> = kit.stored().iter().map(|stored| stored.record.sequence).collect();
    assert_eq!(sequences, (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_new_gets_what_the_spool_still_holds() {
    let kit = Kit::new();
    let spool = kit.spool();
    append(&spool, 0, 50, 10);
    spool.trim(2).unwrap();
    let receiver = kit.receiver(0).await.unwrap();
    let exporter = kit.exporter("host", receiver.address, &spool, Acknowledgement::Required);
    emptied(&spool).await;
    exporter.stop().await;
    receiver.stop().await;
    let sequences: Vec<u64> = kit.stored().iter().map(|stored| stored.record.sequence).collect();
    assert_eq!(sequences, (30..50).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_exporter_is_stored_and_not_acknowledged() {
    let kit = Kit::new();
    kit.another_certificate("other");
    let receiver = kit.receiver(0).await.unwrap();
    let config = tls::client(&kit.files("other")).unwrap();
    let tcp = TcpStream::connect(receiver.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = TlsConnector::from(config).connect(name, tcp).await.unwrap();
    // A template of one field, two records, and data of a template that nobody knows.
    let template: &[u8] = &[0, 2, 0, 12, 1, 0, 0, 1, 0, 4, 0, 1];
    let data: &[u8] = &[1, 0, 0, 6, 6, 17];
    let unknown: &[u8] = &[9, 9, 0, 5, 1];
    session.write_all(&message(1, 0, 77, &[template]).unwrap()).await.unwrap();
    session.write_all(&message(2, 0, 77, &[data]).unwrap()).await.unwrap();
    session.write_all(&message(3, 2, 77, &[unknown]).unwrap()).await.unwrap();
    session.shutdown().await.unwrap();
    let status = receiver.status.clone();
    assert!(eventually(|| status.stored_messages.load(Relaxed) == 2).await.is_ok());
    assert_eq!((status.stored_records.load(Relaxed), status.acknowledgements.load(Relaxed)), (2, 0));
    receiver.stop().await;

    let directory = kit.store().join("peers").join(hex::encode(kit.fingerprint("other"))).join(format!("{:020}", 0));
    assert_eq!(sorted(&directory).unwrap().len(), 2);
    // The file carries the template that came in another message.
    let file = std::fs::read(directory.join(format!("{:020}.ipfix", 0))).unwrap();
    let expected = [message(2, 0, 77, &[template]).unwrap(), message(2, 0, 77, &[data]).unwrap()].concat();
    assert_eq!(file, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_message_of_the_spool_is_given_up_and_the_rest_is_delivered() {
    let kit = Kit::new();
    {
        let spool = kit.spool();
        append(&spool, 0, 9, 3);
        spool.sync().unwrap();
    }
    // The middle of the only segment with messages lies in the second of three.
    let segments: Vec<_> = std::fs::read_dir(kit.path("spool")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let segments = segments.iter().filter(|path| path.extension().is_some_and(|extension| extension == "segment"));
    let segment = segments.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(segment, bytes).unwrap();

    let spool = kit.spool();
    let receiver = kit.receiver(0).await.unwrap();
    let exporter = kit.exporter("host", receiver.address, &spool, Acknowledgement::Required);
    emptied(&spool).await;
    assert_eq!(exporter.status.damaged_messages.load(Relaxed), 1);
    exporter.stop().await;
    receiver.stop().await;
    let sequences: Vec<u64> = kit.stored().iter().map(|stored| stored.record.sequence).collect();
    assert_eq!(sequences, [0, 1, 2, 6, 7, 8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_declares_its_template_whichever_it_is() {
    let kit = Kit::new();
    let spool = kit.spool();
    let bodies = encode::record_sets(&[record(0)], RecordTemplate::Flow, &INSTANCE);
    spool.append(&bodies[0]).unwrap();
    append(&spool, 1, 2, 1);
    let receiver = kit.receiver(0).await.unwrap();
    let exporter = kit.exporter("host", receiver.address, &spool, Acknowledgement::Required);
    emptied(&spool).await;
    exporter.stop().await;
    receiver.stop().await;
    let stored: Vec<_> = kit.stored().iter().map(|stored| stored.record).collect();
    assert_eq!(stored, [record(0), record(1)]);
    // No rule table was sent: the rules are shown by index.
    assert_eq!(kit.stored()[0].rules, ["#0", "#2"]);
}

/// Waits for the count of what the spool has let go: it is made just after.
async fn counted(status: &ExportStatus, acknowledged: u64) {
    let counted = eventually(|| status.acknowledged_records.load(Relaxed) >= acknowledged).await;
    assert!(counted.is_ok(), "{} of {acknowledged} acknowledged", status.acknowledged_records.load(Relaxed));
}
