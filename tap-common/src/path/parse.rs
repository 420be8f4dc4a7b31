//! Parse: from the frame's bytes to the header fields that conditions may name.
//!
//! In: a frame. Out: [`Headers`], or the reason why there are none. It never sees a payload byte: nothing behind the
//! fourteenth byte of a transport header is loaded. Bounded by the numbers of tags, labels and extension headers in
//! [`crate::limits`]. Later files of the way need the IP header's start and the line's bytes, so both are kept.

pub(super) mod common;
pub(super) mod layer2;

use super::frame::Frame;
use crate::abi::counter::Reason;
use crate::abi::record::{FLAG_PORTS, FLAG_SLICED, FLAG_TCP_FLAGS};
use crate::limits::{FIRST_BUFFER_CERTAIN_BYTES, HEADER_BYTES_MAX, IPV6_EXTENSION_HEADERS_MAX, LINE_OVERHEAD_BYTES};

/// Fragment state of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Fragment {
    /// Not a fragment.
    #[default]
    None = 0,
    /// The first fragment: it has the upper layer's header.
    First = 1,
    /// A later fragment: it has no ports and no TCP flags.
    Later = 2,
}

/// Names of the fragment states, by number.
pub const FRAGMENT_NAMES: [&str; 3] = ["none", "first", "later"];

/// Header fields of a packet. Fields that are not there are 0 and their flag is not set.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Headers {
    /// Source address as two 64-bit halves, high first; IPv4 as `::ffff:a.b.c.d`.
    pub source: [u64; 2],
    /// Destination address likewise.
    pub destination: [u64; 2],
    /// IP length as the header states it: IPv4 total length, IPv6 payload length + 40.
    pub ip_length: u32,
    /// Bytes before the IP header.
    pub ip_offset: u32,
    /// Source port, with [`FLAG_PORTS`].
    pub source_port: u16,
    /// Destination port, with [`FLAG_PORTS`].
    pub destination_port: u16,
    /// `FLAG_*` of [`crate::abi::record`].
    pub flags: u16,
    /// Protocol of the upper layer (IANA number).
    pub protocol: u8,
    /// TCP flags, with [`FLAG_TCP_FLAGS`].
    pub tcp_flags: u8,
    /// 4 or 6.
    pub ip_version: u8,
    /// A [`Fragment`] as number.
    pub fragment: u8,
    /// Bytes before the upper layer's payload (TCP, UDP and UDP-Lite), or 0 when it has none that is known.
    pub payload_offset: u16,
    /// Always 0.
    pub reserved: [u8; 4],
}

/// Addresses are clear here: the debug form shows none.
impl core::fmt::Debug for Headers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Headers").field("ip_version", &self.ip_version).finish_non_exhaustive()
    }
}

impl Headers {
    /// Sets the fields to 0 that a packet may not have: what an earlier packet left there is gone. The others are always
    /// written (and not here, because a run of zeros would become a call of a loop over bytes).
    #[inline(always)]
    fn clear_optional(&mut self) {
        self.source_port = 0;
        self.destination_port = 0;
        self.flags = 0;
        self.tcp_flags = 0;
        self.payload_offset = 0;
    }
}

const _: () = assert!(size_of::<Headers>() == 56);

const ETHERNET_BYTES: u32 = 14;
pub(super) const IPV4_BYTES_MIN: u32 = 20;
pub(super) const IPV6_BYTES: u32 = 40;
const UDP_BYTES: u32 = 8;
/// The upper half of an IPv4-mapped address's low 64 bits (RFC 4291, 2.5.5.2).
const IPV4_MAPPED: u64 = 0x0000_ffff_0000_0000;

pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;

const PROTOCOL_HOP_BY_HOP: u8 = 0;
const PROTOCOL_TCP: u8 = 6;
pub(super) const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ROUTING: u8 = 43;
pub(super) const PROTOCOL_FRAGMENT: u8 = 44;
const PROTOCOL_AUTHENTICATION: u8 = 51;
pub(super) const PROTOCOL_DESTINATION_OPTIONS: u8 = 60;
const PROTOCOL_DCCP: u8 = 33;
const PROTOCOL_SCTP: u8 = 132;
const PROTOCOL_UDP_LITE: u8 = 136;

/// Reads the headers of `frame`.
///
/// # Errors
/// The [`Reason`] why the packet is malformed or unsupported.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F, headers: &mut Headers) -> Result<(), Reason> {
    if common::ipv4(frame, headers) { Ok(()) } else { walk(frame, headers) }
}

/// Walks the headers of any frame.
#[inline(always)]
pub(super) fn walk<F: Frame>(frame: &F, headers: &mut Headers) -> Result<(), Reason> {
    headers.clear_optional();
    let (ip_offset, ip_version) = layer2::layer2(frame)?;
    headers.ip_offset = ip_offset;
    if ip_version == 4 { ipv4(frame, headers) } else { ipv6(frame, headers) }
}

/// Bytes of the frame as captured, and bytes on the line: the longer of the frame as captured and as its IP length says it
/// was, and the line's overhead.
#[inline(always)]
#[must_use]
pub fn line_bytes<F: Frame>(frame: &F, headers: &Headers) -> (u32, u32) {
    let stated = headers.ip_offset.wrapping_add(headers.ip_length);
    let first = frame.first_buffer_length();
    let captured = if stated <= first { captured_bytes(frame) } else { frame.length() };
    let longer = if stated > captured { stated } else { captured };
    (captured, longer.wrapping_add(LINE_OVERHEAD_BYTES))
}

/// Bytes of a frame as captured, where the first buffer holds all that the IP length speaks of.
#[inline(always)]
pub(super) fn captured_bytes<F: Frame>(frame: &F) -> u32 {
    let first = frame.first_buffer_length();
    if first < FIRST_BUFFER_CERTAIN_BYTES { first } else { frame.length() }
}

/// Whether `end` is behind the frame's last byte; most often its first buffer tells.
#[inline(always)]
fn is_beyond<F: Frame>(frame: &F, end: u32) -> bool {
    end > frame.first_buffer_length() && end > frame.length()
}

/// What a load that found nothing means: cut off, or beyond what is looked at.
#[inline(always)]
fn missing<F: Frame>(frame: &F, end: u32, short: Reason) -> Reason {
    if end > HEADER_BYTES_MAX && end <= frame.length() { Reason::HeaderBytes } else { short }
}

/// IPv4 (RFC 791), options included.
#[inline(always)]
fn ipv4<F: Frame>(frame: &F, headers: &mut Headers) -> Result<(), Reason> {
    let start = headers.ip_offset;
    // Version to fragment offset, time to live to source address, destination address.
    let (first, second, destination) = frame.load_20(start).ok_or(Reason::Ipv4Short)?;
    if first >> 60 != 4 {
        return Err(Reason::VersionMismatch);
    }
    let header_bytes = ((first >> 56) & 0x0f) as u32 * 4;
    if header_bytes < IPV4_BYTES_MIN {
        return Err(Reason::Ipv4HeaderLength);
    }
    let total_length = ((first >> 32) & 0xffff) as u32;
    if total_length < header_bytes {
        return Err(Reason::Ipv4TotalLength);
    }
    let end_of_header = start + header_bytes;
    if is_beyond(frame, end_of_header) {
        return Err(Reason::Ipv4Short);
    }
    headers.ip_version = 4;
    headers.source = [0, IPV4_MAPPED | (second & 0xffff_ffff)];
    headers.destination = [0, IPV4_MAPPED | u64::from(destination)];
    headers.ip_length = total_length;
    headers.protocol = ((second >> 48) & 0xff) as u8;
    headers.fragment = fragment_state((first & 0x1fff) as u32, first & 0x2000 != 0) as u8;
    mark_sliced(frame, headers);
    transport(frame, headers, end_of_header, start + total_length)
}

/// IPv6 (RFC 8200) with the extension headers that are walked.
#[inline(always)]
fn ipv6<F: Frame>(frame: &F, headers: &mut Headers) -> Result<(), Reason> {
    let start = headers.ip_offset;
    let [first, source_high, source_low, destination_high, destination_low] =
        frame.load_40(start).ok_or(Reason::Ipv6Short)?;
    if first >> 60 != 6 {
        return Err(Reason::VersionMismatch);
    }
    headers.ip_version = 6;
    headers.source = [source_high, source_low];
    headers.destination = [destination_high, destination_low];
    let payload_length = ((first >> 16) & 0xffff) as u32;
    headers.ip_length = IPV6_BYTES + payload_length;
    mark_sliced(frame, headers);
    // Payload length 0 means a jumbogram (RFC 2675) or nothing behind the header: the frame's end is the end then.
    let end = if payload_length == 0 { frame.length() } else { start + headers.ip_length };
    extension_headers(frame, headers, ((first >> 8) & 0xff) as u8, end)
}

/// Walks the chain behind the fixed header, then the transport header.
#[inline(always)]
fn extension_headers<F: Frame>(frame: &F, headers: &mut Headers, first: u8, end: u32) -> Result<(), Reason> {
    let mut protocol = first;
    let mut offset = headers.ip_offset + IPV6_BYTES;
    let mut fragment = Fragment::None;
    let mut walked = 0;
    while is_extension(protocol) {
        if walked == IPV6_EXTENSION_HEADERS_MAX {
            return Err(Reason::Ipv6Extensions);
        }
        if offset + 8 > end {
            return Err(Reason::Ipv6ExtensionShort);
        }
        let header = frame.load_u64(offset).ok_or(missing(frame, offset + 8, Reason::Ipv6ExtensionShort))?;
        let next = (header >> 56) as u8;
        let length = ((header >> 48) & 0xff) as u32;
        let bytes = match protocol {
            PROTOCOL_FRAGMENT => {
                let word = ((header >> 32) & 0xffff) as u32;
                let state = fragment_state(word >> 3, word & 1 != 0);
                if state as u8 > fragment as u8 {
                    fragment = state;
                }
                8
            }
            PROTOCOL_AUTHENTICATION => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        protocol = next;
        offset += bytes;
        walked += 1;
        if fragment as u8 == Fragment::Later as u8 {
            break;
        }
        if is_extension(protocol) && offset > end {
            return Err(Reason::Ipv6ExtensionShort);
        }
    }
    headers.protocol = protocol;
    headers.fragment = fragment as u8;
    transport(frame, headers, offset, end)
}

#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        PROTOCOL_HOP_BY_HOP
            | PROTOCOL_ROUTING
            | PROTOCOL_FRAGMENT
            | PROTOCOL_AUTHENTICATION
            | PROTOCOL_DESTINATION_OPTIONS
    )
}

#[inline(always)]
fn fragment_state(offset: u32, more: bool) -> Fragment {
    if offset != 0 {
        Fragment::Later
    } else if more {
        Fragment::First
    } else {
        Fragment::None
    }
}

/// A truncating mirror is no error: a flag says that the IP length goes beyond the bytes present.
#[inline(always)]
fn mark_sliced<F: Frame>(frame: &F, headers: &mut Headers) {
    if is_beyond(frame, headers.ip_offset + headers.ip_length) {
        headers.flags |= FLAG_SLICED;
    }
}

/// Ports, TCP flags and where the payload begins, where the bytes are present within the IP length.
#[inline(always)]
fn transport<F: Frame>(frame: &F, headers: &mut Headers, offset: u32, end: u32) -> Result<(), Reason> {
    let protocol = headers.protocol;
    let has_ports = matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_SCTP | PROTOCOL_DCCP | PROTOCOL_UDP_LITE);
    if headers.fragment == Fragment::Later as u8 || !has_ports || offset + 4 > end {
        return Ok(());
    }
    if protocol == PROTOCOL_TCP
        && offset + 14 <= end
        && let Some((ports, word)) = frame.load_14(offset)
    {
        set_ports(headers, ports);
        return tcp_flags(headers, offset, word);
    }
    let Some(ports) = frame.load_u32(offset) else { return absent(frame, offset + 4) };
    set_ports(headers, ports);
    if protocol == PROTOCOL_TCP && offset + 14 <= end {
        return absent(frame, offset + 14);
    }
    if matches!(protocol, PROTOCOL_UDP | PROTOCOL_UDP_LITE) {
        headers.payload_offset = (offset + UDP_BYTES) as u16;
    }
    Ok(())
}

/// Fields up to `end` are not there: cut off by the mirror, which is no error, or beyond what is looked at.
#[inline(always)]
fn absent<F: Frame>(frame: &F, end: u32) -> Result<(), Reason> {
    if end > HEADER_BYTES_MAX && end <= frame.length() { Err(Reason::HeaderBytes) } else { Ok(()) }
}

#[inline(always)]
fn set_ports(headers: &mut Headers, ports: u32) {
    headers.source_port = (ports >> 16) as u16;
    headers.destination_port = (ports & 0xffff) as u16;
    headers.flags |= FLAG_PORTS;
}

/// TCP flags (RFC 9293, 3.1): the fourteenth byte; the thirteenth's high nibble is the header's length.
#[inline(always)]
fn tcp_flags(headers: &mut Headers, offset: u32, word: u16) -> Result<(), Reason> {
    let header_words = word >> 12;
    if header_words < 5 {
        return Err(Reason::TcpHeaderLength);
    }
    headers.tcp_flags = (word & 0xff) as u8;
    headers.flags |= FLAG_TCP_FLAGS;
    headers.payload_offset = (offset + u32::from(header_words) * 4) as u16;
    Ok(())
}
