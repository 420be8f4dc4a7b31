//! A gateway in miniature, as network namespaces on one machine:
//!
//! ```text
//!  domestic host ──── gateway router ──── foreign host
//!  192.0.2.10              │ mirrors its foreign leg      198.51.100.10, 203.0.113.10
//!  2001:db8:1::10          ▼                              2001:db8:2::10
//!                     mirror host ──── receiving facility
//!                     m0: mirror port; m1: 10.77.0.1      10.77.0.2
//! ```
//!
//! Addresses are documentation prefixes (RFC 5737, RFC 3849). Everything ends with the [`Lab`], also on a panic, and with
//! this process, also when it is killed.

pub mod disk;
mod host;
pub(crate) mod link;
mod process;
pub mod traffic;
mod tunnel;

use std::net::Ipv4Addr;

use anyhow::Result;

pub use host::Host;
pub use process::{Process, wait_until};
pub use tunnel::TunnelLab;

use traffic::{End, Rate, Replay};

/// The domestic host's IPv4 address.
pub const DOMESTIC4: &str = "192.0.2.10";
/// The foreign host's IPv4 address.
pub const FOREIGN4: &str = "198.51.100.10";
/// The foreign host's second IPv4 address, in another prefix.
pub const FOREIGN4_OTHER: &str = "203.0.113.10";
/// The domestic host's IPv6 address.
pub const DOMESTIC6: &str = "2001:db8:1::10";
/// The foreign host's IPv6 address.
pub const FOREIGN6: &str = "2001:db8:2::10";
/// An address of the domestic prefix that no host answers for: the client's in a replayed capture.
pub const REPLAY_DOMESTIC4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);
/// An address of the foreign prefixes that no host answers for: the server's in a replayed capture.
pub const REPLAY_FOREIGN4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 20);
/// The mirror host's address towards the receiving facility.
pub const MIRROR: &str = "10.77.0.1";
/// The receiving facility's address.
pub const RECEIVING: &str = "10.77.0.2";
/// The mirror port's interface on the mirror host.
pub const MIRROR_PORT: &str = "m0";

/// The five hosts, linked. The mirror runs after [`Lab::start_mirror`].
#[derive(Clone, Debug)]
pub struct Lab {
    /// A subscriber's host inside the country.
    pub domestic: Host,
    /// The carrier's gateway router; its foreign leg is mirrored.
    pub router: Host,
    /// A host abroad.
    pub foreign: Host,
    /// The carrier's mirror host, where the tap runs; has a BPF file system of its own.
    pub mirror: Host,
    /// The government's receiving facility.
    pub receiving: Host,
}

impl Lab {
    /// Builds the hosts and links them. Takes about 0.2 s.
    ///
    /// # Errors
    /// Without root, iproute2, or a kernel with veth and tc's mirred action.
    pub fn new() -> Result<Self> {
        let lab = Self {
            domestic: Host::new("domestic")?,
            router: Host::new("router")?,
            foreign: Host::new("foreign")?,
            mirror: Host::with_bpf("mirror")?,
            receiving: Host::new("receiving")?,
        };
        lab.link_gateway()?;
        lab.link_mirror()?;
        link::pair(3, (&lab.mirror, "m1"), (&lab.receiving, "c0"))?;
        link::address(&lab.mirror, "m1", &format!("{MIRROR}/30"))?;
        link::address(&lab.receiving, "c0", &format!("{RECEIVING}/30"))?;
        Ok(lab)
    }

    fn link_gateway(&self) -> Result<()> {
        link::pair(0, (&self.domestic, "d0"), (&self.router, "r-domestic"))?;
        link::pair(1, (&self.foreign, "f0"), (&self.router, "r-foreign"))?;
        for address in ["192.0.2.1/24", "2001:db8:1::1/64"] {
            link::address(&self.router, "r-domestic", address)?;
        }
        for address in ["198.51.100.1/24", "203.0.113.1/24", "2001:db8:2::1/64"] {
            link::address(&self.router, "r-foreign", address)?;
        }
        for address in [format!("{DOMESTIC4}/24"), format!("{DOMESTIC6}/64")] {
            link::address(&self.domestic, "d0", &address)?;
        }
        for address in [format!("{FOREIGN4}/24"), format!("{FOREIGN4_OTHER}/24"), format!("{FOREIGN6}/64")] {
            link::address(&self.foreign, "f0", &address)?;
        }
        self.domestic.run("ip", ["route", "add", "default", "via", "192.0.2.1"])?;
        self.domestic.run("ip", ["-6", "route", "add", "default", "via", "2001:db8:1::1"])?;
        self.foreign.run("ip", ["route", "add", "default", "via", "198.51.100.1"])?;
        self.foreign.run("ip", ["-6", "route", "add", "default", "via", "2001:db8:2::1"])?;
        // Replayed packets end at the hosts' doors; without these entries the router would answer with ICMP.
        for (address, name, number) in [(REPLAY_DOMESTIC4, "r-domestic", 0), (REPLAY_FOREIGN4, "r-foreign", 1)] {
            let hardware = link::shown(link::hardware_address(number, 0));
            self.router.run("ip", ["neigh", "add", &address.to_string(), "lladdr", &hardware, "dev", name])?;
        }
        link::forward(&self.router)
    }

    fn link_mirror(&self) -> Result<()> {
        // The mirror port carries copies alone.
        link::silent_pair(2, (&self.router, "r-mirror"), (&self.mirror, MIRROR_PORT))
    }

    /// Replays a capture's busiest IPv4 conversation between the domestic and the foreign side; see [`Replay`].
    ///
    /// # Errors
    /// Where no frame of it fits.
    pub fn replay(&self, frames: &[Vec<u8>], rate: Rate) -> Result<Replay> {
        let client = End {
            host: &self.domestic,
            interface: "d0",
            address: REPLAY_DOMESTIC4,
            router: link::hardware_address(0, 1),
        };
        let server = End {
            host: &self.foreign,
            interface: "f0",
            address: REPLAY_FOREIGN4,
            router: link::hardware_address(1, 1),
        };
        Replay::start(frames, &client, &server, rate)
    }

    /// Starts the mirror. Before this no frame reaches the mirror port, so a tap that is attached first sees every one.
    ///
    /// # Errors
    /// Where the kernel has no classifier that takes everything, or no mirred action.
    pub fn start_mirror(&self) -> Result<()> {
        // One leg only, or every packet would be seen twice.
        link::mirror(&self.router, "r-foreign", "r-mirror")
    }
}

/// A carrier's own link with a tap in it (inline mode): what `far` sends arrives at `carrier`, or the tap lost it.
#[derive(Clone, Debug)]
pub struct InlineLab {
    /// Where traffic comes from.
    pub far: Host,
    /// The carrier's host; has a BPF file system of its own.
    pub carrier: Host,
}

impl InlineLab {
    /// The interface of `far`.
    pub const FAR_PORT: &str = "far0";
    /// The interface of `carrier`, where the tap runs.
    pub const PORT: &str = "i0";

    /// Builds and links both hosts.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn new() -> Result<Self> {
        let lab = Self { far: Host::new("far")?, carrier: Host::with_bpf("carrier")? };
        link::silent_pair(4, (&lab.far, Self::FAR_PORT), (&lab.carrier, Self::PORT))?;
        Ok(lab)
    }
}

#[cfg(test)]
mod tests;
