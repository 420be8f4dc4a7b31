//! The value that all generations of a tap share: leases, samples, caps.
//!
//! It is mapped into the agent, which stores one word at a time while the program reads them.

use super::LoadError;
use super::mapped::Mapped;
use std::mem::offset_of;
use std::os::fd::AsFd;
use tap_common::abi::policy::{CapPolicy, Lease, Shared};

/// A tap's shared value.
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
