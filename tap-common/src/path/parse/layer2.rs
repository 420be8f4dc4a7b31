//! Layer 2: from the frame's first byte to the IP header. In: a frame. Out: where the IP header begins and its version, or why there is none.
//! Bounded by the numbers of tags and labels in [`crate::limits`].

use super::{ETHERNET_BYTES, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::abi::counter::Reason;
use crate::limits::{MPLS_LABELS_MAX, VLAN_TAGS_MAX};
use crate::path::frame::Frame;

const ETHERTYPE_MPLS: u16 = 0x8847;
const ETHERTYPE_MPLS_UPSTREAM: u16 = 0x8848;
const ETHERTYPE_PPPOE_SESSION: u16 = 0x8864;

/// Walks Ethernet and VLAN tags. Returns what comes behind them: its offset and its EtherType.
#[inline(always)]
pub(in super::super) fn ethernet<F: Frame>(frame: &F) -> Result<(u32, u16), Reason> {
    let mut ether_type = frame.load_u16(ETHERNET_BYTES - 2).ok_or(Reason::EthernetShort)?;
    let mut offset = ETHERNET_BYTES;
    let mut tags = 0;
    while is_vlan(ether_type) {
        if tags == VLAN_TAGS_MAX {
            return Err(Reason::VlanTags);
        }
        ether_type = frame.load_u16(offset + 2).ok_or(Reason::VlanShort)?;
        offset += 4;
        tags += 1;
    }
    Ok((offset, ether_type))
}

/// Walks Ethernet, VLAN tags, and PPPoE or MPLS. Returns the IP header's offset and version (4 or 6).
#[inline(always)]
pub(super) fn layer2<F: Frame>(frame: &F) -> Result<(u32, u8), Reason> {
    let (offset, ether_type) = ethernet(frame)?;
    match ether_type {
        ETHERTYPE_IPV4 => Ok((offset, 4)),
        ETHERTYPE_IPV6 => Ok((offset, 6)),
        ETHERTYPE_MPLS | ETHERTYPE_MPLS_UPSTREAM => mpls(frame, offset),
        ETHERTYPE_PPPOE_SESSION => pppoe(frame, offset),
        _ => Err(Reason::NotIp),
    }
}

#[inline(always)]
fn is_vlan(ether_type: u16) -> bool {
    matches!(ether_type, 0x8100 | 0x88a8 | 0x9100 | 0x9200)
}

/// Walks the label stack (RFC 3032); the nibble behind the bottom label tells the version.
#[inline(always)]
fn mpls<F: Frame>(frame: &F, start: u32) -> Result<(u32, u8), Reason> {
    let mut offset = start;
    let mut labels = 0;
    while labels < MPLS_LABELS_MAX {
        let bottom = frame.load_u32(offset).ok_or(Reason::MplsShort)? & 0x100;
        offset += 4;
        labels += 1;
        if bottom != 0 {
            return match frame.load_u8(offset).ok_or(Reason::MplsShort)? >> 4 {
                4 => Ok((offset, 4)),
                6 => Ok((offset, 6)),
                _ => Err(Reason::NotIp),
            };
        }
    }
    Err(Reason::MplsLabels)
}

/// Walks a PPPoE session header (RFC 2516) and the PPP protocol number.
#[inline(always)]
fn pppoe<F: Frame>(frame: &F, start: u32) -> Result<(u32, u8), Reason> {
    let header = frame.load_u64(start).ok_or(Reason::PppoeInvalid)?;
    if header >> 56 != 0x11 {
        return Err(Reason::PppoeInvalid);
    }
    match header & 0xffff {
        0x0021 => Ok((start + 8, 4)),
        0x0057 => Ok((start + 8, 6)),
        _ => Err(Reason::NotIp),
    }
}
