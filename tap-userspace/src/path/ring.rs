//! Ring: out of the kernel's ring buffer, a CPU's records in order.
//!
//! In: the file descriptor of a `BPF_MAP_TYPE_RINGBUF`. Out: copies of the [`Record`]s in it. It never interprets an
//! address. Bounded by the ring's size and by what a call asks for.
//!
//! Reading and releasing are two steps: what was read and not released stays in the ring, so an agent that is killed
//! between reading and spooling finds it again.
//!
//! The layout is the kernel's (`kernel/bpf/ringbuf.c`, since 5.8): at offset 0 a page with the consumer's position, the
//! only one that may be mapped writable; behind it a page with the producer's position; behind that the data, mapped
//! twice in a row so that an entry that wraps is contiguous. Positions are bytes since the ring was made, as `unsigned
//! long`. An entry is a header (length with [`BUSY`] and [`DISCARD`] in its upper bits, then a page offset that only the
//! kernel uses) and its data, rounded up to 8 bytes. A producer moves its position first and clears `BUSY` later, with
//! release ordering: length and position are loaded with acquire ordering, and nothing behind a busy entry is read.

mod mapping;
#[cfg(test)]
mod tests;

use mapping::Mapping;
use std::os::fd::{AsFd, OwnedFd};
use tap_common::abi::record::{KIND_RECORD, Record};
use tap_common::limits::ring_bytes;

/// `BPF_RINGBUF_BUSY_BIT`: the producer is still writing the entry.
const BUSY: u32 = 1 << 31;
/// `BPF_RINGBUF_DISCARD_BIT`: the producer gave the entry up.
const DISCARD: u32 = 1 << 30;
/// `BPF_RINGBUF_HDR_SZ`.
const ENTRY_HEADER_BYTES: usize = 8;
/// Entries begin at multiples of this.
const ENTRY_ALIGNMENT_BYTES: usize = 8;

/// Why a ring cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// No ring has this size.
    #[error("ring of {bytes} bytes: must be a power of two and at least a page of {page_bytes} bytes")]
    Size {
        /// What was asked for.
        bytes: usize,
        /// The machine's page.
        page_bytes: usize,
    },
    /// The kernel refused to map it.
    #[error("ring: cannot map {what}: {errno} (is the map a ring buffer of that size?)")]
    Map {
        /// Which part.
        what: &'static str,
        /// What the system said.
        errno: nix::Error,
    },
    /// The positions contradict each other.
    #[error("ring: consumer position {consumer} and producer position {producer} do not fit {bytes} bytes")]
    Positions {
        /// Consumer position.
        consumer: usize,
        /// Producer position.
        producer: usize,
        /// Size of the ring.
        bytes: usize,
    },
}

/// What a consumer has met since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStatus {
    /// Records read.
    pub records_total: u64,
    /// Entries that the producer gave up.
    pub discarded_total: u64,
    /// Entries of a kind that this agent does not know: skipped.
    pub unknown_total: u64,
    /// Entries that say they are records but are not as long as one: skipped.
    pub malformed_total: u64,
    /// An entry's length went beyond what the producer has written: nothing more is read from this ring.
    pub corrupt: bool,
    /// Bytes between what is released and what the producer has written.
    pub pending_bytes: usize,
}

/// The one consumer of a ring.
#[derive(Debug)]
pub struct RingConsumer {
    mapping: Mapping,
    /// How far entries were read; the position in the consumer page is how far they were released.
    position: usize,
    status: RingStatus,
    /// The map lives as long as its mapping; kept so that whoever lists the agent's descriptors sees the ring.
    _fd: OwnedFd,
}

impl RingConsumer {
    /// Maps the ring behind `fd`, whose data are `bytes` long, and goes on where the last consumer released.
    ///
    /// # Errors
    /// [`RingError`].
    pub fn new(fd: OwnedFd, bytes: usize) -> Result<Self, RingError> {
        let mapping = Mapping::new(fd.as_fd(), bytes)?;
        let (consumer, producer) = (mapping.consumer_position(), mapping.producer_position());
        if producer.wrapping_sub(consumer) > bytes || !consumer.is_multiple_of(ENTRY_ALIGNMENT_BYTES) {
            return Err(RingError::Positions { consumer, producer, bytes });
        }
        Ok(Self { mapping, position: consumer, status: RingStatus::default(), _fd: fd })
    }

    /// Maps the rings of a machine's CPUs, all of them by CPU number.
    ///
    /// # Errors
    /// [`RingError`].
    pub fn of_cpus(rings: Vec<OwnedFd>) -> Result<Vec<Self>, RingError> {
        let bytes = ring_bytes(rings.len()) as usize;
        rings.into_iter().map(|ring| Self::new(ring, bytes)).collect()
    }

    /// Copies up to `max` records behind those in `out`, and returns how many. Stops at an entry that is still being
    /// written. Nothing is released: see [`RingConsumer::release`].
    pub fn drain(&mut self, out: &mut Vec<Record>, max: usize) -> usize {
        let mut taken = 0;
        let mut producer = self.mapping.producer_position();
        while taken < max && !self.status.corrupt {
            if self.position == producer {
                producer = self.mapping.producer_position();
                if self.position == producer {
                    break;
                }
            }
            let header = self.mapping.entry_header(self.position);
            if header & BUSY != 0 {
                break;
            }
            let Some(entry_bytes) = entry_bytes(header, producer.wrapping_sub(self.position)) else {
                self.status.corrupt = true;
                break;
            };
            if header & DISCARD != 0 {
                self.status.discarded_total += 1;
            } else if let Some(record) = self.record(header) {
                out.push(record);
                taken += 1;
            }
            self.position = self.position.wrapping_add(entry_bytes);
        }
        self.status.records_total += taken as u64;
        taken
    }

    /// Gives everything that was read back to the producer: only when it is in the spool.
    pub fn release(&mut self) {
        self.mapping.set_consumer_position(self.position);
    }

    /// What it has met, and how full the ring is.
    #[must_use]
    pub fn status(&self) -> RingStatus {
        let pending_bytes = self.mapping.producer_position().wrapping_sub(self.mapping.consumer_position());
        RingStatus { pending_bytes, ..self.status }
    }

    /// The record in the entry at the position, or a count of why there is none.
    fn record(&mut self, length: u32) -> Option<Record> {
        let data = self.position.wrapping_add(ENTRY_HEADER_BYTES);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length < size_of::<u16>() {
            self.status.malformed_total += 1;
            return None;
        }
        if self.mapping.entry_kind(data) != KIND_RECORD {
            self.status.unknown_total += 1;
            return None;
        }
        let record = (length == Record::BYTES).then(|| self.mapping.record(data));
        let record = record.filter(|record| usize::from(record.length) == Record::BYTES);
        if record.is_none() {
            self.status.malformed_total += 1;
        }
        record
    }
}

/// Bytes from one entry to the next; `None` when that is more than the producer has written.
fn entry_bytes(header: u32, written_bytes: usize) -> Option<usize> {
    let length = usize::try_from(header & !(BUSY | DISCARD)).ok()?;
    let bytes = length.checked_add(ENTRY_HEADER_BYTES)?.checked_next_multiple_of(ENTRY_ALIGNMENT_BYTES)?;
    (bytes <= written_bytes).then_some(bytes)
}
