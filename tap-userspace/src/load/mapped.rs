//! Mapped: array maps as the agent's memory, to fill large tables in one step and to store single words while the program
//! reads them.
//!
//! In: a map made with `BPF_F_MMAPABLE` (Linux 5.5) and its size. Bounded by that size: nothing is written behind it.

use super::LoadError;
use super::plain::{Layout, bytes_of};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// A map's values, mapped readable and writable; unmapped when dropped.
pub(super) struct Mapped {
    start: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: the mapping is shared memory; single words of it are stored atomically, and `fill` takes it whole.
unsafe impl Send for Mapped {}

// SAFETY: through a shared reference only single words are stored, atomically.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps the `bytes` bytes of map `name`.
    pub(super) fn new(name: &'static str, map: impl AsFd, bytes: usize) -> Result<Self, LoadError> {
        let refused = |error: nix::Error| LoadError::kernel("map a table into memory", format!("{name}: {error}"));
        let length = NonZeroUsize::new(bytes).ok_or_else(|| refused(nix::Error::EINVAL))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, map.as_fd(), 0) };
        Ok(Self { start: start.map_err(refused)?, bytes })
    }

    /// Writes the values from the map's beginning on; those that do not fit are refused by the size.
    pub(super) fn fill<T: Layout>(&mut self, name: &'static str, values: &[T]) -> Result<(), LoadError> {
        let bytes = bytes_of(values);
        if bytes.len() > self.bytes {
            return Err(LoadError::Missing { what: name });
        }
        // SAFETY: the range was just compared with the mapping; nobody else has a reference into it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().cast(), bytes.len()) };
        Ok(())
    }

    /// Stores one word at `offset` bytes, in one step; an offset outside or askew stores nothing.
    pub(super) fn store(&self, offset: usize, word: u64) {
        if offset.is_multiple_of(8) && offset + 8 <= self.bytes {
            // SAFETY: inside the mapping.
            let place = unsafe { self.start.as_ptr().cast::<u8>().add(offset) };
            // SAFETY: aligned, for the mapping begins at a page; atomic, for the program reads it meanwhile.
            unsafe { AtomicU64::from_ptr(place.cast()) }.store(word, Ordering::Release);
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: this value made the mapping and lends no reference that outlives it.
        let unmapped = unsafe { munmap(self.start, self.bytes) };
        // It fails only for an address that is no mapping.
        debug_assert!(unmapped.is_ok());
    }
}
