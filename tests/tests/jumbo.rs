//! Jumbo frames: the kernel itself decides about frames of several buffers, and as the host does.
#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

use tap_common::limits::LINE_OVERHEAD_BYTES;
use tap_common::path::verdict::Decision;
use tap_tests::kernel::{tables, udp_frame};
use tap_tests::packet::{Layer, build};
use tap_tests::{mirrored, need};
use tap_userspace::config::transport::Transport;
use tap_userspace::laboratory::cpu::stay_on_this_cpu;
use tap_userspace::load::{HostWorld, KernelWorld, Laboratory, LaboratoryConfig};

/// Around what fits the first buffer (3,520 bytes here), the usual jumbo sizes, and the longest that an IP packet can be.
const SIZES: [usize; 14] =
    [60, 1_514, 2_047, 2_048, 3_519, 3_520, 3_521, 4_096, 7_616, 9_014, 9_216, 16_000, 65_000, 65_549];

/// `frame` in a VXLAN header to the address that tests mirror to.
fn in_vxlan(frame: &[u8]) -> Vec<u8> {
    let layers = [
        Layer::Ethernet { ether_type: None },
        Layer::Ipv4 {
            source: "192.0.2.1".parse().unwrap(),
            destination: mirrored::LOCAL4,
            version: None,
            option_words: 0,
            header_words: None,
            total_length: None,
            protocol: None,
            fragment_offset: 0,
            more_fragments: false,
        },
        Layer::Ports { protocol: 17, source_port: 50_000, destination_port: 4_789 },
        Layer::Vxlan { identifier: 5, flags: None },
        Layer::Hex { digits: hex::encode(frame) },
    ];
    build(&layers).unwrap()
}

/// The kernel's decision; its own counters show that it ran over all of the frame's `size` bytes behind the transport.
fn decided_in_kernel(kernel: &mut KernelWorld<'_>, frame: &[u8], size: usize) -> Decision {
    let before = kernel.counters().unwrap().observed_bytes;
    let decision = kernel.decide(frame, 0).unwrap();
    let bytes = kernel.counters().unwrap().observed_bytes - before;
    assert_eq!(bytes, size as u64 + u64::from(LINE_OVERHEAD_BYTES), "the kernel saw another frame, or none");
    decision
}

#[test]
fn frames_of_several_buffers_are_decided_in_the_kernel() {
    if !need::root() {
        return;
    }
    stay_on_this_cpu().unwrap();
    let tables = tables(Some(443)).unwrap();
    let transport: Transport = format!("vxlan,local={}", mirrored::LOCAL4).parse().unwrap();
    for transport in [None, Some(transport.constants().unwrap())] {
        let config = LaboratoryConfig { transport, ..LaboratoryConfig::default() };
        let mut host = HostWorld::new(&tables, config);
        let mut kernel = KernelWorld::new(&tables, config).unwrap();
        for size in SIZES {
            for port in [443, 80] {
                let inner = udp_frame(port, size);
                let frame = if transport.is_some() { in_vxlan(&inner) } else { inner };
                let decision = decided_in_kernel(&mut kernel, &frame, size);
                assert_eq!(decision, host.decide(&frame, 0).unwrap(), "{size} bytes");
                assert_eq!(decision.line_bytes, u32::try_from(size).unwrap() + LINE_OVERHEAD_BYTES);
                let expected = if port == 443 { "selected" } else { "not_matched" };
                assert_eq!(decision.outcome.name(), Some(expected), "{size} bytes");
            }
        }
    }
}
