//! Hand-made and real frames of every transport, whole and cut at every byte.

use super::*;
use crate::path::frame::Bytes;

extern crate std;
use std::vec::Vec;

const LOCAL4: u32 = 0xc000_020a;
const LOCAL6: [u64; 2] = [0x2001_0db8_0000_0000, 0x10];
/// Stands for the mirrored frame; its content is parse's business.
const INNER: [u8; 20] = [0xee; 20];

fn configured(kind: u32) -> MirrorTransport {
    MirrorTransport { kind, port: VXLAN_PORT, local4: LOCAL4, local6: LOCAL6, key: ANY_KEY }
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn ethernet(tags: usize, ether_type: u16) -> Vec<u8> {
    let tag = [0x81, 0x00, 0x00, 0x09];
    join(&[&[2; 12], &tag.repeat(tags), &ether_type.to_be_bytes()])
}

/// An IPv4 header with `words` words of options before `behind` bytes.
fn ipv4(words: u8, protocol: u8, behind: usize) -> Vec<u8> {
    let length = u16::try_from(20 + 4 * usize::from(words) + behind).unwrap();
    let mut header =
        join(&[&[0x45 + words, 0], &length.to_be_bytes(), &[0, 1, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1]]);
    header.extend(LOCAL4.to_be_bytes());
    header.extend([1_u8, 1, 1, 1].repeat(words.into()));
    header
}

fn ipv6(next: u8, behind: usize) -> Vec<u8> {
    let length = u16::try_from(behind).unwrap();
    let mut header = join(&[&[0x60, 0, 0, 0], &length.to_be_bytes(), &[next, 64], &[0x20; 16]]);
    header.extend(LOCAL6.iter().flat_map(|half| half.to_be_bytes()));
    header
}

/// Transport headers of each kind, as they stand behind the outer IP header: kind, IP protocol, bytes.
fn transports() -> Vec<(u32, u8, Vec<u8>)> {
    let ii = [0x10, 0x09, 0x40, 0x05, 0, 0, 0, 7];
    let iii = [0x20, 0x09, 0x40, 0x05, 1, 2, 3, 4, 0, 0, 0, 0];
    let iii_platform = [0x20, 0x09, 0x40, 0x05, 1, 2, 3, 4, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9];
    let sequence = [0, 0, 0, 1];
    let udp_vxlan = |flags: u8| join(&[&[0xc0, 0, 0x12, 0xb5, 0, 0, 0, 0], &[flags, 0, 0, 0, 0, 0, 7, 0]]);
    std::vec![
        (KIND_ERSPAN, 47, std::vec![0x00, 0x00, 0x88, 0xbe]),
        (KIND_ERSPAN, 47, join(&[&[0x10, 0x00, 0x88, 0xbe], &sequence, &ii])),
        (KIND_ERSPAN, 47, join(&[&[0x10, 0x00, 0x22, 0xeb], &sequence, &iii])),
        (KIND_ERSPAN, 47, join(&[&[0xb0, 0x00, 0x22, 0xeb], &sequence.repeat(3), &iii_platform])),
        (KIND_GRE_TEB, 47, std::vec![0x00, 0x00, 0x65, 0x58]),
        (KIND_GRE_TEB, 47, join(&[&[0xb0, 0x00, 0x65, 0x58], &sequence.repeat(3)])),
        (KIND_VXLAN, 17, udp_vxlan(0x08)),
        // Flags that are reserved are not looked at.
        (KIND_VXLAN, 17, udp_vxlan(0xff)),
    ]
}

/// Whole frames of every kind over every outer header: kind, frame, bytes to remove.
fn frames() -> Vec<(u32, Vec<u8>, usize)> {
    let mut frames = Vec::new();
    for (kind, protocol, transport) in transports() {
        let behind = transport.len() + INNER.len();
        let option = [protocol, 0, 4, 1, 4, 1, 0, 0];
        for tags in [0, 1, 3] {
            let outers = [
                join(&[&ethernet(tags, ETHERTYPE_IPV4), &ipv4(0, protocol, behind)]),
                join(&[&ethernet(tags, ETHERTYPE_IPV4), &ipv4(10, protocol, behind)]),
                join(&[&ethernet(tags, ETHERTYPE_IPV6), &ipv6(protocol, behind)]),
                join(&[&ethernet(tags, ETHERTYPE_IPV6), &ipv6(60, behind + 8), &option]),
            ];
            for outer in outers {
                let frame = join(&[&outer, &transport, &INNER]);
                let removed = frame.len() - INNER.len();
                frames.push((kind, frame, removed));
            }
        }
    }
    frames
}

fn removed(frame: &[u8], transport: &MirrorTransport) -> Result<u32, Reason> {
    removable(&Bytes::new(frame), transport)
}

#[test]
fn removed_up_to_every_byte() {
    let frames = frames();
    assert_eq!(frames.len(), 8 * 3 * 4);
    for (kind, frame, bytes) in frames {
        for cut in 0..=frame.len() {
            let found = removed(&frame[..cut], &configured(kind));
            if cut >= bytes {
                assert_eq!(found, Ok(u32::try_from(bytes).unwrap()), "{cut} of {frame:02x?}");
                let mut inner = Bytes::new(&frame[..cut]);
                inner.advance(found.unwrap());
                assert_eq!(inner.length() as usize, cut - bytes);
                assert_eq!(inner.load_u8(0), (cut > bytes).then_some(0xee));
                continue;
            }
            let tags_end = if frame[12..14] == [0x81, 0] { bytes_of_tags(&frame) } else { 14 };
            let expected = match cut {
                0..14 => Reason::EthernetShort,
                _ if cut < tags_end => Reason::VlanShort,
                _ => Reason::TransportShort,
            };
            assert_eq!(found, Err(expected), "{cut} of {frame:02x?}");
        }
    }
}

/// Where the tags end.
fn bytes_of_tags(frame: &[u8]) -> usize {
    14 + 4 * frame[12..].chunks(4).take_while(|tag| tag.starts_with(&[0x81, 0])).count()
}

#[test]
fn a_transport_is_no_other() {
    for (kind, frame, _) in frames() {
        for other in [KIND_ERSPAN, KIND_GRE_TEB, KIND_VXLAN] {
            assert_eq!(removed(&frame, &configured(other)).is_ok(), other == kind, "{kind} {other}");
        }
    }
}

#[test]
fn only_this_hosts_address_is_taken() {
    for (kind, frame, _) in frames() {
        let elsewhere = MirrorTransport { local4: LOCAL4 + 1, local6: [LOCAL6[0], LOCAL6[1] + 1], ..configured(kind) };
        assert_eq!(removed(&frame, &elsewhere), Err(Reason::TransportAddress));
        let unconfigured = MirrorTransport { local4: 0, local6: [0, 0], ..configured(kind) };
        assert_eq!(removed(&frame, &unconfigured), Err(Reason::TransportAddress));
    }
}

#[test]
fn only_the_configured_session_is_taken() {
    for (kind, protocol, transport) in transports() {
        let head = join(&[&ethernet(0, ETHERTYPE_IPV4), &ipv4(0, protocol, transport.len() + INNER.len())]);
        let frame = join(&[&head, &transport, &INNER]);
        // What the hand-made headers carry; type I and GRE without a key carry none.
        let own = match (kind, transport.len()) {
            (_, 4) => None,
            (KIND_ERSPAN, _) => Some(5),
            (KIND_GRE_TEB, _) => Some(1),
            _ => Some(7),
        };
        for key in [1, 5, 7] {
            let found = removed(&frame, &MirrorTransport { key, ..configured(kind) });
            assert_eq!(found.is_ok(), own == Some(key), "{kind} {key}");
        }
    }
}

/// The outer IP length, not the frame's, bounds the transport.
#[test]
fn a_transport_that_runs_beyond_its_ip_length_is_malformed() {
    for (kind, protocol, transport) in transports() {
        for behind in 0..=transport.len() {
            let expected = if behind < transport.len() { Err(Reason::TransportShort) } else { Ok(()) };
            let over4 = join(&[&ethernet(0, ETHERTYPE_IPV4), &ipv4(0, protocol, behind), &transport, &INNER]);
            let over6 = join(&[&ethernet(0, ETHERTYPE_IPV6), &ipv6(protocol, behind), &transport, &INNER]);
            for frame in [over4, over6] {
                assert_eq!(removed(&frame, &configured(kind)).map(drop), expected, "{behind}");
            }
        }
    }
}

/// The beginning of a frame of the tcpdump project's `erspan-type-ii-1.pcap`: a Cisco switch's, session 666.
#[test]
fn a_real_frame_of_type_ii() {
    let text = "00e0009b6d8100259e81b354080045fc006c00ab4000fb2fbc0a01010102c0a8ff05100088be000000ab1156c29a00007ff801005e00000d001f9ed2a9800800";
    let frame: Vec<u8> = (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..][..2], 16).unwrap()).collect();
    let destination = u32::from_be_bytes(frame[30..34].try_into().unwrap());
    let transport = MirrorTransport { local4: destination, key: 666, ..configured(KIND_ERSPAN) };
    assert_eq!(removed(&frame, &transport), Ok(14 + 20 + 8 + 8));
    assert_eq!(removed(&frame, &MirrorTransport { key: 667, ..transport }), Err(Reason::TransportOther));
}
