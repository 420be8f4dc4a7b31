//! Messages: the header of RFC 7011, section 3.1, and how a message is cut out of a stream.

/// IPFIX, the tenth version of the NetFlow family.
pub const VERSION: u16 = 10;
/// Octets of a message header.
pub const HEADER_BYTES: usize = 16;
/// Octets of a set header.
pub const SET_HEADER_BYTES: usize = 4;
/// A template set.
pub const SET_TEMPLATE: u16 = 2;
/// An options template set.
pub const SET_OPTIONS_TEMPLATE: u16 = 3;
/// The first number for templates and the data sets they describe.
pub const TEMPLATE_ID_MIN: u16 = 256;
/// Our observation domain: one facility's mirror port is one domain of its host.
pub const OBSERVATION_DOMAIN: u32 = 1;

/// The header of a message. Numbers are host values; on the wire they stand in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Octets of the message with its header.
    pub length: u16,
    /// When it was sent, seconds since 1970.
    pub export_time: u32,
    /// Data records sent before it in its session and domain, modulo 2^32 (options records count, templates do not).
    pub sequence: u32,
    /// Observation domain.
    pub domain: u32,
}

impl Header {
    /// The header's octets.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let words = [VERSION.to_be_bytes(), self.length.to_be_bytes()];
        let longs = [self.export_time.to_be_bytes(), self.sequence.to_be_bytes(), self.domain.to_be_bytes()];
        for (to, from) in bytes.iter_mut().zip(words.iter().flatten().chain(longs.iter().flatten())) {
            *to = *from;
        }
        bytes
    }

    /// Reads the header of the message that begins with `bytes`. `None`: too short, another version, or a length below
    /// the header's own.
    #[must_use]
    pub fn read(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let [v0, v1, l0, l1, e0, e1, e2, e3, s0, s1, s2, s3, d0, d1, d2, d3] = *bytes;
        let length = u16::from_be_bytes([l0, l1]);
        if u16::from_be_bytes([v0, v1]) != VERSION || usize::from(length) < HEADER_BYTES {
            return None;
        }
        Some(Self {
            length,
            export_time: u32::from_be_bytes([e0, e1, e2, e3]),
            sequence: u32::from_be_bytes([s0, s1, s2, s3]),
            domain: u32::from_be_bytes([d0, d1, d2, d3]),
        })
    }
}

/// A whole message: `sets`, each with its own header, behind a message header. `None` when it would be longer than the
/// 65,535 octets that a message may have.
#[must_use]
pub fn message(export_time: u32, sequence: u32, domain: u32, sets: &[&[u8]]) -> Option<Vec<u8>> {
    let length = HEADER_BYTES + sets.iter().map(|set| set.len()).sum::<usize>();
    let header = Header { length: u16::try_from(length).ok()?, export_time, sequence, domain };
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&header.to_bytes());
    for set in sets {
        bytes.extend_from_slice(set);
    }
    Some(bytes)
}
