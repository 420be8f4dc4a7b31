//! Files built byte by byte, so that both byte orders and every time resolution are there.
#![expect(clippy::cast_possible_truncation, reason = "the files are small, and ticks are cut on purpose")]

use super::*;
use proptest::prelude::*;

const IPV4: [u8; 20] = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1];

fn u16s(big_endian: bool, values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|v| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() }).collect()
}

fn u32s(big_endian: bool, values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() }).collect()
}

fn pcap(big_endian: bool, magic: u32, link: u32, records: &[(u32, u32, &[u8], u32)]) -> Vec<u8> {
    let mut file = u32s(big_endian, &[magic]);
    file.extend(u16s(big_endian, &[2, 4]));
    file.extend(u32s(big_endian, &[0, 0, 65_535, link]));
    for (seconds, fraction, data, original) in records {
        file.extend(u32s(big_endian, &[*seconds, *fraction, data.len() as u32, *original]));
        file.extend(*data);
    }
    file
}

fn block(big_endian: bool, kind: u32, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let length = body.len() as u32 + 12;
    [u32s(big_endian, &[kind, length]), body, u32s(big_endian, &[length])].concat()
}

fn section(big_endian: bool) -> Vec<u8> {
    let body = [u32s(big_endian, &[0x1a2b_3c4d]), u16s(big_endian, &[1, 0]), vec![0xff; 8]].concat();
    block(big_endian, 0x0a0d_0d0a, &body)
}

fn interface(big_endian: bool, link: u16, resolution: Option<u8>, offset: Option<i64>) -> Vec<u8> {
    let mut body = u16s(big_endian, &[link, 0]);
    body.extend(u32s(big_endian, &[0]));
    if let Some(resolution) = resolution {
        body.extend(u16s(big_endian, &[9, 1]));
        body.extend([resolution, 0, 0, 0]);
    }
    if let Some(offset) = offset {
        body.extend(u16s(big_endian, &[14, 8]));
        body.extend(if big_endian { offset.to_be_bytes() } else { offset.to_le_bytes() });
    }
    body.extend(u16s(big_endian, &[0, 0]));
    block(big_endian, 1, &body)
}

fn enhanced(big_endian: bool, interface: u32, ticks: u64, data: &[u8], original: u32) -> Vec<u8> {
    let (high, low) = ((ticks >> 32) as u32, ticks as u32);
    let mut body = u32s(big_endian, &[interface, high, low, data.len() as u32, original]);
    body.extend(data);
    block(big_endian, 6, &body)
}

fn read(bytes: &[u8]) -> (Vec<Packet>, Option<CaptureError>) {
    let mut packets = Vec::new();
    match Capture::new(Path::new("made.pcap"), bytes) {
        Err(error) => (packets, Some(error)),
        Ok(capture) => {
            for next in capture {
                match next {
                    Ok(packet) => packets.push(packet),
                    Err(error) => return (packets, Some(error)),
                }
            }
            (packets, None)
        }
    }
}

fn with_header(ethertype: [u8; 2], packet: &[u8]) -> Vec<u8> {
    [[0; 12].as_slice(), &ethertype, packet].concat()
}

#[test]
fn pcap_in_both_orders_and_resolutions() {
    for big_endian in [false, true] {
        for (magic, ns) in [(0xa1b2_c3d4, 1_000), (0xa1b2_3c4d, 1)] {
            let frame = with_header([8, 0], &IPV4);
            let (packets, error) =
                read(&pcap(big_endian, magic, 1, &[(7, 123_456, &frame, 1514), (u32::MAX, 999_999, &[1, 2], 2)]));
            assert!(error.is_none(), "{error:?}");
            assert_eq!(packets.len(), 2);
            assert_eq!(packets[0].number, 1);
            assert_eq!(packets[0].time_ns, 7_000_000_000 + 123_456 * ns);
            assert_eq!(packets[0].frame, frame);
            assert_eq!(packets[0].original_bytes, 1514);
            assert_eq!(packets[1].number, 2);
            assert_eq!(packets[1].time_ns, u64::from(u32::MAX) * 1_000_000_000 + 999_999 * ns);
        }
    }
}

#[test]
fn the_modified_kind_has_longer_record_headers() {
    let mut file = pcap(false, 0xa1b2_cd34, 101, &[]);
    file.extend(u32s(false, &[1, 2, 20, 20, 0xdead_beef, 0xdead_beef]));
    file.extend(IPV4);
    let (packets, error) = read(&file);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(packets[0].frame, with_header([8, 0], &IPV4));
}

#[test]
fn every_link_type_becomes_ethernet() {
    let ipv6 = [&[0x60, 0, 0, 0, 0, 0, 59, 64][..], &[0; 32]].concat();
    let cooked = [&[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0x08, 0x00][..], &IPV4].concat();
    let cooked_vlan = [&[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0x81, 0x00, 0, 5, 8, 0][..], &IPV4].concat();
    let cooked2 = [&[0x86, 0xdd][..], &[9; 18], &ipv6].concat();
    let cases: [(u32, &[u8], Vec<u8>); 11] = [
        (113, &cooked, with_header([8, 0], &IPV4)),
        (113, &cooked_vlan, with_header([0x81, 0], &[&[0, 5, 8, 0][..], &IPV4].concat())),
        (276, &cooked2, with_header([0x86, 0xdd], &ipv6)),
        (101, &IPV4, with_header([8, 0], &IPV4)),
        (101, &ipv6, with_header([0x86, 0xdd], &ipv6)),
        (12, &IPV4, with_header([8, 0], &IPV4)),
        (14, &ipv6, with_header([0x86, 0xdd], &ipv6)),
        (228, &IPV4, with_header([8, 0], &IPV4)),
        (229, &ipv6, with_header([0x86, 0xdd], &ipv6)),
        // What no nibble or header tells stays visible as a packet: malformed, not gone.
        (101, &[], with_header([8, 0], &[])),
        (113, &cooked[..15], Vec::new()),
    ];
    for (link, packet, frame) in cases {
        let (packets, error) = read(&pcap(false, 0xa1b2_c3d4, link, &[(0, 0, packet, 99)]));
        assert!(error.is_none(), "{link}: {error:?}");
        assert_eq!(packets[0].frame, frame, "link type {link}");
    }
}

#[test]
fn another_link_type_is_refused_by_name() {
    let (packets, error) = read(&pcap(false, 0xa1b2_c3d4, 105, &[(0, 0, &[1; 40], 40)]));
    assert!(packets.is_empty());
    let message = error.expect("refused").to_string();
    assert!(message.contains("made.pcap") && message.contains("105 (IEEE 802.11)"), "{message}");
}

#[test]
fn pcapng_in_both_orders_with_several_interfaces() {
    for big_endian in [false, true] {
        let frame = with_header([8, 0], &IPV4);
        let file = [
            section(big_endian),
            interface(big_endian, 1, None, None),
            interface(big_endian, 101, Some(9), None),
            block(big_endian, 0xbad, &[1, 2, 3]),
            enhanced(big_endian, 0, 1_000_001, &frame, 60),
            enhanced(big_endian, 1, 2_000_000_003, &IPV4, 20),
            // A section of its own, in the other order; its interfaces count from 0 again.
            section(!big_endian),
            interface(!big_endian, 228, Some(0x80 | 20), Some(5)),
            enhanced(!big_endian, 0, 3 << 19, &IPV4, 20),
        ]
        .concat();
        let (packets, error) = read(&file);
        assert!(error.is_none(), "{error:?}");
        let times: Vec<u64> = packets.iter().map(|packet| packet.time_ns).collect();
        assert_eq!(times, [1_000_001_000, 2_000_000_003, 6_500_000_000]);
        assert!(packets.iter().all(|packet| packet.frame == frame));
        assert_eq!(packets[0].original_bytes, 60);
        assert_eq!(packets[2].number, 3);
    }
}

#[test]
fn pcapng_simple_and_obsolete_packets() {
    for big_endian in [false, true] {
        let frame = with_header([8, 0], &IPV4);
        let simple = [u32s(big_endian, &[frame.len() as u32]), frame.clone()].concat();
        let obsolete =
            [u16s(big_endian, &[0, 0]), u32s(big_endian, &[0, 5_000_000, frame.len() as u32, 77]), frame.clone()]
                .concat();
        let file = [
            section(big_endian),
            interface(big_endian, 1, None, None),
            block(big_endian, 2, &obsolete),
            block(big_endian, 3, &simple),
        ]
        .concat();
        let (packets, error) = read(&file);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(packets.len(), 2);
        assert_eq!(packets[0].original_bytes, 77);
        assert!(packets.iter().all(|packet| packet.time_ns == 5_000_000_000 && packet.frame == frame));
    }
}

#[test]
fn a_torn_file_gives_what_is_whole_and_names_the_byte() {
    let frame = with_header([8, 0], &IPV4);
    let whole = pcap(false, 0xa1b2_c3d4, 1, &[(1, 0, &frame, 34), (2, 0, &frame, 34)]);
    for missing in 1..34 {
        let (packets, error) = read(&whole[..whole.len() - missing]);
        assert_eq!(packets.len(), 1);
        let message = error.expect("torn").to_string();
        assert!(message.contains("made.pcap") && message.contains("byte 74"), "{message}");
    }
    let whole = [section(true), interface(true, 1, None, None), enhanced(true, 0, 1, &frame, 34)].concat();
    let last = whole.len() - enhanced(true, 0, 1, &frame, 34).len();
    let torn = [&whole[..], &enhanced(true, 0, 2, &frame, 34)[..20]].concat();
    let (packets, error) = read(&torn);
    assert_eq!(packets.len(), 1);
    assert!(error.expect("torn").to_string().contains(&format!("byte {}", whole.len())));
    let (packets, error) = read(&whole[..last + 3]);
    assert!(packets.is_empty());
    assert!(error.expect("torn").to_string().contains(&format!("byte {last}")));
}

#[test]
fn what_is_no_capture_is_refused() {
    for bytes in [&b""[..], b"%PDF-1.7 no capture", &[0; 64]] {
        assert!(matches!(read(bytes).1, Some(CaptureError::NotACapture { .. })), "{bytes:?}");
    }
    assert!(matches!(read(b"abc").1, Some(CaptureError::Torn { .. })));
}

#[test]
fn lengths_that_lie_are_refused() {
    let mut file = pcap(false, 0xa1b2_c3d4, 1, &[]);
    file.extend(u32s(false, &[1, 2, u32::MAX, 20]));
    assert!(read(&file).1.expect("refused").to_string().contains("byte 24"));
    for length in [0, 8, 13, u32::MAX] {
        let file = [section(false), u32s(false, &[6, length]), vec![0; 64]].concat();
        assert!(matches!(read(&file).1, Some(CaptureError::Malformed { offset: 28, .. })), "{length}");
    }
    let file = [section(false), enhanced(false, 3, 0, &IPV4, 20)].concat();
    assert!(read(&file).1.expect("refused").to_string().contains("interface"));
    let file = [section(false), interface(false, 1, None, Some(-1)), enhanced(false, 0, 0, &IPV4, 20)].concat();
    assert!(read(&file).1.expect("refused").to_string().contains("1970"));
}

proptest! {
    /// Whatever the bytes: an end, never a panic.
    #[test]
    fn arbitrary_bytes_never_panic(start in 0..6_usize, tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        let starts = [
            Vec::new(),
            pcap(false, 0xa1b2_c3d4, 1, &[]),
            pcap(true, 0xa1b2_3c4d, 113, &[]),
            section(false),
            [section(true), interface(true, 1, Some(6), None)].concat(),
            [section(false), interface(false, 101, Some(0xff), Some(i64::MIN))].concat(),
        ];
        let _ = read(&[&starts[start][..], &tail].concat());
    }

    /// The same with blocks whose framing is right, so that their bodies are reached.
    #[test]
    fn arbitrary_blocks_never_panic(big in any::<bool>(), kind in 0..12_u32, body in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = read(&[section(big), interface(big, 1, None, None), block(big, kind, &body)].concat());
    }
}
