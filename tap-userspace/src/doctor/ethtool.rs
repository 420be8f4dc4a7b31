//! Ethtool: what a driver says of its queues. In: an interface of the caller's network namespace. Out: numbers, or the
//! kernel's refusal. It only asks; it has no command that sets anything.

use super::machine::{Queues, ReceiveRing};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::AsRawFd as _;

/// include/uapi/linux/sockios.h
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// include/uapi/linux/ethtool.h
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GRINGPARAM: u32 = 0x10;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `struct ethtool_drvinfo`
const DRIVER_BYTES: usize = 196;
const DRIVER_NAME_BYTES: usize = 32;

/// Name of the driver.
pub(super) fn driver(interface: &str) -> Option<String> {
    let mut value = [0_u32; DRIVER_BYTES / 4];
    let [command, ..] = &mut value;
    *command = ETHTOOL_GDRVINFO;
    ask(interface, &mut value).ok()?;
    let bytes = value.iter().skip(1).flat_map(|word| word.to_ne_bytes());
    let name: Vec<u8> = bytes.take(DRIVER_NAME_BYTES).take_while(|byte| *byte != 0).collect();
    String::from_utf8(name).ok().filter(|name| !name.is_empty())
}

/// Receive queues.
pub(super) fn queues(interface: &str) -> Option<Queues> {
    // cmd; most rx, tx, other, combined; used rx, tx, other, combined.
    let mut value = [ETHTOOL_GCHANNELS, 0, 0, 0, 0, 0, 0, 0, 0];
    ask(interface, &mut value).ok()?;
    let [_, most_rx, _, _, most_combined, rx, _, _, combined] = value;
    Some(Queues { used: rx.saturating_add(combined), most: most_rx.saturating_add(most_combined) })
}

/// The receive ring's slots.
pub(super) fn ring(interface: &str) -> Option<ReceiveRing> {
    // cmd; most rx, mini, jumbo, tx; used rx, mini, jumbo, tx.
    let mut value = [ETHTOOL_GRINGPARAM, 0, 0, 0, 0, 0, 0, 0, 0];
    ask(interface, &mut value).ok()?;
    let [_, most, _, _, _, used, ..] = value;
    (most > 0).then_some(ReceiveRing { used, most })
}

/// One question: `value` begins with the command and has the size of the command's structure.
fn ask<const WORDS: usize>(interface: &str, value: &mut [u32; WORDS]) -> std::io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: `ifreq` is plain old data, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays for the closing zero.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: the request and what it points to are live and exclusively borrowed, and as large as the command's structure.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
