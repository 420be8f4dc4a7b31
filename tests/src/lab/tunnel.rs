//! A router that mirrors into a tunnel: what it is given it copies, encapsulated by its own kernel, to the mirror host.
//!
//! ```text
//!  source ──── router ════ tunnel ════ mirror host (m0)
//!    s0   r-in        r-mirror         192.0.2.10, 2001:db8:aaaa::10
//! ```

use anyhow::{Result, bail};

use super::{Host, link};

/// The three hosts, linked; the tunnel is made by [`TunnelLab::mirror_into`].
#[derive(Clone, Debug)]
pub struct TunnelLab {
    /// Frames sent out of [`TunnelLab::SOURCE_PORT`] here are mirrored.
    pub source: Host,
    /// The router.
    pub router: Host,
    /// The mirror host; has a BPF file system of its own.
    pub mirror: Host,
}

impl TunnelLab {
    /// The interface of `source`.
    pub const SOURCE_PORT: &str = "s0";
    /// The interface of `mirror`, where the tap runs. It has no address; the router is told where the tunnel ends.
    pub const PORT: &str = "m0";
    /// Where the tunnel ends.
    pub const LOCAL4: &str = "192.0.2.10";
    /// The same over IPv6.
    pub const LOCAL6: &str = "2001:db8:aaaa::10";
    /// Where the tunnel begins.
    pub const REMOTE4: &str = "192.0.2.1";
    /// The same over IPv6.
    pub const REMOTE6: &str = "2001:db8:aaaa::1";

    /// Builds and links the hosts.
    ///
    /// # Errors
    /// As [`super::Lab::new`].
    pub fn new() -> Result<Self> {
        let lab =
            Self { source: Host::new("source")?, router: Host::new("router")?, mirror: Host::with_bpf("mirror")? };
        link::silent_pair(5, (&lab.source, Self::SOURCE_PORT), (&lab.router, "r-in"))?;
        link::pair(6, (&lab.router, "r-mirror"), (&lab.mirror, Self::PORT))?;
        link::address(&lab.router, "r-mirror", &format!("{}/24", Self::REMOTE4))?;
        link::address(&lab.router, "r-mirror", &format!("{}/64", Self::REMOTE6))?;
        // The tap drops what asks for the mirror host's hardware address.
        let hardware = link::shown(link::hardware_address(6, 1));
        for address in [Self::LOCAL4, Self::LOCAL6] {
            lab.router
                .run("ip", ["neigh", "add", address, "lladdr", &hardware, "dev", "r-mirror", "nud", "permanent"])?;
        }
        Ok(lab)
    }

    /// Mirrors into a tunnel of `kind` with these parameters; false if the kernel has no such device.
    ///
    /// # Errors
    /// The device is there but cannot be made so, or there is no mirred action.
    pub fn mirror_into(&self, kind: &str, parameters: &[&str]) -> Result<bool> {
        let add = ["link", "add", "t0", "type", kind];
        if let Err(error) = self.router.run("ip", add.iter().chain(parameters)) {
            let text = error.to_string();
            if ["Unknown device type", "not supported"].iter().any(|absent| text.contains(absent)) {
                return Ok(false);
            }
            bail!(error);
        }
        link::silence(&self.router, "t0")?;
        link::mirror(&self.router, "r-in", "t0")?;
        Ok(true)
    }

    /// Ends the mirror and the tunnel, so that another can be made.
    ///
    /// # Errors
    /// There was none.
    pub fn end_mirror(&self) -> Result<()> {
        self.router.run("tc", ["qdisc", "del", "dev", "r-in", "clsact"])?;
        self.router.run("ip", ["link", "del", "t0"]).map(drop)
    }
}
