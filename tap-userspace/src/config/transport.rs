//! `[mirror.transport]`: what the router puts around the frames it mirrors to this host.
//!
//! In: the section, or `replay`'s `--transport` with the same keys on one line. Out: the [`MirrorTransport`] that becomes
//! load-time constants. Bounds: one address of each IP version, a key that fits the kind's field.

use serde::Deserialize;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use tap_common::path::transport::{
    ANY_KEY, KIND_ERSPAN, KIND_GRE_TEB, KIND_VXLAN, MirrorTransport, VXLAN_PORT as VXLAN_PORT_DEFAULT,
};

/// The section's keys, as messages name them.
const KEYS: &str = "kind, local, port, key";

/// `[mirror.transport]`
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    /// Which transport.
    pub kind: TransportKind,
    /// This host's addresses to which the router sends: an IPv4 address, an IPv6 address, or one of each.
    pub local: Vec<IpAddr>,
    /// UDP port of VXLAN; 4789 if not given.
    #[serde(default)]
    pub port: Option<u16>,
    /// The ERSPAN session, GRE key or VXLAN network identifier to take; every one if not given.
    #[serde(default)]
    pub key: Option<u32>,
}

/// Mirror transports that are removed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum TransportKind {
    /// ERSPAN type I, II or III over GRE.
    Erspan,
    /// Ethernet over GRE.
    GreTeb,
    /// VXLAN.
    Vxlan,
}

impl TransportKind {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Erspan => "erspan",
            Self::GreTeb => "gre-teb",
            Self::Vxlan => "vxlan",
        }
    }

    /// The largest number of the field that [`Transport::key`] is compared with.
    fn key_max(self) -> u32 {
        match self {
            Self::Erspan => 0x03ff,
            Self::GreTeb => u32::MAX,
            Self::Vxlan => 0x00ff_ffff,
        }
    }
}

impl Transport {
    /// The constants of the program.
    ///
    /// # Errors
    /// The key that cannot be so, and what to write instead.
    pub fn constants(&self) -> Result<MirrorTransport, (&'static str, String)> {
        let (local4, local6) = self.addresses()?;
        if self.port.is_some() && self.kind != TransportKind::Vxlan {
            return Err(("port", format!("is for vxlan alone; leave it out for {}", self.kind.name())));
        }
        if self.port == Some(0) {
            return Err(("port", "0 is no UDP port; leave it out for VXLAN's own, 4789".into()));
        }
        let (kind, port) = match self.kind {
            TransportKind::Erspan => (KIND_ERSPAN, 0),
            TransportKind::GreTeb => (KIND_GRE_TEB, 0),
            TransportKind::Vxlan => (KIND_VXLAN, self.port.unwrap_or(VXLAN_PORT_DEFAULT)),
        };
        if let Some(key) = self.key.filter(|key| *key > self.kind.key_max()) {
            return Err(("key", format!("{key} is over {}, the largest of {}", self.kind.key_max(), self.kind.name())));
        }
        Ok(MirrorTransport { kind, port, local4, local6, key: self.key.map_or(ANY_KEY, u64::from) })
    }

    fn addresses(&self) -> Result<(u32, [u64; 2]), (&'static str, String)> {
        let (mut local4, mut local6) = (None, None);
        for address in &self.local {
            if address.is_unspecified() || address.is_multicast() {
                return Err(("local", format!("{address} is no host's address; write the one the router sends to")));
            }
            let second = match address {
                IpAddr::V4(address) => local4.replace(u32::from(*address)).is_some(),
                IpAddr::V6(address) => local6.replace(halves(address.octets())).is_some(),
            };
            if second {
                return Err(("local", format!("{address} is a second address of its IP version; write one of each")));
            }
        }
        if self.local.is_empty() {
            return Err(("local", "is empty; write the address of this host that the router sends to".into()));
        }
        Ok((local4.unwrap_or(0), local6.unwrap_or([0, 0])))
    }
}

fn halves(octets: [u8; 16]) -> [u64; 2] {
    let half = |octets: &[u8]| octets.iter().fold(0, |word, octet| word << 8 | u64::from(*octet));
    let (high, low) = octets.split_at(8);
    [half(high), half(low)]
}

/// As status, log and [`FromStr`] have it: `vxlan,local=192.0.2.10,port=4789,key=5`.
impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        for address in &self.local {
            write!(f, ",local={address}")?;
        }
        if let Some(port) = self.port {
            write!(f, ",port={port}")?;
        }
        match self.key {
            Some(key) => write!(f, ",key={key}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        let kind = match words.next().unwrap_or_default() {
            "erspan" => TransportKind::Erspan,
            "gre-teb" => TransportKind::GreTeb,
            "vxlan" => TransportKind::Vxlan,
            other => return Err(format!("`{other}` is none of erspan, gre-teb, vxlan")),
        };
        let mut transport = Self { kind, local: Vec::new(), port: None, key: None };
        for word in words {
            let (name, value) = word.split_once('=').ok_or(format!("`{word}` is not NAME=VALUE, of {KEYS}"))?;
            let wrong = |what: &str| format!("{name}: `{value}` is no {what}");
            match name {
                "local" => transport.local.push(value.parse().map_err(|_error| wrong("IP address"))?),
                "port" => transport.port = Some(value.parse().map_err(|_error| wrong("UDP port"))?),
                "key" => transport.key = Some(value.parse().map_err(|_error| wrong("number of 32 bits"))?),
                _ => return Err(format!("`{name}` is none of {KEYS}")),
            }
        }
        transport.constants().map_err(|(key, reason)| format!("{key}: {reason}"))?;
        Ok(transport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<Transport>().unwrap_err()
    }

    #[test]
    fn a_line_and_a_section_say_the_same() {
        let line: Transport = "vxlan,local=192.0.2.10,local=2001:db8::10,port=8472,key=5".parse().unwrap();
        let section = "kind = \"vxlan\"\nlocal = [\"192.0.2.10\", \"2001:db8::10\"]\nport = 8472\nkey = 5";
        assert_eq!(line, toml::from_str(section).unwrap());
        assert_eq!(line.to_string().parse(), Ok(line.clone()));
        let expected = MirrorTransport {
            kind: KIND_VXLAN,
            port: 8472,
            local4: 0xc000_020a,
            local6: [0x2001_0db8_0000_0000, 0x10],
            key: 5,
        };
        assert_eq!(line.constants().unwrap(), expected);
    }

    #[test]
    fn defaults_are_the_assigned_port_and_every_session() {
        let vxlan = "vxlan,local=192.0.2.10".parse::<Transport>().unwrap().constants().unwrap();
        assert_eq!((vxlan.port, vxlan.key), (4789, ANY_KEY));
        let erspan = "erspan,local=2001:db8::10".parse::<Transport>().unwrap().constants().unwrap();
        assert_eq!((erspan.kind, erspan.local4, erspan.port), (KIND_ERSPAN, 0, 0));
    }

    #[test]
    fn what_cannot_be_is_refused_by_key() {
        for (text, message) in [
            ("geneve", "`geneve` is none of erspan, gre-teb, vxlan"),
            ("vxlan", "local: is empty"),
            ("vxlan,local=0.0.0.0", "local: 0.0.0.0 is no host's address"),
            ("vxlan,local=224.0.0.1", "local: 224.0.0.1 is no host's address"),
            ("vxlan,local=192.0.2.1,local=192.0.2.2", "local: 192.0.2.2 is a second address"),
            ("vxlan,local=192.0.2.1,port=0", "port: 0 is no UDP port"),
            ("erspan,local=192.0.2.1,port=4789", "port: is for vxlan alone"),
            ("erspan,local=192.0.2.1,key=1024", "key: 1024 is over 1023"),
            ("vxlan,local=192.0.2.1,key=16777216", "key: 16777216 is over 16777215"),
            ("gre-teb,local=192.0.2.1,key=4294967296", "key: `4294967296` is no number of 32 bits"),
            ("vxlan,local=here", "local: `here` is no IP address"),
            ("vxlan,remote=192.0.2.1", "`remote` is none of kind, local, port, key"),
            ("vxlan,192.0.2.1", "`192.0.2.1` is not NAME=VALUE"),
        ] {
            let found = refusal(text);
            assert!(found.starts_with(message), "{text}: {found}");
        }
    }
}
