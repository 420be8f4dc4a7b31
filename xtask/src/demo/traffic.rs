//! The demo's traffic: answers of a server abroad and its beacons (what is looked for), other UDP in bulk, IPv6, a replayed
//! capture. In: the laboratory. Out: counts of what was sent.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tap_tests::lab::traffic::{Rate, Replay, TcpLoad, UdpLoad};
use tap_tests::lab::{DOMESTIC4, DOMESTIC6, FOREIGN4, FOREIGN4_OTHER, FOREIGN6, Lab};

/// Port of the server abroad.
pub(super) const PORT_TCP: u16 = 8443;
/// Port of the beacons that the first selector set looks for.
pub(super) const PORT_FIRST: u16 = 5000;
/// Port of those that the second looks for.
pub(super) const PORT_SECOND: u16 = 5001;
/// Port of the bulk, which nobody looks for.
const PORT_BULK: u16 = 6000;

/// Bulk below the cap, and above it: the facility's 30 Mbit/s are exceeded more than twice.
const BULK_BITS_PER_SECOND: [u64; 2] = [10_000_000, 80_000_000];
/// Each stream of beacons.
const BEACON_BITS_PER_SECOND: u64 = 300_000;
const IPV6_BITS_PER_SECOND: u64 = 1_000_000;
const REPLAY_BITS_PER_SECOND: u64 = 2_000_000;
/// Payload of the bulk: nearly full frames.
const BULK_BYTES: usize = 1_200;

/// What was sent.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Sent {
    pub(super) tcp_exchanges: u64,
    pub(super) udp_datagrams: u64,
    pub(super) replayed_frames: u64,
}

/// Running traffic.
pub(super) struct Traffic {
    udp: Vec<UdpLoad>,
    tcp: TcpLoad,
    replay: Replay,
    bulk: Rate,
}

impl Traffic {
    pub(super) fn start(lab: &Lab, capture: &Path) -> Result<Self> {
        let bulk = Rate::new(BULK_BITS_PER_SECOND[0]);
        let beacon = vec![b'b'; 100];
        let udp = |from: &str, to: &str, port: u16, flows: u16, payload: &[u8], rate: Rate| -> Result<UdpLoad> {
            let to = std::net::SocketAddr::new(to.parse()?, port);
            UdpLoad::start((&lab.foreign, from.parse()?), 0, flows, (&lab.domestic, to), payload, rate)
        };
        let udp = vec![
            udp(FOREIGN4, DOMESTIC4, PORT_FIRST, 16, &beacon, Rate::new(BEACON_BITS_PER_SECOND))?,
            udp(FOREIGN4, DOMESTIC4, PORT_SECOND, 16, &beacon, Rate::new(BEACON_BITS_PER_SECOND))?,
            udp(FOREIGN4_OTHER, DOMESTIC4, PORT_BULK, 64, &vec![b'x'; BULK_BYTES], bulk.clone())?,
            udp(FOREIGN6, DOMESTIC6, PORT_BULK, 8, &beacon, Rate::new(IPV6_BITS_PER_SECOND))?,
        ];
        let server = (&lab.foreign, std::net::SocketAddr::new(FOREIGN4.parse()?, PORT_TCP));
        let tcp = TcpLoad::start(&lab.domestic, server, b"GET /\r\n", &[b'a'; 4_000], Duration::from_millis(10))?;
        let replay = lab.replay(&super::capture(capture)?, Rate::new(REPLAY_BITS_PER_SECOND))?;
        Ok(Self { udp, tcp, replay, bulk })
    }

    /// Raises the bulk above the cap, or lowers it again.
    pub(super) fn overload(&self, on: bool) {
        let [below, above] = BULK_BITS_PER_SECOND;
        self.bulk.set(if on { above } else { below });
    }

    /// Ends all of it.
    pub(super) fn stop(self) -> Result<Sent> {
        let tcp_exchanges = self.tcp.stop()?;
        let mut udp_datagrams = 0;
        for load in self.udp {
            udp_datagrams += load.stop()?;
        }
        Ok(Sent { tcp_exchanges, udp_datagrams, replayed_frames: self.replay.stop()? })
    }
}
