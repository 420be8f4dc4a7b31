//! One selected packet's header fields, as the XDP program writes them into its CPU's ring.

use crate::limits::RULE_WORDS;

/// Entry kind of [`Record`]; later kinds join the same rings under other numbers.
pub const KIND_RECORD: u16 = 1;

/// The packet has ports.
pub const FLAG_PORTS: u16 = 1;
/// The packet has TCP flags.
pub const FLAG_TCP_FLAGS: u16 = 2;
/// The IP length goes beyond the bytes present (a truncating mirror).
pub const FLAG_SLICED: u16 = 4;

/// Header record of one selected packet. No payload byte has a place in it.
///
/// Times are nanoseconds of the program's clock (`CLOCK_BOOTTIME`, or the injected one); the agent turns them into UTC.
/// Ports and lengths are in host byte order; addresses in network order, IPv4 as `::ffff:a.b.c.d`.
/// `(host key, instance, cpu, sequence)` is the record's identity.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// [`KIND_RECORD`].
    pub kind: u16,
    /// Bytes of this entry, [`Record::BYTES`].
    pub length: u16,
    /// CPU whose ring holds it.
    pub cpu: u32,
    /// Number of the record on its CPU since the maps were made, from 0; a gap is a record lost by a full ring.
    pub sequence: u64,
    /// Exact time of the decision.
    pub time_ns: u64,
    /// Generation of the selector set that decided.
    pub generation: u64,
    /// Rules that matched and were lawful in this direction, by index.
    pub rules: [u64; RULE_WORDS],
    /// Source address, 16 bytes in network order.
    pub source: [u8; 16],
    /// Destination address, 16 bytes in network order.
    pub destination: [u8; 16],
    /// Source port, or 0 without [`FLAG_PORTS`].
    pub source_port: u16,
    /// Destination port, or 0 without [`FLAG_PORTS`].
    pub destination_port: u16,
    /// IANA protocol number of the upper layer.
    pub protocol: u8,
    /// TCP flags (byte 13), or 0 without [`FLAG_TCP_FLAGS`].
    pub tcp_flags: u8,
    /// 4 or 6.
    pub ip_version: u8,
    /// A [`crate::path::direction::Direction`] as number.
    pub direction: u8,
    /// Bytes on the line, as the cap charged them.
    pub line_bytes: u32,
    /// IP length as the header states it.
    pub ip_length: u32,
    /// A [`crate::path::parse::Fragment`] as number.
    pub fragment: u8,
    /// Measure slot.
    pub measure: u8,
    /// `FLAG_*`.
    pub flags: u16,
    /// Always 0.
    pub reserved: u32,
}

impl Record {
    /// Size of a record in the ring.
    pub const BYTES: usize = 120;
}

/// Addresses are clear here: the debug form shows none of them.
impl core::fmt::Debug for Record {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Record")
            .field("cpu", &self.cpu)
            .field("sequence", &self.sequence)
            .field("generation", &self.generation)
            .field("source", &"redacted")
            .field("destination", &"redacted")
            .finish_non_exhaustive()
    }
}

const _: () = assert!(size_of::<Record>() == Record::BYTES);
const _: () = assert!(Record::BYTES.is_multiple_of(8));
