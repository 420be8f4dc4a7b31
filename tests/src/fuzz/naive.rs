//! A second reading of a packet, by plain code over a slice: no fixed-width loads, no tables, nothing of the product's.
//!
//! In: a frame, mirror transport removed. Out: its header fields or the name of the reason why there are none, bytes on the
//! line, where a payload begins, and which bytes were looked at. Written from RFC 791, RFC 8200, RFC 2516, RFC 3032 and
//! RFC 9293 and the list of reasons; what it shares with the product are the limits alone.

use crate::oracle::Fields;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tap_common::limits::{
    HEADER_BYTES_MAX, IPV6_EXTENSION_HEADERS_MAX, LINE_OVERHEAD_BYTES, MPLS_LABELS_MAX, VLAN_TAGS_MAX,
};

/// What was read of a frame.
#[derive(Debug)]
pub struct Reading {
    /// Header fields, or the name of the reason why there are none.
    pub fields: Result<Fields, &'static str>,
    /// Bytes on the line.
    pub line_bytes: usize,
    /// Where the IP header begins; 0 when there is none.
    pub ip_offset: usize,
    /// Where the payload of TCP, UDP or UDP-Lite begins.
    pub payload: Option<usize>,
    /// For each byte of the frame, whether it was looked at.
    pub looked_at: Vec<bool>,
}

/// Reads `frame`.
#[must_use]
pub fn read(frame: &[u8]) -> Reading {
    let mut reader = Reader { frame, looked_at: vec![false; frame.len()], ip_offset: 0, payload: None };
    let fields = reader.packet();
    let stated = fields.as_ref().map_or(0, |fields| reader.ip_offset + fields.ip_length as usize);
    Reading {
        fields,
        line_bytes: frame.len().max(stated) + LINE_OVERHEAD_BYTES as usize,
        ip_offset: reader.ip_offset,
        payload: reader.payload,
        looked_at: reader.looked_at,
    }
}

impl Reading {
    /// Whether the bytes of a payload condition are there: all of them, within the IP packet, and as asked.
    #[must_use]
    pub fn has_payload(&self, frame: &[u8], offset: usize, bytes: &[u8], mask: &[u8]) -> bool {
        let (Some(payload), Ok(fields)) = (self.payload, &self.fields) else { return false };
        let start = payload + offset;
        let end = start + bytes.len();
        if end > self.ip_offset + fields.ip_length as usize || end > HEADER_BYTES_MAX as usize {
            return false;
        }
        let Some(found) = frame.get(start..end) else { return false };
        found.iter().zip(bytes).zip(mask).all(|((found, byte), mask)| found & mask == byte & mask)
    }
}

struct Reader<'a> {
    frame: &'a [u8],
    looked_at: Vec<bool>,
    ip_offset: usize,
    payload: Option<usize>,
}

/// The upper layer: protocol, where it begins, where the IP packet ends.
struct Upper {
    protocol: u8,
    start: usize,
    end: usize,
}

/// Ports and TCP flags.
#[derive(Default)]
struct Ports {
    source: Option<u16>,
    destination: Option<u16>,
    flags: Option<u8>,
}

impl Reader<'_> {
    /// Bytes from `start`, when all are there and within what is looked at.
    fn bytes<const N: usize>(&mut self, start: usize) -> Option<[u8; N]> {
        if start + N > HEADER_BYTES_MAX as usize {
            return None;
        }
        let found = self.frame.get(start..start + N)?.try_into().ok()?;
        self.looked_at.get_mut(start..start + N)?.fill(true);
        Some(found)
    }

    fn short(&mut self, start: usize) -> Option<u16> {
        self.bytes(start).map(u16::from_be_bytes)
    }

    /// Whether bytes up to `end` are in the frame, but further in than is looked at.
    fn too_far(&self, end: usize) -> bool {
        end > HEADER_BYTES_MAX as usize && end <= self.frame.len()
    }

    fn packet(&mut self) -> Result<Fields, &'static str> {
        let mut ether_type = self.short(12).ok_or("ethernet_short")?;
        let mut at = 14;
        for tag in 0.. {
            if !matches!(ether_type, 0x8100 | 0x88a8 | 0x9100 | 0x9200) {
                break;
            }
            if tag == VLAN_TAGS_MAX {
                return Err("vlan_tags");
            }
            ether_type = self.short(at + 2).ok_or("vlan_short")?;
            at += 4;
        }
        match ether_type {
            0x0800 => self.ipv4(at),
            0x86dd => self.ipv6(at),
            0x8864 => match self.bytes::<8>(at).ok_or("pppoe_invalid")? {
                [0x11, _, _, _, _, _, 0x00, 0x21] => self.ipv4(at + 8),
                [0x11, _, _, _, _, _, 0x00, 0x57] => self.ipv6(at + 8),
                [0x11, ..] => Err("not_ip"),
                _ => Err("pppoe_invalid"),
            },
            0x8847 | 0x8848 => {
                for _ in 0..MPLS_LABELS_MAX {
                    let [_, _, third, _] = self.bytes::<4>(at).ok_or("mpls_short")?;
                    at += 4;
                    if third % 2 == 1 {
                        let [first] = self.bytes::<1>(at).ok_or("mpls_short")?;
                        return match first / 16 {
                            4 => self.ipv4(at),
                            6 => self.ipv6(at),
                            _ => Err("not_ip"),
                        };
                    }
                }
                Err("mpls_labels")
            }
            _ => Err("not_ip"),
        }
    }

    fn ipv4(&mut self, at: usize) -> Result<Fields, &'static str> {
        self.ip_offset = at;
        let header = self.bytes::<20>(at).ok_or("ipv4_short")?;
        let [first, _, l0, l1, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = header;
        let header_bytes = usize::from(first % 16) * 4;
        let ip_length = u16::from_be_bytes([l0, l1]);
        if first / 16 != 4 {
            return Err("version_mismatch");
        }
        if header_bytes < 20 {
            return Err("ipv4_header_length");
        }
        if usize::from(ip_length) < header_bytes {
            return Err("ipv4_total_length");
        }
        if at + header_bytes > self.frame.len() {
            return Err("ipv4_short");
        }
        let more = f0 & 0x20 != 0;
        let fragment = fragment(u16::from_be_bytes([f0 & 0x1f, f1]), more);
        let upper = Upper { protocol, start: at + header_bytes, end: at + usize::from(ip_length) };
        let ports = self.ports(&upper, fragment)?;
        Ok(Fields {
            ip_version: 4,
            source: IpAddr::V4(Ipv4Addr::new(s0, s1, s2, s3)),
            destination: IpAddr::V4(Ipv4Addr::new(d0, d1, d2, d3)),
            protocol,
            source_port: ports.source,
            destination_port: ports.destination,
            tcp_flags: ports.flags,
            ip_length: ip_length.into(),
            fragment,
            // Asked for here, byte by byte: see `Reading::has_payload`.
            payload: Vec::new(),
        })
    }

    fn ipv6(&mut self, at: usize) -> Result<Fields, &'static str> {
        self.ip_offset = at;
        let header = self.bytes::<40>(at).ok_or("ipv6_short")?;
        let (fixed, addresses) = header.split_at(8);
        let (source, destination) = addresses.split_at(16);
        let address = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).map(Ipv6Addr::from).map(IpAddr::V6);
        let (Ok(source), Ok(destination)) = (address(source), address(destination)) else { return Err("ipv6_short") };
        let &[first, _, _, _, l0, l1, next, _] = fixed else { return Err("ipv6_short") };
        if first / 16 != 6 {
            return Err("version_mismatch");
        }
        let ip_length = 40 + u32::from(u16::from_be_bytes([l0, l1]));
        // A length of 0 says nothing: the frame's end is the end.
        let end = if ip_length == 40 { self.frame.len() } else { at + ip_length as usize };
        let (upper, fragment) = self.extensions(next, at + 40, end)?;
        let ports = self.ports(&upper, fragment)?;
        Ok(Fields {
            ip_version: 6,
            source,
            destination,
            protocol: upper.protocol,
            source_port: ports.source,
            destination_port: ports.destination,
            tcp_flags: ports.flags,
            ip_length,
            fragment,
            // Asked for here, byte by byte: see `Reading::has_payload`.
            payload: Vec::new(),
        })
    }

    /// Walks the extension headers. A header that begins beyond the packet is cut off, however many came before it.
    fn extensions(&mut self, first: u8, start: usize, end: usize) -> Result<(Upper, &'static str), &'static str> {
        let (mut protocol, mut at, mut state) = (first, start, "none");
        let mut walked = 0;
        while matches!(protocol, 0 | 43 | 44 | 51 | 60) {
            if walked > 0 && at > end {
                return Err("ipv6_extension_short");
            }
            if walked == IPV6_EXTENSION_HEADERS_MAX {
                return Err("ipv6_extensions");
            }
            if at + 8 > end {
                return Err("ipv6_extension_short");
            }
            let far = self.too_far(at + 8);
            let missing = if far { "header_bytes" } else { "ipv6_extension_short" };
            let [next, units, o0, o1, ..] = self.bytes::<8>(at).ok_or(missing)?;
            at += match protocol {
                44 => 8,
                51 => (usize::from(units) + 2) * 4,
                _ => (usize::from(units) + 1) * 8,
            };
            if protocol == 44 {
                let word = u16::from_be_bytes([o0, o1]);
                // A later fragment stays one, a first one stays one beside an atomic fragment.
                state = match (state, fragment(word / 8, word % 2 == 1)) {
                    ("first", "none") => "first",
                    (_, found) => found,
                };
            }
            protocol = next;
            walked += 1;
            if state == "later" {
                break;
            }
        }
        Ok((Upper { protocol, start: at, end }, state))
    }

    /// Ports and flags, where they are present and within the IP packet.
    fn ports(&mut self, upper: &Upper, fragment: &str) -> Result<Ports, &'static str> {
        let Upper { protocol, start, end } = *upper;
        let mut ports = Ports::default();
        if fragment == "later" || !matches!(protocol, 6 | 17 | 33 | 132 | 136) || start + 4 > end {
            return Ok(ports);
        }
        let Some([s0, s1, d0, d1]) = self.bytes::<4>(start) else {
            return if self.too_far(start + 4) { Err("header_bytes") } else { Ok(ports) };
        };
        ports.source = Some(u16::from_be_bytes([s0, s1]));
        ports.destination = Some(u16::from_be_bytes([d0, d1]));
        match protocol {
            6 if start + 14 <= end => {
                let Some([words, flags]) = self.bytes::<2>(start + 12) else {
                    return if self.too_far(start + 14) { Err("header_bytes") } else { Ok(ports) };
                };
                if words / 16 < 5 {
                    return Err("tcp_header_length");
                }
                ports.flags = Some(flags);
                self.payload = Some(start + usize::from(words / 16) * 4);
            }
            17 | 136 => self.payload = Some(start + 8),
            _ => {}
        }
        Ok(ports)
    }
}

fn fragment(offset: u16, more: bool) -> &'static str {
    match (offset, more) {
        (0, false) => "none",
        (0, true) => "first",
        _ => "later",
    }
}
