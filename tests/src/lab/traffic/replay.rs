//! A capture's busiest IPv4 conversation, replayed between two hosts of the laboratory. In: frames of a capture. Out: the same
//! frames, each from the side it came from, with the laboratory's addresses, over and over at a rate.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Crew, FrameSender, Pacer, Rate};
use crate::lab::Host;

/// The largest frame the laboratory's links take: MTU 1,500 and an Ethernet header.
const FRAME_BYTES_MAX: usize = 1_514;
/// How often a sender that cannot send says so.
const COMPLAINT_EVERY: Duration = Duration::from_secs(10);

/// One end of a replayed conversation.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Host the packets leave.
    pub host: &'a Host,
    /// Its interface.
    pub interface: &'a str,
    /// Address they carry.
    pub address: Ipv4Addr,
    /// Hardware address of the router on that link.
    pub router: [u8; 6],
}

/// A capture's IPv4 packets between two hosts of the laboratory, over and over: each direction leaves the host it would come
/// from, with that host's addresses.
#[derive(Debug)]
pub struct Replay {
    crew: Crew,
    sent: Arc<AtomicU64>,
}

impl Replay {
    /// Replays `frames` (Ethernet; all but the busiest IPv4 conversation are left out) at `rate`. Whoever sent its first
    /// packet is `client`.
    ///
    /// # Errors
    /// Where no frame fits, or an interface is missing.
    pub fn start(frames: &[Vec<u8>], client: &End<'_>, server: &End<'_>, rate: Rate) -> Result<Self> {
        let plan = plan(frames, client, server);
        if plan.is_empty() {
            bail!("no IPv4 packet of the capture fits the laboratory's links");
        }
        let [from_client, from_server] =
            [FrameSender::open(client.host, client.interface)?, FrameSender::open(server.host, server.interface)?];
        let (mut crew, sent) = (Crew::default(), Arc::new(AtomicU64::new(0)));
        let (stop, count) = (Arc::clone(&crew.stop), Arc::clone(&sent));
        crew.threads.push(client.host.spawn("replay", move || {
            let mean = plan.iter().map(|(_, frame)| frame.len()).sum::<usize>() / plan.len();
            let mut pacer = Pacer::new(rate);
            let mut turns = plan.iter().cycle();
            let mut reported = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                for (side, frame) in turns.by_ref().take(usize::try_from(pacer.step(mean as u64))?) {
                    let sender = if *side == Side::Client { &from_client } else { &from_server };
                    match sender.send(frame) {
                        Ok(()) => {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        // A full device queue under load loses a frame; say so now and then.
                        Err(error) if reported.elapsed() > COMPLAINT_EVERY => {
                            eprintln!("replay: {error:#}");
                            reported = Instant::now();
                        }
                        Err(_) => {}
                    }
                }
            }
            Ok(())
        })?);
        Ok(Self { crew, sent })
    }

    /// Ends it; gives the frames that left.
    ///
    /// # Errors
    /// What failed in its thread.
    pub fn stop(mut self) -> Result<u64> {
        self.crew.stop()?;
        Ok(self.sent.load(Ordering::Relaxed))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// Ethernet header bytes without tags.
const ETHERNET_BYTES: usize = 14;

fn plan(frames: &[Vec<u8>], client: &End<'_>, server: &End<'_>) -> Vec<(Side, Vec<u8>)> {
    let Some((first, second)) = busiest(frames) else { return Vec::new() };
    let mut plan = Vec::new();
    for frame in frames {
        let (side, from, to) = match addresses(frame) {
            Some(pair) if pair == (first, second) => (Side::Client, client, server),
            Some(pair) if pair == (second, first) => (Side::Server, server, client),
            _ => continue,
        };
        let mut frame = frame.clone();
        if frame.len() <= FRAME_BYTES_MAX && rewrite(&mut frame, from, to.address).is_some() {
            plan.push((side, frame));
        }
    }
    plan
}

/// The pair of addresses with the most packets, in the order of its first one.
fn busiest(frames: &[Vec<u8>]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let mut pairs: BTreeMap<[Ipv4Addr; 2], (usize, (Ipv4Addr, Ipv4Addr))> = BTreeMap::new();
    for pair in frames.iter().filter_map(|frame| addresses(frame)) {
        let key = if pair.0 <= pair.1 { [pair.0, pair.1] } else { [pair.1, pair.0] };
        pairs.entry(key).or_insert((0, pair)).0 += 1;
    }
    pairs.into_values().max_by_key(|(packets, _)| *packets).map(|(_, pair)| pair)
}

fn addresses(frame: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    if frame.get(12..14)? != [0x08, 0x00] {
        return None;
    }
    let source: [u8; 4] = frame.get(26..30)?.try_into().ok()?;
    let destination: [u8; 4] = frame.get(30..34)?.try_into().ok()?;
    Some((source.into(), destination.into()))
}

/// New addresses and a right IPv4 header checksum; the transport checksum is left: a tap must not judge it.
fn rewrite(frame: &mut [u8], from: &End<'_>, to: Ipv4Addr) -> Option<()> {
    frame.get_mut(0..6)?.copy_from_slice(&from.router);
    // A locally administered source: no host's own address.
    frame.get_mut(6..12)?.copy_from_slice(&[0x02, 0, 0, 0, 0, 0x01]);
    frame.get_mut(26..30)?.copy_from_slice(&from.address.octets());
    frame.get_mut(30..34)?.copy_from_slice(&to.octets());
    // Enough hops to pass the router.
    *frame.get_mut(22)? = 64;
    frame.get_mut(24..26)?.copy_from_slice(&[0, 0]);
    let header_bytes = usize::from(frame.get(ETHERNET_BYTES)? & 0x0f) * 4;
    let sum = checksum(frame.get(ETHERNET_BYTES..ETHERNET_BYTES + header_bytes)?);
    frame.get_mut(24..26)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// The Internet checksum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
            [high] => u32::from(*high) << 8,
            _ => 0,
        })
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_sums_to_nothing() {
        let header = [0x45, 0, 0, 0x1c, 0, 1, 0, 0, 64, 17, 0, 0, 192, 0, 2, 20, 203, 0, 113, 20];
        let sum = checksum(&header);
        let mut whole = header;
        whole[10..12].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&whole), 0);
    }
}
