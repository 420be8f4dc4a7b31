//! A capture file around a session's octets, so that a dissector sees them on IPFIX's TCP port.

use std::path::Path;

/// IPFIX over TCP (IANA).
const PORT: u16 = 4_739;
/// Octets of a TCP segment's payload: an Ethernet frame's, so that messages span segments.
const SEGMENT_BYTES: usize = 1_400;

/// Writes `session` as a capture of one direction of a TCP connection.
pub(crate) fn write(path: &Path, session: &[u8]) {
    let mut sequence = 1u32;
    let mut frames = Vec::new();
    for payload in session.chunks(SEGMENT_BYTES) {
        frames.push(frame(sequence, payload));
        sequence += u32::try_from(payload.len()).unwrap();
    }
    std::fs::write(path, tap_tests::packet::capture(frames.iter().map(Vec::as_slice))).unwrap();
}

fn frame(sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    let total = u16::try_from(40 + payload.len()).unwrap().to_be_bytes();
    out.extend_from_slice(&[0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 6, 0, 0]);
    out.extend_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
    out.extend_from_slice(&40_000u16.to_be_bytes());
    out.extend_from_slice(&PORT.to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
    // Acknowledgement number 1, five words of header, PSH and ACK, a full window.
    out.extend_from_slice(&[0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend_from_slice(payload);
    out
}
