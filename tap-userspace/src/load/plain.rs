//! Plain: the types of the kernel line, allowed into maps.

use tap_common::abi::cpu::CpuState;
use tap_common::abi::policy::{CapPolicy, Instance, Lease, MeasurePolicy};
use tap_common::abi::rule::ClassMasks;
use tap_common::path::verdict::Decision;

/// A value as it lies in a map.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub(super) T);

/// Fixed layout, no padding, every bit pattern valid.
pub(super) trait Layout: Copy + 'static {}

impl Layout for CpuState {}
impl Layout for CapPolicy {}
impl Layout for Instance {}
impl Layout for Lease {}
impl Layout for MeasurePolicy {}
impl Layout for ClassMasks {}
impl Layout for Decision {}
impl Layout for [u32; 256] {}
impl Layout for [u64; 4] {}
impl Layout for [u16; 65_536] {}
impl Layout for [u16; tap_common::limits::IP_LENGTHS] {}

// SAFETY: `Layout` is implemented only for types of `tap_common::abi` and arrays of numbers, all `repr(C)` without padding
// (their sizes are asserted beside them).
unsafe impl<T: Layout> aya::Pod for Plain<T> {}
