//! Common: the short way through the headers of almost all packets, a third of the walk's cost; the brief way reads by it alone.
//!
//! In: a frame. Out: the same headers as the walk's, or that this is none of its packets: then nothing is said about what is wrong
//! with it. A number of fields is read at once, at offsets that the compiler knows.

use super::{
    ETHERNET_BYTES, ETHERTYPE_IPV6, Fragment, Headers, IPV4_BYTES_MIN, IPV4_MAPPED, IPV6_BYTES,
    PROTOCOL_DESTINATION_OPTIONS, PROTOCOL_HOP_BY_HOP, PROTOCOL_ROUTING, PROTOCOL_TCP, PROTOCOL_UDP, UDP_BYTES,
};
use crate::abi::record::{FLAG_PORTS, FLAG_TCP_FLAGS};
use crate::path::frame::Frame;

/// EtherType IPv4, version 4, header length 5: the first three of the four bytes at offset 12.
const KIND: u32 = 0x0008_0045;
/// Extension headers of the commonest shape: of more the walk tells what is wrong.
const EXTENSIONS_MAX: u32 = 2;

/// Reads the headers of a whole packet of the commonest shape: Ethernet without tags, IPv4 without options and not a fragment,
/// TCP or UDP. Returns whether it was one; any other is [`walk`](super::walk)'s, and so is one with anything about it to find fault with.
/// What it reads is what the walk reads (tests hold them against each other); it costs a third.
#[inline(always)]
pub(in super::super) fn ipv4<F: Frame>(frame: &F, headers: &mut Headers) -> bool {
    let Some(fields) = frame.load_common() else { return false };
    let total_length = (fields.length_to_protocol >> 48) as u32;
    let protocol = fields.length_to_protocol as u8;
    let is_fragment = fields.length_to_protocol & 0x3fff_0000 != 0;
    if fields.kind >> 8 != KIND || is_fragment || ETHERNET_BYTES + total_length > frame.first_buffer_length() {
        return false;
    }
    match protocol {
        PROTOCOL_TCP => {
            if total_length < IPV4_BYTES_MIN + 14 || fields.tcp < 5 << 12 {
                return false;
            }
            headers.tcp_flags = fields.tcp as u8;
            headers.payload_offset = (ETHERNET_BYTES + IPV4_BYTES_MIN) as u16 + (fields.tcp >> 12) * 4;
            headers.flags = FLAG_PORTS | FLAG_TCP_FLAGS;
        }
        PROTOCOL_UDP => {
            if total_length < IPV4_BYTES_MIN + 4 {
                return false;
            }
            headers.tcp_flags = 0;
            headers.payload_offset = (ETHERNET_BYTES + IPV4_BYTES_MIN + UDP_BYTES) as u16;
            headers.flags = FLAG_PORTS;
        }
        _ => return false,
    }
    headers.source = [0, IPV4_MAPPED | u64::from(fields.source)];
    headers.destination = [0, IPV4_MAPPED | u64::from(fields.destination)];
    headers.ip_length = total_length;
    headers.ip_offset = ETHERNET_BYTES;
    headers.source_port = (fields.ports >> 16) as u16;
    headers.destination_port = fields.ports as u16;
    headers.protocol = protocol;
    headers.ip_version = 4;
    headers.fragment = Fragment::None as u8;
    true
}

/// The same for IPv6: Ethernet without tags, at most [`EXTENSIONS_MAX`] extension headers that are neither fragment nor
/// authentication header, TCP or UDP.
#[inline(always)]
pub(in super::super) fn ipv6<F: Frame>(frame: &F, headers: &mut Headers) -> bool {
    let Some([first, source_high, source_low, destination_high, destination_low]) = frame.load_40(ETHERNET_BYTES)
    else {
        return false;
    };
    let ip_length = IPV6_BYTES + ((first >> 16) & 0xffff) as u32;
    let end = ETHERNET_BYTES + ip_length;
    if frame.load_u16(ETHERNET_BYTES - 2) != Some(ETHERTYPE_IPV6) {
        return false;
    }
    if first >> 60 != 6 || end > frame.first_buffer_length() {
        return false;
    }
    let mut protocol = (first >> 8) as u8;
    let mut offset = ETHERNET_BYTES + IPV6_BYTES;
    let mut walked = 0;
    while matches!(protocol, PROTOCOL_HOP_BY_HOP | PROTOCOL_ROUTING | PROTOCOL_DESTINATION_OPTIONS) {
        let Some(header) = frame.load_u16(offset) else { return false };
        protocol = (header >> 8) as u8;
        offset += (u32::from(header as u8) + 1) * 8;
        walked += 1;
        if walked > EXTENSIONS_MAX {
            return false;
        }
    }
    let Some((ports, tcp)) = frame.load_14(offset) else { return false };
    match protocol {
        PROTOCOL_TCP => {
            if offset + 14 > end || tcp < 5 << 12 {
                return false;
            }
            headers.tcp_flags = tcp as u8;
            headers.payload_offset = offset as u16 + (tcp >> 12) * 4;
            headers.flags = FLAG_PORTS | FLAG_TCP_FLAGS;
        }
        PROTOCOL_UDP => {
            if offset + 14 > end {
                return false;
            }
            headers.tcp_flags = 0;
            headers.payload_offset = (offset + UDP_BYTES) as u16;
            headers.flags = FLAG_PORTS;
        }
        _ => return false,
    }
    headers.source = [source_high, source_low];
    headers.destination = [destination_high, destination_low];
    headers.ip_length = ip_length;
    headers.ip_offset = ETHERNET_BYTES;
    headers.source_port = (ports >> 16) as u16;
    headers.destination_port = ports as u16;
    headers.protocol = protocol;
    headers.ip_version = 6;
    headers.fragment = Fragment::None as u8;
    true
}
