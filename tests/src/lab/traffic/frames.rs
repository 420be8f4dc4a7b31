//! Raw frames on an interface: a sender and a sink that counts what arrives. Frames bypass the queueing discipline
//! (PACKET_QDISC_BYPASS), which would drop some of a burst.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{Crew, PATIENCE};
use crate::lab::Host;

/// Receive buffer of a sink.
const RECEIVE_BYTES: usize = 64 << 20;
/// How often, a millisecond apart, a sender tries again while the link's queue is full.
const QUEUE_PATIENCE_MS: u32 = 2_000;

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

    /// Sends one frame; waits while the link's queue is full, which it is when the receiver shares the sender's CPU.
    ///
    /// # Errors
    /// Where the interface is down or the frame too long for it, or the queue does not empty.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        for _ in 0..QUEUE_PATIENCE_MS {
            // SAFETY: the pointer and length are those of a live slice.
            let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
            if sent >= 0 {
                return Ok(());
            }
            let error = std::io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::ENOBUFS) {
                return Err(error).context("sending a frame");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("sending a frame: the link's queue stays full")
    }
}

/// Counts the frames that arrive on an interface and carry a mark.
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
        // Room for a burst while the counting thread is not on a CPU.
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &RECEIVE_BYTES)?;
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
