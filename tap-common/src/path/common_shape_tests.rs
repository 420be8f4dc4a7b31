//! The short way through the headers of the commonest shape against the long way: whatever it takes, it reads the same.

use super::frame::Bytes;
use super::parse::common::ipv4 as common;
use super::parse::{Headers, walk};
use proptest::prelude::*;

extern crate std;
use std::vec;
use std::vec::Vec;

/// A whole TCP or UDP packet in an Ethernet frame, with room behind it.
fn frame(protocol: u8, padding: usize) -> Vec<u8> {
    let mut frame = vec![0x42; 12];
    frame.extend([8, 0, 0x45, 0, 0, 60, 1, 2, 0x40, 0, 64, protocol, 9, 9]);
    frame.extend([192, 0, 2, 1, 198, 51, 100, 7]);
    frame.extend([0x9c, 0x40, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x12, 0, 0xff, 0, 0, 0, 0]);
    frame.resize(74 + padding, 0x5a);
    frame
}

#[test]
fn it_takes_whole_tcp_and_udp_packets() {
    for protocol in [6, 17] {
        let mut headers = Headers::default();
        assert!(common(&Bytes::new(&frame(protocol, 0)), &mut headers), "protocol {protocol}");
        assert_eq!(headers.destination_port, 443);
    }
    let mut headers = Headers::default();
    assert!(!common(&Bytes::new(&frame(132, 0)), &mut headers), "SCTP is not of the shape");
    assert!(!common(&Bytes::new(&frame(6, 0)[..73]), &mut headers), "a sliced packet is not of the shape");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Any bytes anywhere, any length: where the short way says it read the headers, the long way reads the same ones.
    #[test]
    fn what_it_reads_is_what_the_long_way_reads(
        protocol in prop_oneof![Just(6u8), Just(17), any::<u8>()],
        padding in 0usize..20,
        length in 0usize..94,
        whole in any::<bool>(),
        changes in prop::collection::vec((12usize..60, any::<u8>()), 0..4),
    ) {
        let mut bytes = frame(protocol, padding);
        for (at, value) in changes {
            bytes[at] = value;
        }
        if !whole {
            bytes.truncate(length);
        }
        let mut short = Headers::default();
        if common(&Bytes::new(&bytes), &mut short) {
            let mut long = Headers::default();
            prop_assert!(walk(&Bytes::new(&bytes), &mut long).is_ok());
            prop_assert!(short == long, "{:02x?}", bytes);
        }
    }
}
