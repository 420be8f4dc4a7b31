//! pcapng: blocks with their length in front and behind; a section header tells the byte order, interface descriptions
//! tell link type and time resolution of the packets that name them (draft-ietf-opsawg-pcapng).

use super::link::Link;
use super::source::Source;
use super::{CaptureError, RawPacket, check_length};
use pcap_parser::{Block, InterfaceDescriptionBlock, OptionCode};
use std::io::Read;

/// First bytes of every section, hence of the file; the same in both byte orders.
pub(super) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

const BYTE_ORDER_MARK: u32 = 0x1a2b_3c4d;
/// Type, length and byte order mark of a section header.
const SECTION_START_BYTES: usize = 12;
/// Type and length of any block.
const BLOCK_START_BYTES: usize = 8;
/// Type and both lengths: no block is shorter.
const BLOCK_BYTES_MIN: u32 = 12;
/// The packet block that the enhanced one replaced; old files have it.
const OBSOLETE_PACKET: u32 = 2;
/// Its fields before the data: interface, drops, time, captured and original length.
const OBSOLETE_PACKET_HEADER_BYTES: usize = 20;
const NS_PER_SECOND: u128 = 1_000_000_000;

/// The current section.
pub(super) struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

/// What an interface description says about its packets.
#[derive(Clone, Copy)]
struct Interface {
    link_number: u16,
    snap_bytes: u32,
    /// Ticks a second; none when the description states a resolution that no clock has.
    ticks_per_second: Option<u128>,
    offset_seconds: i64,
}

/// Fields that the three kinds of packet block share.
struct PacketFields<'a> {
    interface: usize,
    ticks: Option<u64>,
    original_bytes: u32,
    data: &'a [u8],
}

impl Section {
    /// Reads the file's first section header, whose first four bytes are in `source`.
    pub(super) fn read_first<R: Read>(source: &mut Source<R>) -> Result<Self, CaptureError> {
        let mut section = Self { big_endian: false, interfaces: Vec::new() };
        section.read_rest_of_block(source)?;
        Ok(section)
    }

    /// Reads blocks up to and including the next one with a packet; none at the end of the file.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a block of any other kind holds no packet")]
    pub(super) fn read_packet<R: Read>(&mut self, source: &mut Source<R>) -> Result<Option<RawPacket>, CaptureError> {
        while source.begin(BLOCK_START_BYTES)? {
            if self.read_rest_of_block(source)? {
                continue;
            }
            let parse = if self.big_endian { pcap_parser::parse_block_be } else { pcap_parser::parse_block_le };
            let Ok((_, block)) = parse(source.record()) else {
                return Err(source.malformed("the block cannot be parsed"));
            };
            let fields = match &block {
                Block::InterfaceDescription(description) => {
                    self.interfaces.push(Interface::new(description, self.big_endian));
                    continue;
                }
                Block::EnhancedPacket(packet) => PacketFields {
                    interface: packet.if_id as usize,
                    ticks: Some(u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low)),
                    original_bytes: packet.origlen,
                    data: packet.data.get(..packet.caplen as usize).unwrap_or(packet.data),
                },
                Block::SimplePacket(packet) => self.simple_packet(packet.origlen, packet.data),
                // The parser leaves the type of a block it does not know in the file's byte order.
                Block::Unknown(unknown) if word(source.record(), 0, self.big_endian) == Some(OBSOLETE_PACKET) => self
                    .obsolete_packet(unknown.data)
                    .ok_or_else(|| source.malformed("the packet block is shorter than its data"))?,
                _ => continue,
            };
            return self.raw_packet(source, &fields).map(Some);
        }
        Ok(None)
    }

    /// Completes the block whose start is in `source`; true when it was a section header, which is then in force.
    fn read_rest_of_block<R: Read>(&mut self, source: &mut Source<R>) -> Result<bool, CaptureError> {
        let is_section = source.record().starts_with(&MAGIC);
        if is_section {
            source.extend(SECTION_START_BYTES)?;
            let mark = word(source.record(), 8, false);
            self.big_endian = match mark {
                Some(BYTE_ORDER_MARK) => false,
                Some(mark) if mark.swap_bytes() == BYTE_ORDER_MARK => true,
                _ => return Err(source.malformed("the section header has no byte order mark")),
            };
            self.interfaces.clear();
        }
        let length = word(source.record(), 4, self.big_endian).unwrap_or(0);
        if length < BLOCK_BYTES_MIN || !length.is_multiple_of(4) {
            return Err(source.malformed("the block's length is below 12 or no multiple of 4"));
        }
        let bytes = check_length(source, length)?;
        source.extend(bytes)?;
        if word(source.record(), bytes - 4, self.big_endian) != Some(length) {
            return Err(source.malformed("the block's two lengths differ"));
        }
        Ok(is_section)
    }

    /// A simple packet is of the first interface and states only how long it was.
    fn simple_packet<'a>(&self, original_bytes: u32, data: &'a [u8]) -> PacketFields<'a> {
        let snap_bytes = self.interfaces.first().map_or(0, |interface| interface.snap_bytes);
        let captured = if snap_bytes == 0 { original_bytes } else { original_bytes.min(snap_bytes) };
        let data = data.get(..captured as usize).unwrap_or(data);
        PacketFields { interface: 0, ticks: None, original_bytes, data }
    }

    fn obsolete_packet<'a>(&self, body: &'a [u8]) -> Option<PacketFields<'a>> {
        let interface = body.first_chunk::<2>()?;
        let interface = if self.big_endian { u16::from_be_bytes(*interface) } else { u16::from_le_bytes(*interface) };
        let field = |at| word(body, at, self.big_endian);
        let captured = field(12)? as usize;
        Some(PacketFields {
            interface: usize::from(interface),
            ticks: Some(u64::from(field(4)?) << 32 | u64::from(field(8)?)),
            original_bytes: field(16)?,
            data: body.get(OBSOLETE_PACKET_HEADER_BYTES..)?.get(..captured)?,
        })
    }

    fn raw_packet<R: Read>(&self, source: &Source<R>, fields: &PacketFields<'_>) -> Result<RawPacket, CaptureError> {
        let interface = self.interfaces.get(fields.interface);
        let interface = interface.ok_or_else(|| source.malformed("the packet names an interface that is not there"))?;
        let link = Link::from_number(interface.link_number).ok_or_else(|| source.link_type(interface.link_number))?;
        let time_ns = match fields.ticks {
            None => None,
            Some(ticks) => Some(
                interface
                    .time_ns(ticks)
                    .ok_or_else(|| source.malformed("the packet's time is before 1970 or after 2554"))?,
            ),
        };
        Ok(RawPacket { time_ns, frame: link.ethernet_frame(fields.data), original_bytes: fields.original_bytes })
    }
}

impl Interface {
    fn new(description: &InterfaceDescriptionBlock<'_>, big_endian: bool) -> Self {
        let mut interface = Self {
            link_number: (description.linktype.0.cast_unsigned() & 0xffff) as u16,
            snap_bytes: description.snaplen,
            ticks_per_second: Some(1_000_000),
            offset_seconds: 0,
        };
        for option in &description.options {
            let value = option.value();
            match (option.code, value.first(), value.first_chunk::<8>()) {
                // The top bit chooses between powers of 2 and of 10.
                (OptionCode::IfTsresol, Some(&power), _) => {
                    let base: u128 = if power & 0x80 == 0 { 10 } else { 2 };
                    interface.ticks_per_second = base.checked_pow(u32::from(power & 0x7f));
                }
                (OptionCode::IfTsoffset, _, Some(&bytes)) => {
                    interface.offset_seconds =
                        if big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) };
                }
                _ => {}
            }
        }
        interface
    }

    /// Nanoseconds since 1970; none when they do not fit.
    fn time_ns(&self, ticks: u64) -> Option<u64> {
        // 2^64 × 10^9 < 2^94, and |offset| × 10^9 < 2^93: neither overflows.
        let since_offset_ns = match self.ticks_per_second {
            Some(ticks_per_second) => u128::from(ticks) * NS_PER_SECOND / ticks_per_second,
            None => 0,
        };
        let offset_ns = i128::from(self.offset_seconds) * 1_000_000_000;
        u64::try_from(since_offset_ns.checked_add_signed(offset_ns)?).ok()
    }
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(if big_endian { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) })
}
