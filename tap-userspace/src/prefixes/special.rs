//! Special-purpose and multicast ranges: always unlisted, whatever a country table says of them.
//!
//! Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and the RFCs named below), entries that lie
//! in a listed one left out; multicast by RFC 5771 and RFC 4291.

use super::range::{self, Range};
use ipnetwork::IpNetwork;

/// Documentation prefixes: RFC 5737, RFC 3849, RFC 9637. Listed only where a demo or a test says so.
pub const DOCUMENTATION: &[&str] = &["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"];

/// Every other special-purpose range.
pub const SPECIAL_PURPOSE: &[&str] = &[
    "0.0.0.0/8",         // this network, RFC 791
    "10.0.0.0/8",        // private use, RFC 1918
    "100.64.0.0/10",     // shared address space, RFC 6598
    "127.0.0.0/8",       // loopback, RFC 1122
    "169.254.0.0/16",    // link local, RFC 3927
    "172.16.0.0/12",     // private use, RFC 1918
    "192.0.0.0/24",      // IETF protocol assignments, RFC 6890
    "192.31.196.0/24",   // AS112, RFC 7535
    "192.52.193.0/24",   // AMT, RFC 7450
    "192.88.99.0/24",    // former 6to4 relay anycast, RFC 7526
    "192.168.0.0/16",    // private use, RFC 1918
    "192.175.48.0/24",   // AS112 direct delegation, RFC 7534
    "198.18.0.0/15",     // benchmarking, RFC 2544
    "224.0.0.0/4",       // multicast, RFC 5771
    "240.0.0.0/4",       // reserved, RFC 1112, and limited broadcast, RFC 919
    "::/128",            // unspecified, RFC 4291
    "::1/128",           // loopback, RFC 4291
    "::ffff:0:0/96",     // IPv4-mapped, RFC 4291
    "64:ff9b::/96",      // IPv4-IPv6 translation, RFC 6052
    "64:ff9b:1::/48",    // local translation, RFC 8215
    "100::/64",          // discard only, RFC 6666
    "100:0:0:1::/64",    // dummy prefix, RFC 9780
    "2001::/23",         // IETF protocol assignments with Teredo, ORCHID and others, RFC 2928
    "2002::/16",         // 6to4, RFC 3056
    "2620:4f:8000::/48", // AS112 direct delegation, RFC 7534
    "5f00::/16",         // segment routing SIDs, RFC 9602
    "fc00::/7",          // unique local, RFC 4193
    "fe80::/10",         // link local, RFC 4291
    "ff00::/8",          // multicast, RFC 4291
];

/// What becomes of the documentation prefixes when a country table is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Special {
    /// They are unlisted like every other special-purpose range: the only choice for real traffic.
    #[default]
    TakenOut,
    /// The table may list them: for a demo or a test in its own namespaces.
    DocumentationAllowed,
}

impl Special {
    /// The ranges taken out of a table, IPv4 and IPv6, each disjoint.
    #[must_use]
    pub fn ranges(self) -> (Vec<Range>, Vec<Range>) {
        let documentation = match self {
            Self::TakenOut => DOCUMENTATION,
            Self::DocumentationAllowed => &[],
        };
        let prefixes: Vec<IpNetwork> =
            SPECIAL_PURPOSE.iter().chain(documentation).filter_map(|prefix| prefix.parse().ok()).collect();
        let (ipv4, ipv6) = super::split(&prefixes);
        (range::union(ipv4), range::union(ipv6))
    }
}
