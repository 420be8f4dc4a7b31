//! Mapped: array maps as the agent's memory, to fill large tables in one step and to store single words while the program
//! reads them.
//!
//! In: a map made with `BPF_F_MMAPABLE` (Linux 5.5) and its size. Bounded by that size: nothing is written behind it.

use super::LoadError;
use super::plain::{Layout, bytes_of};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use tap_common::abi::policy::{CapPolicy, Lease, Shared};

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
    fn store(&self, offset: usize, word: u64) {
        if offset.is_multiple_of(8) && offset + 8 <= self.bytes {
            // SAFETY: inside the mapping, which begins at a page, and aligned; atomic, for the program reads it meanwhile.
            unsafe {
                AtomicU64::from_ptr(self.start.as_ptr().cast::<u8>().add(offset).cast()).store(word, Ordering::Release)
            };
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

/// The one value of the map `SHARED`.
pub(super) struct SharedMemory(Mapped);

impl SharedMemory {
    pub(super) fn new(map: impl AsFd) -> Result<Self, LoadError> {
        Mapped::new("SHARED", map, size_of::<Shared>()).map(Self)
    }

    /// A lease takes two words; a mixture of an old and a new one is no longer than both.
    pub(super) fn set_lease(&self, slot: u32, lease: Lease) {
        let at = offset_of!(Shared, leases) + slot as usize * size_of::<Lease>();
        self.0.store(at + offset_of!(Lease, not_before_ns), lease.not_before_ns);
        self.0.store(at + offset_of!(Lease, deadline_ns), lease.deadline_ns);
    }

    pub(super) fn set_sampling(&self, slot: u32, threshold: u64) {
        self.0.store(offset_of!(Shared, sampling_thresholds) + slot as usize * 8, threshold);
    }

    /// `bucket` is 0 for the facility, 1 + slot for a measure.
    pub(super) fn set_cap(&self, bucket: u32, policy: CapPolicy) {
        let at = offset_of!(Shared, caps) + bucket as usize * size_of::<CapPolicy>();
        self.0.store(at + offset_of!(CapPolicy, epoch_credit_bytes), policy.epoch_credit_bytes);
        self.0.store(at + offset_of!(CapPolicy, chunk_bytes), policy.chunk_bytes);
    }
}
