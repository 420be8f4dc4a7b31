//! Link types: what stands in front of the IP header, and how it becomes an Ethernet header.
//!
//! In: a packet as its link carried it. Out: an Ethernet frame. Numbers are the LINKTYPE_ values of the tcpdump group.

/// EtherType of IPv4.
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// EtherType of IPv6.
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// Both MAC addresses of a header that we put in front: there were none.
const NO_ADDRESSES: [u8; 12] = [0; 12];

/// A link type that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Ethernet: taken as it is.
    Ethernet,
    /// Linux cooked capture: 16 bytes, the EtherType at the end.
    LinuxCooked,
    /// Linux cooked capture, version 2: 20 bytes, the EtherType at the beginning.
    LinuxCooked2,
    /// Nothing before the IP header; its version nibble tells which.
    RawIp,
    /// Nothing before an IPv4 header.
    RawIpv4,
    /// Nothing before an IPv6 header.
    RawIpv6,
}

impl Link {
    /// The link type of that number, if it is read. 12 and 14 are what some systems wrote for raw IP.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            113 => Some(Self::LinuxCooked),
            276 => Some(Self::LinuxCooked2),
            12 | 14 | 101 => Some(Self::RawIp),
            228 => Some(Self::RawIpv4),
            229 => Some(Self::RawIpv6),
            _ => None,
        }
    }

    /// The packet as an Ethernet frame. One that is cut off inside its link header has no byte left to judge: it
    /// becomes an empty frame, which is malformed.
    #[must_use]
    pub fn ethernet_frame(self, packet: &[u8]) -> Vec<u8> {
        let (ethertype, rest) = match self {
            Self::Ethernet => return packet.to_vec(),
            Self::LinuxCooked => (packet.get(14..16), packet.get(16..)),
            Self::LinuxCooked2 => (packet.get(0..2), packet.get(20..)),
            Self::RawIp if packet.first().is_some_and(|first| first >> 4 == 6) => {
                (Some(ETHERTYPE_IPV6.as_slice()), Some(packet))
            }
            Self::RawIp | Self::RawIpv4 => (Some(ETHERTYPE_IPV4.as_slice()), Some(packet)),
            Self::RawIpv6 => (Some(ETHERTYPE_IPV6.as_slice()), Some(packet)),
        };
        let (Some(ethertype), Some(rest)) = (ethertype, rest) else { return Vec::new() };
        [NO_ADDRESSES.as_slice(), ethertype, rest].concat()
    }
}

/// Name of a link type, for the message that refuses it.
#[must_use]
pub fn name(number: u16) -> &'static str {
    match number {
        0 => "BSD loopback",
        1 => "Ethernet",
        6 => "IEEE 802.5 token ring",
        9 => "PPP",
        10 => "FDDI",
        12 | 14 | 101 => "raw IP",
        50 => "PPP in HDLC framing",
        51 => "PPPoE",
        104 => "Cisco HDLC",
        105 => "IEEE 802.11",
        107 => "frame relay",
        108 => "OpenBSD loopback",
        113 => "Linux cooked",
        117 => "OpenBSD pflog",
        127 => "IEEE 802.11 with radiotap",
        147..=162 => "private use",
        192 => "PPI",
        195 | 230 => "IEEE 802.15.4",
        201 => "Bluetooth HCI",
        220 | 249 => "USB",
        228 => "raw IPv4",
        229 => "raw IPv6",
        239 => "NFLOG",
        240 => "NetAnalyzer",
        252 => "Wireshark upper PDU",
        253 => "netlink",
        276 => "Linux cooked, version 2",
        _ => "no name known",
    }
}
