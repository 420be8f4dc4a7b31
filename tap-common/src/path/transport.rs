//! Transport: what a mirror port puts around the frames it copies, and how many bytes of it there are.
//!
//! In: a frame as it arrived and the configured [`MirrorTransport`]. Out: the bytes before the mirrored frame, or the
//! reason why there is none to look at. Bounded by [`TRANSPORT_BYTES_MAX`]: three VLAN tags, an outer IP header with
//! options, and one transport header. Only the configured transport, addressed to this host, is taken off; tunnels inside
//! the traffic are never opened.

use super::frame::Frame;
use super::parse::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_BYTES_MIN, IPV6_BYTES, PROTOCOL_DESTINATION_OPTIONS, PROTOCOL_FRAGMENT,
    PROTOCOL_UDP, layer2::ethernet,
};
use super::verdict::Decision;
use super::world::World;
use crate::abi::counter::Reason;
use crate::limits::{TRANSPORT_BYTES_MAX, VLAN_TAGS_MAX};

/// No configured transport.
pub const KIND_NONE: u32 = 0;
/// ERSPAN over GRE (draft-foschiano-erspan), types I, II and III.
pub const KIND_ERSPAN: u32 = 1;
/// Ethernet over GRE (RFC 2784, RFC 2890; protocol 0x6558).
pub const KIND_GRE_TEB: u32 = 2;
/// VXLAN (RFC 7348).
pub const KIND_VXLAN: u32 = 3;

/// [`MirrorTransport::key`] when every session is taken.
pub const ANY_KEY: u64 = u64::MAX;
/// VXLAN's UDP port as IANA assigned it.
pub const VXLAN_PORT: u16 = 4_789;

/// The transport that a mirror port was configured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MirrorTransport {
    /// A `KIND_*`.
    pub kind: u32,
    /// UDP port of VXLAN.
    pub port: u16,
    /// This host's IPv4 address to which the mirror sends; 0 when it has none.
    pub local4: u32,
    /// This host's IPv6 address to which the mirror sends, high half first; 0 when it has none.
    pub local6: [u64; 2],
    /// ERSPAN session, GRE key or VXLAN network identifier; [`ANY_KEY`] takes every one.
    pub key: u64,
}

impl MirrorTransport {
    /// None.
    pub const NONE: Self = Self { kind: KIND_NONE, port: 0, local4: 0, local6: [0, 0], key: 0 };
}

/// What stands behind the outer IP header, and where its packet ends.
struct Outer {
    protocol: u8,
    offset: u32,
    end: u32,
}

const PROTOCOL_GRE: u8 = 47;
const GRE_PROTOCOL_TEB: u32 = 0x6558;
const GRE_PROTOCOL_ERSPAN_1_2: u32 = 0x88be;
const GRE_PROTOCOL_ERSPAN_3: u32 = 0x22eb;
const GRE_CHECKSUM: u32 = 0x8000_0000;
const GRE_KEY: u32 = 0x2000_0000;
const GRE_SEQUENCE: u32 = 0x1000_0000;
/// Bits that must be 0: routing and what RFC 2784 reserves up to bit 5, and the version.
const GRE_REFUSED: u32 = 0x4c07_0000;

/// Takes the configured transport off `frame`, so that it and its length are the mirrored frame's. Without one it does
/// nothing, and in the kernel nothing of it is left.
///
/// # Errors
/// The [`Reason`] why the frame holds no mirrored one.
#[inline(always)]
pub fn remove<F: Frame, W: World>(frame: &mut F, world: &W, out: &mut Decision) -> Result<(), Reason> {
    let Some(transport) = world.transport() else { return Ok(()) };
    // Kept in the decision until parse has its own offset there: settled, every form of transport is one to the stages
    // behind it.
    out.headers.ip_offset = removable(frame, &transport)?;
    world.settle(out);
    frame.advance(out.headers.ip_offset);
    Ok(())
}

/// Bytes of the frame that belong to `transport`: the mirrored frame begins behind them, and all of them are present.
///
/// # Errors
/// The [`Reason`] why the frame holds no mirrored one.
#[inline(always)]
pub fn removable<F: Frame>(frame: &F, transport: &MirrorTransport) -> Result<u32, Reason> {
    let (start, ether_type) = ethernet(frame)?;
    let outer = match ether_type {
        ETHERTYPE_IPV4 => outer_ipv4(frame, start, transport.local4)?,
        ETHERTYPE_IPV6 => outer_ipv6(frame, start, transport.local6)?,
        _ => return Err(Reason::TransportOther),
    };
    let bytes = match (outer.protocol, transport.kind) {
        (PROTOCOL_UDP, KIND_VXLAN) => vxlan(frame, outer.offset, transport)?,
        (PROTOCOL_GRE, KIND_ERSPAN | KIND_GRE_TEB) => gre(frame, outer.offset, transport)?,
        _ => return Err(Reason::TransportOther),
    };
    // Its last byte is present, so all are.
    if bytes > outer.end || frame.load_u8(bytes - 1).is_none() {
        return Err(Reason::TransportShort);
    }
    Ok(bytes)
}

/// Outer IPv4: its options are stepped over.
#[inline(always)]
fn outer_ipv4<F: Frame>(frame: &F, start: u32, local: u32) -> Result<Outer, Reason> {
    let destination = frame.load_u32(start + 16).ok_or(Reason::TransportShort)?;
    let first = frame.load_u64(start).ok_or(Reason::TransportShort)?;
    let protocol = frame.load_u8(start + 9).ok_or(Reason::TransportShort)?;
    if first >> 60 != 4 {
        return Err(Reason::VersionMismatch);
    }
    let header_bytes = ((first >> 56) & 0x0f) as u32 * 4;
    if header_bytes < IPV4_BYTES_MIN {
        return Err(Reason::Ipv4HeaderLength);
    }
    if local == 0 || destination != local {
        return Err(Reason::TransportAddress);
    }
    // Fragment offset, or more fragments.
    if first & 0x3fff != 0 {
        return Err(Reason::TransportFragment);
    }
    let total_length = ((first >> 32) & 0xffff) as u32;
    Ok(Outer { protocol, offset: start + header_bytes, end: start + total_length })
}

/// Outer IPv6. Of extension headers only the eight bytes of a tunnel's encapsulation limit (RFC 2473, 4.1.1) are stepped
/// over, which Linux sends unless told otherwise.
#[inline(always)]
fn outer_ipv6<F: Frame>(frame: &F, start: u32, local: [u64; 2]) -> Result<Outer, Reason> {
    let low = frame.load_u64(start + 32).ok_or(Reason::TransportShort)?;
    let first = frame.load_u64(start).ok_or(Reason::TransportShort)?;
    let high = frame.load_u64(start + 24).ok_or(Reason::TransportShort)?;
    if first >> 60 != 6 {
        return Err(Reason::VersionMismatch);
    }
    if local == [0, 0] || [high, low] != local {
        return Err(Reason::TransportAddress);
    }
    let mut protocol = ((first >> 8) & 0xff) as u8;
    let mut offset = start + IPV6_BYTES;
    if protocol == PROTOCOL_DESTINATION_OPTIONS {
        let options = frame.load_u16(offset).ok_or(Reason::TransportShort)?;
        if options & 0xff != 0 {
            return Err(Reason::TransportOther);
        }
        protocol = (options >> 8) as u8;
        offset += 8;
    }
    if protocol == PROTOCOL_FRAGMENT {
        return Err(Reason::TransportFragment);
    }
    Ok(Outer { protocol, offset, end: start + IPV6_BYTES + ((first >> 16) & 0xffff) as u32 })
}

/// UDP to the configured port, then the VXLAN header with a network identifier.
#[inline(always)]
fn vxlan<F: Frame>(frame: &F, start: u32, transport: &MirrorTransport) -> Result<u32, Reason> {
    if frame.load_u16(start + 2).ok_or(Reason::TransportShort)? != transport.port {
        return Err(Reason::TransportOther);
    }
    let header = frame.load_u64(start + 8).ok_or(Reason::TransportShort)?;
    // The I flag: without it there is no valid identifier.
    if header & (1 << 59) == 0 || !is_wanted(transport, (header >> 8) & 0x00ff_ffff) {
        return Err(Reason::TransportOther);
    }
    Ok(start + 16)
}

/// GRE with its optional words, then what the configured kind has behind it.
#[inline(always)]
fn gre<F: Frame>(frame: &F, start: u32, transport: &MirrorTransport) -> Result<u32, Reason> {
    let word = frame.load_u32(start).ok_or(Reason::TransportShort)?;
    if word & GRE_REFUSED != 0 {
        return Err(Reason::TransportOther);
    }
    // Each flag brings a word; shifted, not branched on, for every branch doubles what the verifier walks.
    let checksum_bytes = (word & GRE_CHECKSUM) >> 29;
    let key_bytes = (word & GRE_KEY) >> 27;
    let sequence_bytes = (word & GRE_SEQUENCE) >> 26;
    let end = start + 4 + checksum_bytes + key_bytes + sequence_bytes;
    let has_sequence = sequence_bytes != 0;
    match (transport.kind, word & 0xffff) {
        (KIND_GRE_TEB, GRE_PROTOCOL_TEB) => {
            if transport.key == ANY_KEY {
                return Ok(end);
            }
            if key_bytes == 0 {
                return Err(Reason::TransportOther);
            }
            let key = frame.load_u32(start + 4 + checksum_bytes).ok_or(Reason::TransportShort)?;
            if is_wanted(transport, key.into()) { Ok(end) } else { Err(Reason::TransportOther) }
        }
        (KIND_ERSPAN, GRE_PROTOCOL_ERSPAN_1_2) if has_sequence => erspan(frame, end, 1, transport),
        // Type I has no header of its own, and so no session.
        (KIND_ERSPAN, GRE_PROTOCOL_ERSPAN_1_2) if transport.key == ANY_KEY => Ok(end),
        (KIND_ERSPAN, GRE_PROTOCOL_ERSPAN_3) => erspan(frame, end, 2, transport),
        _ => Err(Reason::TransportOther),
    }
}

/// ERSPAN's own header: 8 bytes in type II (version 1), 12 or 20 in type III (version 2).
#[inline(always)]
fn erspan<F: Frame>(frame: &F, start: u32, version: u32, transport: &MirrorTransport) -> Result<u32, Reason> {
    let first = frame.load_u32(start).ok_or(Reason::TransportShort)?;
    if first >> 28 != version || !is_wanted(transport, u64::from(first & 0x03ff)) {
        return Err(Reason::TransportOther);
    }
    if version == 1 {
        return Ok(start + 8);
    }
    let last = frame.load_u32(start + 8).ok_or(Reason::TransportShort)?;
    // Frame type: anything but 0 is no Ethernet frame.
    if last & 0x7c00 != 0 {
        return Err(Reason::TransportOther);
    }
    Ok(start + 12 + (last & 1) * 8)
}

#[inline(always)]
fn is_wanted(transport: &MirrorTransport, key: u64) -> bool {
    transport.key == ANY_KEY || transport.key == key
}

// Ethernet and tags; IPv4 with all its options (IPv6 with an option header is shorter); GRE; ERSPAN type III.
const _: () = assert!(14 + 4 * VLAN_TAGS_MAX as u32 + 60 + 16 + 20 <= TRANSPORT_BYTES_MAX);

#[cfg(test)]
mod tests;
