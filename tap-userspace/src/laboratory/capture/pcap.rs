//! pcap: a header of 24 bytes, then records with a header of 16 (24 in the "modified" kind). Times in µs or ns, as the
//! magic number says; it tells the byte order too (draft-ietf-opsawg-pcap).

use super::link::Link;
use super::source::Source;
use super::{CaptureError, RawPacket, check_length};
use pcap_parser::nom::IResult;
use pcap_parser::{LegacyPcapBlock, PcapError};
use std::io::Read;

const HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 16;
const MODIFIED_RECORD_HEADER_BYTES: usize = 24;
/// Where a record's header states the captured length.
const CAPTURED_LENGTH_AT: usize = 8;

type ParseRecord = for<'a> fn(&'a [u8]) -> IResult<&'a [u8], LegacyPcapBlock<'a>, PcapError<&'a [u8]>>;

/// What the file's header says about its records.
pub(super) struct Header {
    link: Link,
    big_endian: bool,
    fraction_ns: u64,
    record_header_bytes: usize,
    parse: ParseRecord,
}

impl Header {
    /// Reads the header of the file, whose first four bytes are in `source`.
    pub(super) fn read<R: Read>(source: &mut Source<R>) -> Result<Self, CaptureError> {
        if pcap_parser::parse_pcap_header(source.record()).is_err_and(|error| !error.is_incomplete()) {
            return Err(source.not_a_capture());
        }
        source.extend(HEADER_BYTES)?;
        let Ok((_, header)) = pcap_parser::parse_pcap_header(source.record()) else {
            return Err(source.not_a_capture());
        };
        let big_endian = header.is_bigendian();
        let modified = header.is_modified_format();
        // The upper half of the field holds the length of a frame check sequence, which is payload to us.
        let number = (header.network.0.cast_unsigned() & 0xffff) as u16;
        let link = Link::from_number(number).ok_or_else(|| source.link_type(number))?;
        Ok(Self {
            link,
            big_endian,
            fraction_ns: if header.is_nanosecond_precision() { 1 } else { 1_000 },
            record_header_bytes: if modified { MODIFIED_RECORD_HEADER_BYTES } else { RECORD_HEADER_BYTES },
            parse: match (big_endian, modified) {
                (true, _) => pcap_parser::parse_pcap_frame_be,
                (false, true) => pcap_parser::parse_pcap_frame_modified,
                (false, false) => pcap_parser::parse_pcap_frame,
            },
        })
    }

    /// Reads the next record; none at the end of the file.
    pub(super) fn read_packet<R: Read>(&self, source: &mut Source<R>) -> Result<Option<RawPacket>, CaptureError> {
        if !source.begin(self.record_header_bytes)? {
            return Ok(None);
        }
        let stated = source.record().get(CAPTURED_LENGTH_AT..).and_then(|rest| rest.first_chunk::<4>());
        let Some(&stated) = stated else { return Err(source.malformed("the record header is short")) };
        let captured = if self.big_endian { u32::from_be_bytes(stated) } else { u32::from_le_bytes(stated) };
        let captured = check_length(source, captured)?;
        source.extend(self.record_header_bytes + captured)?;
        let Ok((_, record)) = (self.parse)(source.record()) else {
            return Err(source.malformed("the record cannot be parsed"));
        };
        // At most 2^32 s × 10^9 + 2^32 × 1,000 < 2^63: it cannot overflow.
        let time_ns = u64::from(record.ts_sec) * 1_000_000_000 + u64::from(record.ts_usec) * self.fraction_ns;
        Ok(Some(RawPacket {
            time_ns: Some(time_ns),
            frame: self.link.ethernet_frame(record.data),
            original_bytes: record.origlen,
        }))
    }
}
