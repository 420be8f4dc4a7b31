//! Raw frames on an interface: a sender, a sink that keeps what arrives, and a capture replayed between two hosts. Frames
//! bypass the queueing discipline (PACKET_QDISC_BYPASS), which would drop some of a burst.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::{Crew, PATIENCE, Pacer, Rate};
use crate::lab::Host;

/// The largest frame the laboratory's links take: MTU 1,500 and an Ethernet header.
const FRAME_BYTES_MAX: usize = 1_514;

/// Sends whole Ethernet frames out of one interface.
#[derive(Debug)]
pub struct FrameSender {
    socket: OwnedFd,
}

impl FrameSender {
    /// A sender on `interface` of `host`.
    ///
    /// # Errors
    /// Without root, or where there is no such interface.
    pub fn open(host: &Host, interface: &str) -> Result<Self> {
        let socket = host.enter(|| packet_socket(interface, 0))??;
        set_option(&socket, libc::PACKET_QDISC_BYPASS)?;
        Ok(Self { socket })
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// Where the interface is down or the frame too long for it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the pointer and length are those of a live slice.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            return Err(std::io::Error::last_os_error()).context("sending a frame");
        }
        Ok(())
    }
}

/// Counts the frames that arrive on an interface and begin their payload with a mark.
#[derive(Debug)]
pub struct FrameSink {
    crew: Crew,
    counted: Arc<AtomicU64>,
}

impl FrameSink {
    /// Counts the frames on `interface` of `host` that contain `mark`.
    ///
    /// # Errors
    /// Without root, or where there is no such interface.
    pub fn start(host: &Host, interface: &str, mark: &[u8]) -> Result<Self> {
        let socket = host.enter(|| packet_socket(interface, libc::ETH_P_ALL.cast_unsigned()))??;
        set_patience(&socket)?;
        let (mut crew, counted) = (Crew::default(), Arc::new(AtomicU64::new(0)));
        let (stop, count, mark) = (Arc::clone(&crew.stop), Arc::clone(&counted), mark.to_vec());
        crew.threads.push(host.spawn("sink", move || {
            let mut buffer = vec![0u8; 65_536];
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: the pointer and length are those of a live buffer.
                let got = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
                let Some(frame) = usize::try_from(got).ok().and_then(|got| buffer.get(..got)) else { continue };
                if frame.windows(mark.len().max(1)).any(|window| window == mark) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        })?);
        Ok(Self { crew, counted })
    }

    /// Frames counted so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    /// Ends it; gives the frames counted.
    ///
    /// # Errors
    /// What failed in its thread.
    pub fn stop(mut self) -> Result<u64> {
        self.crew.stop()?;
        Ok(self.count())
    }
}

/// A capture's IPv4 packets between two hosts of the laboratory, over and over: each direction leaves the host it would come
/// from, with that host's addresses.
#[derive(Debug)]
pub struct Replay {
    crew: Crew,
    sent: Arc<AtomicU64>,
}

impl Replay {
    /// Replays `frames` (Ethernet, IPv4; others are left out) at `rate`. The first packet's source becomes `client`'s
    /// address, its destination `server`'s; packets of other pairs are left out.
    ///
    /// # Errors
    /// Where no frame fits, or an interface is missing.
    pub fn start(
        frames: &[Vec<u8>],
        (client_host, client_interface, client): (&Host, &str, Ipv4Addr),
        (server_host, server_interface, server): (&Host, &str, Ipv4Addr),
        gateway: [[u8; 6]; 2],
        rate: Rate,
    ) -> Result<Self> {
        let plan = plan(frames, client, server, gateway);
        if plan.is_empty() {
            bail!("no IPv4 packet of the capture fits the laboratory's links");
        }
        let senders =
            [FrameSender::open(client_host, client_interface)?, FrameSender::open(server_host, server_interface)?];
        let (mut crew, sent) = (Crew::default(), Arc::new(AtomicU64::new(0)));
        let (stop, count) = (Arc::clone(&crew.stop), Arc::clone(&sent));
        crew.threads.push(client_host.spawn("replay", move || {
            let [from_client, from_server] = &senders;
            let mean = plan.iter().map(|(_, frame)| frame.len()).sum::<usize>() / plan.len();
            let mut pacer = Pacer::new(rate);
            let mut turns = plan.iter().cycle();
            let mut reported = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                for (side, frame) in turns.by_ref().take(usize::try_from(pacer.step(mean as u64))?) {
                    let sender = if *side == Side::Client { from_client } else { from_server };
                    match sender.send(frame) {
                        Ok(()) => {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        // A full device queue under load loses a frame; say so now and then.
                        Err(error) if reported.elapsed() > Duration::from_secs(10) => {
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

fn plan(frames: &[Vec<u8>], client: Ipv4Addr, server: Ipv4Addr, gateway: [[u8; 6]; 2]) -> Vec<(Side, Vec<u8>)> {
    let [to_router_from_client, to_router_from_server] = gateway;
    let mut pair = None;
    let mut plan = Vec::new();
    for frame in frames {
        let Some((source, destination)) = addresses(frame) else { continue };
        let (first, second) = *pair.get_or_insert((source, destination));
        let (side, from, to, router) = if (source, destination) == (first, second) {
            (Side::Client, client, server, to_router_from_client)
        } else if (source, destination) == (second, first) {
            (Side::Server, server, client, to_router_from_server)
        } else {
            continue;
        };
        let mut frame = frame.clone();
        if frame.len() <= FRAME_BYTES_MAX && rewrite(&mut frame, from, to, router).is_some() {
            plan.push((side, frame));
        }
    }
    plan
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
fn rewrite(frame: &mut [u8], from: Ipv4Addr, to: Ipv4Addr, router: [u8; 6]) -> Option<()> {
    frame.get_mut(0..6)?.copy_from_slice(&router);
    // A locally administered source: no host's own address.
    frame.get_mut(6..12)?.copy_from_slice(&[0x02, 0, 0, 0, 0, 0x01]);
    frame.get_mut(26..30)?.copy_from_slice(&from.octets());
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

fn packet_socket(interface: &str, protocol: u32) -> Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(interface).with_context(|| format!("interface {interface}"))?;
    let protocol = u16::try_from(protocol)?.to_be();
    // SAFETY: no pointer is passed.
    let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol.into()) };
    if raw < 0 {
        return Err(std::io::Error::last_os_error()).context("a packet socket needs root");
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: an all-zero sockaddr_ll is valid; it is plain data.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET)?;
    address.sll_protocol = protocol;
    address.sll_ifindex = i32::try_from(index)?;
    let bytes = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: the pointer and length are those of a live sockaddr_ll.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), bytes) };
    if bound < 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("a packet socket on {interface}"));
    }
    Ok(socket)
}

fn set_option(socket: &OwnedFd, option: libc::c_int) -> Result<()> {
    let one: libc::c_int = 1;
    let bytes = libc::socklen_t::try_from(size_of_val(&one))?;
    // SAFETY: the pointer and length are those of a live integer.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, (&raw const one).cast(), bytes) };
    if result < 0 {
        return Err(std::io::Error::last_os_error()).context("an option of a packet socket");
    }
    Ok(())
}

fn set_patience(socket: &OwnedFd) -> Result<()> {
    let value = nix::sys::time::TimeVal::new(0, i64::from(PATIENCE.subsec_micros()));
    nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::ReceiveTimeout, &value)?;
    Ok(())
}
