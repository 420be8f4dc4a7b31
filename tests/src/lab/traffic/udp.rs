//! UDP from one host to another at a rate, from several source ports (several flows).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};

use super::{Crew, PATIENCE, Pacer, Rate};
use crate::lab::Host;

/// Bytes of IPv4 and UDP header; IPv6 has 20 more, which a rate may be off by.
const HEADERS_BYTES: u64 = 28;

/// A running stream of datagrams.
#[derive(Debug)]
pub struct UdpLoad {
    // In this order: a sink that closes before the last datagram would make its host answer with ICMP.
    sender: Crew,
    sink: Crew,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
}

impl UdpLoad {
    /// Sends `payload` from `flows` source ports (`from_port` and the following; 0 takes any) of `from` to `to`, at `rate`.
    ///
    /// # Errors
    /// Where a thread cannot be made; what fails in the threads comes out of [`UdpLoad::stop`].
    pub fn start(
        (from_host, from): (&Host, IpAddr),
        from_port: u16,
        flows: u16,
        (to_host, to): (&Host, SocketAddr),
        payload: &[u8],
        rate: Rate,
    ) -> Result<Self> {
        let (mut sender, mut receiver) = (Crew::default(), Crew::default());
        let sent = Arc::new(AtomicU64::new(0));
        let received = Arc::new(AtomicU64::new(0));
        // The receiving socket is there before the first datagram, or the host would answer with ICMP.
        let sink = to_host.enter(|| UdpSocket::bind(to).with_context(|| format!("UDP {to}")))??;
        sink.set_read_timeout(Some(PATIENCE))?;
        let (stop, count) = (Arc::clone(&receiver.stop), Arc::clone(&received));
        receiver.threads.push(to_host.spawn("udp-in", move || {
            let mut buffer = [0u8; 65_536];
            while !stop.load(Ordering::Relaxed) {
                if sink.recv(&mut buffer).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        })?);
        let (stop, count, payload) = (Arc::clone(&sender.stop), Arc::clone(&sent), payload.to_vec());
        sender.threads.push(from_host.spawn("udp-out", move || {
            let mut sockets = Vec::new();
            for flow in 0..flows.max(1) {
                let port = if from_port == 0 { 0 } else { from_port + flow };
                let socket = UdpSocket::bind((from, port)).with_context(|| format!("UDP {from}:{port}"))?;
                socket.connect(to)?;
                sockets.push(socket);
            }
            let bytes = payload.len() as u64 + HEADERS_BYTES;
            let mut pacer = Pacer::new(rate);
            let mut turns = sockets.iter().cycle();
            while !stop.load(Ordering::Relaxed) {
                for socket in turns.by_ref().take(usize::try_from(pacer.step(bytes))?) {
                    // A full queue loses a datagram, as it would on any host; only what left is counted.
                    if socket.send(&payload).is_ok() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            Ok(())
        })?);
        Ok(Self { sender, sink: receiver, sent, received })
    }

    /// Datagrams that left.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Datagrams that arrived.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Ends it; gives the datagrams that left.
    ///
    /// # Errors
    /// What failed in its threads.
    pub fn stop(mut self) -> Result<u64> {
        self.sender.stop()?;
        self.sink.stop()?;
        Ok(self.sent())
    }
}
