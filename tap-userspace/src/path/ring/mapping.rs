//! The ring's memory: every unsafe access to it stands here.
//!
//! In: a file descriptor and a size. Out: positions, entry headers, copies of entries. Offsets are masked into the data,
//! so none of them can leave the mapping.

use super::{ENTRY_ALIGNMENT_BYTES, ENTRY_HEADER_BYTES, RingError};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{SysconfVar, sysconf};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use tap_common::abi::record::Record;

/// The smallest page of any machine; an entry that begins in the data's first copy must end in the second.
const PAGE_BYTES_MIN: usize = 4096;
const _: () = assert!(Record::BYTES + ENTRY_HEADER_BYTES <= PAGE_BYTES_MIN);
const _: () = assert!(align_of::<Record>() <= ENTRY_ALIGNMENT_BYTES);

/// A stretch of mapped memory, unmapped when dropped.
#[derive(Debug)]
struct Area {
    start: NonNull<c_void>,
    bytes: usize,
}

impl Area {
    fn map(
        fd: BorrowedFd<'_>,
        what: &'static str,
        bytes: usize,
        offset: usize,
        protection: ProtFlags,
    ) -> Result<Self, RingError> {
        let refused = |errno| RingError::Map { what, errno };
        let length = NonZeroUsize::new(bytes).ok_or(refused(nix::Error::EINVAL))?;
        let offset = offset.try_into().map_err(|_too_large| refused(nix::Error::EOVERFLOW))?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, fd, offset) };
        Ok(Self { start: start.map_err(refused)?, bytes })
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: this value made the mapping and lends no reference that outlives it.
        let unmapped = unsafe { munmap(self.start, self.bytes) };
        // It fails only for an address that is no mapping.
        debug_assert!(unmapped.is_ok());
    }
}

/// The consumer page, and the producer page with the data twice behind it.
#[derive(Debug)]
pub(super) struct Mapping {
    consumer: Area,
    producer: Area,
    page_bytes: usize,
    /// Size of the data less one.
    mask: usize,
}

// SAFETY: the memory belongs to this value and is reached through it alone on this side; it is no thread's own.
unsafe impl Send for Mapping {}

impl Mapping {
    pub(super) fn new(fd: BorrowedFd<'_>, bytes: usize) -> Result<Self, RingError> {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        let page_bytes = page.and_then(|page| usize::try_from(page).ok()).unwrap_or(PAGE_BYTES_MIN);
        let size = RingError::Size { bytes, page_bytes };
        if !bytes.is_power_of_two() || bytes < page_bytes {
            return Err(size);
        }
        let read_bytes = bytes.checked_mul(2).and_then(|twice| twice.checked_add(page_bytes)).ok_or(size)?;
        let read_write = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        Ok(Self {
            consumer: Area::map(fd, "the consumer page", page_bytes, 0, read_write)?,
            producer: Area::map(fd, "the producer page and the data", read_bytes, page_bytes, ProtFlags::PROT_READ)?,
            page_bytes,
            mask: bytes - 1,
        })
    }

    /// How far the consumer has released.
    pub(super) fn consumer_position(&self) -> usize {
        // Only this side writes it.
        self.consumer_word().load(Ordering::Relaxed)
    }

    /// Releases up to `position`: the producer may write there again once it sees this, so every read of the entries
    /// before it must be done, which release ordering says.
    pub(super) fn set_consumer_position(&self, position: usize) {
        self.consumer_word().store(position, Ordering::Release);
    }

    /// How far the producer has reserved; with acquire ordering, so that the `BUSY` bits of the entries before it are
    /// seen at least as it set them.
    pub(super) fn producer_position(&self) -> usize {
        // SAFETY: the word begins the area, is aligned as a page is, and lives as long as the mapping; the kernel
        // changes it atomically.
        let word = unsafe { self.producer.start.cast::<AtomicUsize>().as_ref() };
        word.load(Ordering::Acquire)
    }

    fn consumer_word(&self) -> &AtomicUsize {
        // SAFETY: as for the producer's word; this side is the only writer.
        unsafe { self.consumer.start.cast::<AtomicUsize>().as_ref() }
    }

    /// Where the data at ring position `position` are: inside the first copy, at most its size before the second's end.
    fn data(&self, position: usize) -> NonNull<u8> {
        let offset = self.page_bytes + (position & self.mask);
        // SAFETY: the offset is below page + size, and the area is page + 2 * size long.
        unsafe { self.producer.start.cast::<u8>().add(offset) }
    }

    /// Length and flags of the entry at `position`, a multiple of 8; with acquire ordering, so that without `BUSY` the
    /// entry's bytes are all there.
    pub(super) fn entry_header(&self, position: usize) -> u32 {
        let start = self.data(position & !(ENTRY_ALIGNMENT_BYTES - 1)).cast::<AtomicU32>();
        // SAFETY: 8-byte aligned and followed by at least the second copy; the kernel changes it atomically.
        unsafe { start.as_ref() }.load(Ordering::Acquire)
    }

    /// First two bytes of the entry's data at `position`.
    pub(super) fn entry_kind(&self, position: usize) -> u16 {
        let start = self.data(position).cast::<u16>();
        // SAFETY: inside the mapping (the second copy follows), any bytes are a `u16`, and the producer leaves a
        // committed entry alone until it is released.
        unsafe { start.read_unaligned() }
    }

    /// The record whose bytes begin at `position`.
    pub(super) fn record(&self, position: usize) -> Record {
        let start = self.data(position).cast::<Record>();
        // SAFETY: a record is shorter than a page, so it ends inside the second copy; any bytes are a `Record`, whose
        // fields are all integers; the producer leaves a committed entry alone until it is released.
        unsafe { start.read_unaligned() }
    }
}
