//! Links between hosts: veth pairs, addresses, forwarding, the mirror. In: hosts and interface names. Out: changes of the
//! kernel's state inside their namespaces. Offloads are switched off: a mirror port carries frames, not super-frames.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, bail};

use super::Host;

/// Hardware address of an end of a link: locally administered, by the link's number and the end (0 left, 1 right).
pub(super) const fn hardware_address(number: u8, end: u8) -> [u8; 6] {
    [0x02, 0x00, 0x00, 0x00, number, end]
}

/// The address as `ip` reads it.
pub(super) fn shown(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

/// Joins two hosts by veth pair `number`, both ends up and without offloads.
pub(super) fn pair(number: u8, left: (&Host, &str), right: (&Host, &str)) -> Result<()> {
    join(number, left, right)?;
    for (host, name) in [left, right] {
        // Duplicate address detection would keep addresses unusable for a second.
        set(host, &format!("net/ipv6/conf/{name}/accept_dad"), "0")?;
        host.run("ip", ["link", "set", name, "up"])?;
    }
    Ok(())
}

/// As [`pair`], but no host says anything on it by itself (IPv6 neighbour discovery, ARP, multicast): not even when it
/// comes up, so that its counters begin with the first frame that somebody sends on purpose.
pub(super) fn silent_pair(number: u8, left: (&Host, &str), right: (&Host, &str)) -> Result<()> {
    join(number, left, right)?;
    silence(left.0, left.1)?;
    silence(right.0, right.1)
}

/// Brings an interface up that says nothing by itself.
pub(crate) fn silence(host: &Host, name: &str) -> Result<()> {
    set(host, &format!("net/ipv6/conf/{name}/disable_ipv6"), "1")?;
    host.run("ip", ["link", "set", name, "arp", "off", "multicast", "off", "up"]).map(drop)
}

fn join(number: u8, (left, left_name): (&Host, &str), (right, right_name): (&Host, &str)) -> Result<()> {
    let netns = right.net_path();
    let [left_address, right_address] = [0, 1].map(|end| shown(hardware_address(number, end)));
    let near = ["link", "add", left_name, "address", &left_address, "type", "veth"];
    let far = ["peer", "name", right_name, "address", &right_address, "netns", &netns];
    left.run("ip", near.iter().chain(&far))?;
    left.enter(|| offloads_off(left_name))??;
    right.enter(|| offloads_off(right_name))?
}

/// Gives an interface an address.
pub(super) fn address(host: &Host, name: &str, address: &str) -> Result<()> {
    let mut words = vec!["address", "add", address, "dev", name];
    if address.contains(':') {
        words.push("nodad");
    }
    host.run("ip", words).map(drop)
}

/// Makes a host a router.
pub(super) fn forward(host: &Host) -> Result<()> {
    set(host, "net/ipv4/ip_forward", "1")?;
    set(host, "net/ipv6/conf/all/forwarding", "1")
}

/// Copies what passes `from`, both ways, out of `to`.
pub(super) fn mirror(host: &Host, from: &str, to: &str) -> Result<()> {
    host.run("tc", ["qdisc", "add", "dev", from, "clsact"])?;
    for hook in ["ingress", "egress"] {
        let filter = ["filter", "add", "dev", from, hook, "protocol", "all", "prio", "1"];
        let action = ["action", "mirred", "egress", "mirror", "dev", to];
        let all = host.run("tc", filter.iter().chain(&["matchall"]).chain(&action));
        if all.is_err() {
            // Not every kernel has the matchall classifier; u32 with an empty key is the same.
            host.run("tc", filter.iter().chain(&["u32", "match", "u32", "0", "0"]).chain(&action))
                .context("the kernel has neither tc's matchall nor its u32 classifier")?;
        }
    }
    Ok(())
}

/// Writes a kernel parameter inside a host.
fn set(host: &Host, key: &str, value: &str) -> Result<()> {
    let file = format!("/proc/sys/{key}");
    host.enter(|| std::fs::write(&file, value))?.with_context(|| format!("{file} on host {}", host.name()))
}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// The request of linux/sockios.h that carries them.
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// ETHTOOL_SGRO of linux/ethtool.h: receive merging.
const RECEIVE_MERGING: u32 = 0x2c;
/// ETHTOOL_STSO, ETHTOOL_SGSO: segmentation; and receive merging.
const OFFLOADS: [u32; 3] = [0x1f, 0x24, RECEIVE_MERGING];

fn offloads_off(name: &str) -> Result<()> {
    OFFLOADS.into_iter().try_for_each(|command| ethtool(name, command, false))
}

/// Merging of received segments by an interface of the calling thread's namespace.
pub(crate) fn receive_merging(name: &str, on: bool) -> Result<()> {
    ethtool(name, RECEIVE_MERGING, on)
}

fn ethtool(name: &str, command: u32, on: bool) -> Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").context("a socket for ethtool")?;
    let mut value = EthtoolValue { command, data: u32::from(on) };
    // SAFETY: an all-zero ifreq is valid; it is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        bail!("{name}: an interface name has at most {} bytes", request.ifr_name.len() - 1);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: `request` and `value` outlive the call and have the kernel's layout; the call reads both.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("offloads of {name}"));
    }
    Ok(())
}
