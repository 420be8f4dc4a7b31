//! A peer that acknowledges falsely: what it says of numbers that were never sent ends the session; what it says twice, backwards
//! or out of order changes nothing.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::kit::{HOST, Kit, append, emptied, eventually};
use crate::ipfix::decode::{self, Templates};
use crate::ipfix::message::{OBSERVATION_DOMAIN, message};
use crate::ipfix::typed::{self, Acknowledgement};
use crate::ipfix::{encode, template};
use crate::path::export::Acknowledgement::Required;
use crate::path::spool::Spool;
use crate::transport::{frame, tls};

/// A peer with the facility's certificate that stores nothing. It reads until it has seen message `wait_for` and then says `numbers`,
/// one acknowledgement a message; then it is silent.
struct Liar {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Liar {
    async fn new(kit: &Kit, spool: &Spool, wait_for: u64, numbers: &'static [u64]) -> Self {
        let acceptor = TlsAcceptor::from(tls::server(&kit.files("facility")).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let uuid = spool.uuid();
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(mut session) = acceptor.accept(tcp).await else { continue };
                read_until(&mut session, wait_for).await;
                let mut sets = encode::template_sets(&template::receiver());
                for through in numbers {
                    sets.push(encode::acknowledgement_set(&[Acknowledgement {
                        host: HOST.0,
                        spool: uuid,
                        through: *through,
                    }]));
                    let bytes = {
                        let sets: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
                        message(0, 0, OBSERVATION_DOMAIN, &sets).unwrap()
                    };
                    sets.clear();
                    drop(session.write_all(&bytes).await);
                    drop(session.flush().await);
                }
                // It stays, silent, until the exporter leaves.
                while let Ok(Some(_)) = frame::read(&mut session).await {}
            }
        });
        Self { address, task }
    }
}

async fn read_until(session: &mut TlsStream<TcpStream>, last: u64) {
    let mut templates = Templates::default();
    while let Ok(Some(bytes)) = frame::read(session).await {
        let decoded = decode::message(&bytes, &mut templates).unwrap();
        for (template, record) in decoded.records() {
            if typed::identity(template, record).unwrap().is_some_and(|identity| identity.sequence >= last) {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_of_a_number_that_was_never_given_ends_the_session_and_forgets_nothing() {
    let kit = Kit::new();
    let spool = kit.spool();
    append(&spool, 0, 100, 10);
    for number in [&[10][..], &[u64::MAX]] {
        let liar = Liar::new(&kit, &spool, 9, number).await;
        let exporter = kit.exporter("host", liar.address, &spool, Required);
        let text = exporter.failure("acknowledgement").await;
        assert!(text.contains("never sent"), "{text}");
        assert_eq!((spool.first_sequence(), exporter.status.acknowledged_records.load(Relaxed)), (0, 0));
        exporter.stop().await;
        liar.task.abort();
    }
    delivered(&kit, &spool, 0..100).await;
}

/// More is spooled than may be on its way: the numbers beyond were given, and not sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_of_a_number_that_was_given_but_not_sent_ends_the_session_and_forgets_nothing() {
    const SPOOLED: u64 = crate::limits::EXPORT_WINDOW_MESSAGES_MAX as u64 + 200;
    let kit = Kit::new();
    let spool = kit.spool();
    append(&spool, 0, SPOOLED, 1);
    let liar = Liar::new(&kit, &spool, 50, &[SPOOLED - 1]).await;
    let exporter = kit.exporter("host", liar.address, &spool, Required);
    let text = exporter.failure("acknowledgement").await;
    assert!(text.contains("never sent"), "{text}");
    assert_eq!(spool.first_sequence(), 0);
    exporter.stop().await;
    liar.task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_that_come_twice_backwards_or_out_of_order_change_nothing() {
    let kit = Kit::new();
    let spool = kit.spool();
    append(&spool, 0, 100, 10);
    let liar = Liar::new(&kit, &spool, 9, &[4, 4, 2, 6, 0, 5, 6]).await;
    let exporter = kit.exporter("host", liar.address, &spool, Required);
    assert!(eventually(|| exporter.status.acknowledged_records.load(Relaxed) >= 70).await.is_ok());
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!((spool.first_sequence(), exporter.status.acknowledged_records.load(Relaxed)), (7, 70));
    assert_eq!((exporter.status.reconnects.load(Relaxed), exporter.status.resent_messages.load(Relaxed)), (0, 0));
    exporter.stop().await;
    liar.task.abort();
    // What it acknowledged is gone, as it said; the rest arrives.
    delivered(&kit, &spool, 70..100).await;
}

/// An honest facility gets what the spool still holds, once.
async fn delivered(kit: &Kit, spool: &Spool, expected: std::ops::Range<u64>) {
    let receiver = kit.receiver(0).await.unwrap();
    let exporter = kit.exporter("host", receiver.address, spool, Required);
    emptied(spool).await;
    exporter.stop().await;
    receiver.stop().await;
    let sequences: Vec<u64> = kit.stored().iter().map(|stored| stored.record.sequence).collect();
    assert_eq!(sequences, expected.collect::<Vec<_>>());
}
