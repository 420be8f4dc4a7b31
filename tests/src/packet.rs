//! Packets from layers: a case or a generator names the layers, and what follows from them (types, lengths, bottom
//! bits) is filled in unless it is given. Checksums are 0: nothing on the way looks at them.

use serde::Deserialize;
use std::net::{Ipv4Addr, Ipv6Addr};

/// One layer of a packet, outermost first.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Layer {
    /// Ethernet header.
    Ethernet {
        /// EtherType, if not that of the next layer.
        #[serde(default, rename = "type")]
        ether_type: Option<u16>,
    },
    /// VLAN tag.
    Vlan {
        /// Tag protocol, 0x8100 if not given.
        #[serde(default)]
        protocol: Option<u16>,
        /// VLAN identifier.
        #[serde(default)]
        id: u16,
        /// EtherType behind the tag, if not that of the next layer.
        #[serde(default, rename = "type")]
        ether_type: Option<u16>,
    },
    /// PPPoE session header with the PPP protocol number.
    Pppoe {
        /// Version and type, 0x11 if not given.
        #[serde(default)]
        version_type: Option<u8>,
        /// PPP protocol, if not that of the next layer.
        #[serde(default)]
        protocol: Option<u16>,
    },
    /// MPLS label.
    Mpls {
        /// The label.
        #[serde(default)]
        label: u32,
        /// Bottom of the stack; if not given, when the next layer is no label.
        #[serde(default)]
        bottom: Option<bool>,
    },
    /// IPv4 header.
    Ipv4 {
        /// Source address.
        source: Ipv4Addr,
        /// Destination address.
        destination: Ipv4Addr,
        /// Version nibble, 4 if not given.
        #[serde(default)]
        version: Option<u8>,
        /// Options, in 4-byte words of 1 (no operation).
        #[serde(default)]
        option_words: u8,
        /// Header length in words, if not the true one.
        #[serde(default)]
        header_words: Option<u8>,
        /// Total length, if not the true one.
        #[serde(default)]
        total_length: Option<u16>,
        /// Protocol, if not that of the next layer.
        #[serde(default)]
        protocol: Option<u8>,
        /// Fragment offset in units of 8 bytes.
        #[serde(default)]
        fragment_offset: u16,
        /// More fragments follow.
        #[serde(default)]
        more_fragments: bool,
    },
    /// IPv6 header.
    Ipv6 {
        /// Source address.
        source: Ipv6Addr,
        /// Destination address.
        destination: Ipv6Addr,
        /// Version nibble, 6 if not given.
        #[serde(default)]
        version: Option<u8>,
        /// Payload length, if not the true one.
        #[serde(default)]
        payload_length: Option<u16>,
        /// Next header, if not that of the next layer.
        #[serde(default)]
        next_header: Option<u8>,
    },
    /// Hop-by-hop options, routing header or destination options: 8 × (units + 1) bytes.
    Extension {
        /// Protocol number of this header: 0, 43 or 60.
        protocol: u8,
        /// Length beyond the first 8 bytes in units of 8.
        #[serde(default)]
        units: u8,
        /// Next header, if not that of the next layer.
        #[serde(default)]
        next_header: Option<u8>,
    },
    /// IPv6 fragment header.
    Fragment {
        /// Fragment offset in units of 8 bytes.
        #[serde(default)]
        offset: u16,
        /// More fragments follow.
        #[serde(default)]
        more_fragments: bool,
        /// Next header, if not that of the next layer.
        #[serde(default)]
        next_header: Option<u8>,
    },
    /// Authentication header: 4 × (words + 2) bytes.
    Authentication {
        /// Length in words less 2, 4 if not given.
        #[serde(default)]
        words: Option<u8>,
        /// Next header, if not that of the next layer.
        #[serde(default)]
        next_header: Option<u8>,
    },
    /// TCP header.
    Tcp {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
        /// Flags.
        #[serde(default)]
        flags: u8,
        /// Header length in words, 5 if not given.
        #[serde(default)]
        header_words: Option<u8>,
    },
    /// A header that begins with two ports: UDP, SCTP, DCCP, UDP-Lite.
    Ports {
        /// Protocol number.
        protocol: u8,
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
    },
    /// GRE header (RFC 2784, RFC 2890).
    Gre {
        /// Protocol type, if not that of the next layer.
        #[serde(default)]
        protocol: Option<u16>,
        /// With the checksum and its reserved half word.
        #[serde(default)]
        checksum: bool,
        /// The key, if there is one.
        #[serde(default)]
        key: Option<u32>,
        /// With a sequence number.
        #[serde(default)]
        sequence: bool,
        /// Further flags and the version.
        #[serde(default)]
        flags: u16,
    },
    /// ERSPAN header of type II or III.
    Erspan {
        /// 2 or 3.
        #[serde(rename = "type")]
        erspan_type: u8,
        /// Session.
        #[serde(default)]
        session: u16,
        /// Version nibble, if not the type's own.
        #[serde(default)]
        version: Option<u8>,
        /// Frame type (type III).
        #[serde(default)]
        frame_type: u8,
        /// With a platform-specific subheader (type III).
        #[serde(default)]
        platform: bool,
    },
    /// VXLAN header.
    Vxlan {
        /// Network identifier.
        #[serde(default)]
        identifier: u32,
        /// Flags, 0x08 (the identifier is valid) if not given.
        #[serde(default)]
        flags: Option<u8>,
    },
    /// Any other protocol: 8 bytes of 0.
    Other {
        /// Protocol number.
        protocol: u8,
    },
    /// That many bytes of payload, all 0xaa.
    Payload {
        /// How many.
        bytes: usize,
    },
    /// Bytes as they are, in hex.
    Hex {
        /// The digits.
        digits: String,
    },
}

/// The bytes of a packet made of `layers`.
///
/// # Errors
/// When hex digits are none.
pub fn build(layers: &[Layer]) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut next = None;
    for layer in layers.iter().rev() {
        let mut bytes = header(layer, next, content.len())?;
        bytes.append(&mut content);
        content = bytes;
        next = Some(layer);
    }
    Ok(content)
}

/// The header of `layer` in front of `next` and `behind` bytes.
/// A capture file of `frames` (classic pcap, microseconds, Ethernet), one a microsecond.
#[must_use]
pub fn capture<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for (number, frame) in (0_u32..).zip(frames) {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        for word in [1_800_000_000, number, length, length] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(frame);
    }
    out
}

fn header(layer: &Layer, next: Option<&Layer>, behind: usize) -> anyhow::Result<Vec<u8>> {
    let bytes = match layer {
        Layer::Ethernet { ether_type } => {
            [[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2].as_slice(), &given_or(*ether_type, ether_type_of(next))].concat()
        }
        Layer::Vlan { id, ether_type, .. } => {
            [id.to_be_bytes().as_slice(), &given_or(*ether_type, ether_type_of(next))].concat()
        }
        Layer::Pppoe { version_type, protocol } => {
            let ppp = if matches!(next, Some(Layer::Ipv6 { .. })) { 0x0057 } else { 0x0021 };
            let start = [version_type.unwrap_or(0x11), 0, 0, 1];
            [start.as_slice(), &length16(behind + 2), &given_or(*protocol, ppp)].concat()
        }
        Layer::Mpls { label, bottom } => {
            let bottom = bottom.unwrap_or(!matches!(next, Some(Layer::Mpls { .. })));
            ((label << 12) | (u32::from(bottom) << 8) | 64).to_be_bytes().to_vec()
        }
        Layer::Ipv4 { .. } => ipv4(layer, next, behind),
        Layer::Ipv6 { source, destination, version, payload_length, next_header } => {
            let start = [version.unwrap_or(6) << 4, 0, 0, 0];
            let length = payload_length.map_or(length16(behind), u16::to_be_bytes);
            let protocol = [next_header.unwrap_or(protocol_of(next, true)), 64];
            [&start[..], &length, &protocol, &source.octets(), &destination.octets()].concat()
        }
        Layer::Extension { units, next_header, .. } => {
            let mut bytes = vec![next_header.unwrap_or(protocol_of(next, true)), *units];
            bytes.resize(8 * (usize::from(*units) + 1), 0);
            bytes
        }
        Layer::Fragment { offset, more_fragments, next_header } => {
            let place = (offset << 3) | u16::from(*more_fragments);
            let start = [next_header.unwrap_or(protocol_of(next, true)), 0];
            [&start[..], &place.to_be_bytes(), &[0, 0, 0, 7]].concat()
        }
        Layer::Authentication { words, next_header } => {
            let words = words.unwrap_or(4);
            let mut bytes = vec![next_header.unwrap_or(protocol_of(next, true)), words];
            bytes.resize(4 * (usize::from(words) + 2), 0);
            bytes
        }
        Layer::Tcp { source_port, destination_port, flags, header_words } => {
            let words = header_words.unwrap_or(5);
            let mut bytes = [source_port.to_be_bytes(), destination_port.to_be_bytes()].concat();
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, words << 4, *flags, 1, 0, 0, 0, 0, 0]);
            bytes.resize(20.max(4 * usize::from(words)), 1);
            bytes
        }
        Layer::Ports { source_port, destination_port, .. } => {
            let ports = [source_port.to_be_bytes(), destination_port.to_be_bytes()].concat();
            [&ports[..], &length16(behind + 8), &[0, 0]].concat()
        }
        Layer::Gre { .. } => gre(layer, next),
        Layer::Erspan { .. } => erspan(layer),
        Layer::Vxlan { identifier, flags } => {
            [&[flags.unwrap_or(8), 0, 0, 0][..], &(identifier << 8).to_be_bytes()].concat()
        }
        Layer::Other { .. } => vec![0; 8],
        Layer::Payload { bytes } => vec![0xaa; *bytes],
        Layer::Hex { digits } => hex::decode(digits)?,
    };
    Ok(bytes)
}

fn ipv4(layer: &Layer, next: Option<&Layer>, behind: usize) -> Vec<u8> {
    let Layer::Ipv4 {
        source,
        destination,
        version,
        option_words,
        header_words,
        total_length,
        protocol,
        fragment_offset,
        more_fragments,
    } = layer
    else {
        return Vec::new();
    };
    let words = 5 + option_words;
    let first = version.unwrap_or(4) << 4 | (header_words.unwrap_or(words) & 15);
    let length = total_length.map_or(length16(4 * usize::from(words) + behind), u16::to_be_bytes);
    let place = (fragment_offset & 0x1fff) | (u16::from(*more_fragments) << 13);
    let protocol = [64, protocol.unwrap_or(protocol_of(next, false)), 0, 0];
    let options = vec![1; 4 * usize::from(*option_words)];
    let start = [&[first, 0][..], &length, &[0, 9], &place.to_be_bytes(), &protocol].concat();
    [&start[..], &source.octets(), &destination.octets(), &options].concat()
}

fn gre(layer: &Layer, next: Option<&Layer>) -> Vec<u8> {
    let Layer::Gre { protocol, checksum, key, sequence, flags } = layer else { return Vec::new() };
    let flags = flags | u16::from(*checksum) << 15 | u16::from(key.is_some()) << 13 | u16::from(*sequence) << 12;
    let own = match next {
        Some(Layer::Erspan { erspan_type: 3, .. }) => 0x22eb,
        Some(Layer::Erspan { .. }) => 0x88be,
        _ => 0x6558,
    };
    let mut bytes = [flags.to_be_bytes(), given_or(*protocol, own)].concat();
    bytes.resize(if *checksum { 8 } else { 4 }, 0);
    bytes.extend(key.map(u32::to_be_bytes).into_iter().flatten());
    bytes.extend(sequence.then_some([0, 0, 0, 3]).into_iter().flatten());
    bytes
}

fn erspan(layer: &Layer) -> Vec<u8> {
    let Layer::Erspan { erspan_type, session, version, frame_type, platform } = layer else { return Vec::new() };
    let version = u32::from(version.unwrap_or(erspan_type - 1));
    let mut bytes = (version << 28 | 7 << 16 | u32::from(session & 0x03ff)).to_be_bytes().to_vec();
    bytes.extend([0, 0, 0, 5]);
    if *erspan_type == 3 {
        let last = u32::from(*frame_type) << 10 | u32::from(*platform);
        bytes.extend(last.to_be_bytes());
        bytes.resize(if *platform { 20 } else { 12 }, 0x5a);
    }
    bytes
}

fn given_or(given: Option<u16>, otherwise: u16) -> [u8; 2] {
    given.unwrap_or(otherwise).to_be_bytes()
}

/// A length field; a length that does not fit is written as the largest.
fn length16(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

fn ether_type_of(next: Option<&Layer>) -> u16 {
    match next {
        Some(Layer::Vlan { protocol, .. }) => protocol.unwrap_or(0x8100),
        Some(Layer::Pppoe { .. }) => 0x8864,
        Some(Layer::Mpls { .. }) => 0x8847,
        Some(Layer::Ipv6 { .. }) => 0x86dd,
        _ => 0x0800,
    }
}

fn protocol_of(next: Option<&Layer>, ipv6: bool) -> u8 {
    match next {
        Some(Layer::Extension { protocol, .. } | Layer::Ports { protocol, .. } | Layer::Other { protocol }) => {
            *protocol
        }
        Some(Layer::Fragment { .. }) => 44,
        Some(Layer::Authentication { .. }) => 51,
        Some(Layer::Tcp { .. }) => 6,
        Some(Layer::Gre { .. }) => 47,
        Some(Layer::Ipv4 { .. }) => 4,
        Some(Layer::Ipv6 { .. }) => 41,
        _ if ipv6 => 59,
        _ => 253,
    }
}
