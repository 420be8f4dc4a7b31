//! Capture files: pcap and pcapng, in either byte order.
//!
//! In: the bytes of a file, as a stream. Out: Ethernet frames with their time, numbered from 1 like other tools number
//! them. It never sees what is inside a frame beyond the link header. Bounds: one record of the file is in memory, of at
//! most [`CAPTURE_RECORD_BYTES_MAX`] bytes. A file that ends inside a record, or contradicts itself, gives every packet
//! before that place and then an error that names the byte.

pub mod link;
mod pcap;
mod pcapng;
mod source;
#[cfg(test)]
mod tests;

use crate::limits::CAPTURE_RECORD_BYTES_MAX;
use source::Source;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// One packet of a capture file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Number of the packet in the file, from 1; every frame counts.
    pub number: u64,
    /// Time of the capture, nanoseconds since 1970 (UTC). A pcapng packet without a time takes that of the one before.
    pub time_ns: u64,
    /// The bytes captured, beginning with an Ethernet header (one is put in front for other link types).
    pub frame: Vec<u8>,
    /// Bytes the packet had on its own link, as the file states it; at least those captured, or the file lies.
    pub original_bytes: u32,
}

/// Why a capture file cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened.
    #[error("{path}: cannot be opened")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Reading failed.
    #[error("{path}: byte {offset}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Offset of the record in the file.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The first bytes are those of no capture format.
    #[error("{path}: is neither a pcap nor a pcapng file")]
    NotACapture {
        /// The file.
        path: PathBuf,
    },
    /// The file ends inside a record.
    #[error(
        "{path}: torn: the record at byte {offset} needs {needed} bytes, the file has {present} more; \
         the packets before it are complete"
    )]
    Torn {
        /// The file.
        path: PathBuf,
        /// Offset of the record in the file.
        offset: u64,
        /// Bytes of the record, as far as they are known.
        needed: usize,
        /// Bytes of the record that are there.
        present: usize,
    },
    /// A record contradicts itself.
    #[error("{path}: byte {offset}: {what}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Offset of the record in the file.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A link type that is not read.
    #[error(
        "{path}: byte {offset}: link type {number} ({name}) is not read; \
         Ethernet, Linux cooked (SLL, SLL2) and raw IP are"
    )]
    LinkType {
        /// The file.
        path: PathBuf,
        /// Offset of the record in the file.
        offset: u64,
        /// Number of the link type.
        number: u16,
        /// Its name.
        name: &'static str,
    },
}

/// A capture file that is being read: an iterator over its packets, which ends after the first error.
pub struct Capture<R> {
    source: Source<R>,
    format: Format,
    number: u64,
    last_time_ns: u64,
    ended: bool,
}

/// The two file formats, with what their headers said.
enum Format {
    Pcap(pcap::Header),
    Pcapng(pcapng::Section),
}

/// What a format's reader gives for one packet, before it has a number.
struct RawPacket {
    time_ns: Option<u64>,
    frame: Vec<u8>,
    original_bytes: u32,
}

impl Capture<BufReader<File>> {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// When the file cannot be opened, or begins like no capture file.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let file = File::open(path).map_err(|source| CaptureError::Open { path: path.to_owned(), source })?;
        Self::new(path, BufReader::new(file))
    }
}

impl<R: Read> Capture<R> {
    /// Reads the header of `reader`; errors call the file `path`.
    ///
    /// # Errors
    /// When the header cannot be read, or is that of no capture file.
    pub fn new(path: &Path, reader: R) -> Result<Self, CaptureError> {
        let mut source = Source::new(path, reader);
        if !source.begin(4)? {
            return Err(CaptureError::NotACapture { path: path.to_owned() });
        }
        let format = if source.record().starts_with(&pcapng::MAGIC) {
            Format::Pcapng(pcapng::Section::read_first(&mut source)?)
        } else {
            Format::Pcap(pcap::Header::read(&mut source)?)
        };
        Ok(Self { source, format, number: 0, last_time_ns: 0, ended: false })
    }

    fn read_packet(&mut self) -> Result<Option<Packet>, CaptureError> {
        let raw = match &mut self.format {
            Format::Pcap(header) => header.read_packet(&mut self.source)?,
            Format::Pcapng(section) => section.read_packet(&mut self.source)?,
        };
        let Some(raw) = raw else { return Ok(None) };
        self.number += 1;
        self.last_time_ns = raw.time_ns.unwrap_or(self.last_time_ns);
        Ok(Some(Packet {
            number: self.number,
            time_ns: self.last_time_ns,
            frame: raw.frame,
            original_bytes: raw.original_bytes,
        }))
    }
}

impl<R: Read> Iterator for Capture<R> {
    type Item = Result<Packet, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read_packet().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Refuses a record that claims more than any packet has.
fn check_length<R: Read>(source: &Source<R>, bytes: u32) -> Result<usize, CaptureError> {
    if bytes > CAPTURE_RECORD_BYTES_MAX {
        return Err(source.malformed("the record claims to be larger than any packet"));
    }
    Ok(bytes as usize)
}
