//! Plain: the types of the kernel line, allowed into maps.

use tap_common::abi::cpu::CpuState;
use tap_common::abi::policy::{Instance, Shared};
use tap_common::abi::rule::ClassMasks;
use tap_common::abi::tables::{Exact4, Exact6, FixedTables};
use tap_common::path::verdict::Decision;

/// A value as it lies in a map.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub(super) T);

/// Fixed layout, no padding, every bit pattern valid.
pub(super) trait Layout: Copy + 'static {}

impl Layout for CpuState {}
impl Layout for Instance {}
impl Layout for Shared {}
impl Layout for FixedTables {}
impl Layout for ClassMasks {}
impl Layout for Exact4 {}
impl Layout for Exact6 {}
impl Layout for Decision {}
impl Layout for u64 {}
impl Layout for [u32; 256] {}
impl Layout for [u64; 4] {}

impl<T: Layout> Plain<T> {
    /// A value where it lies: too large ones must not come by a thread's stack.
    pub(super) fn by_reference(value: &T) -> &Self {
        // SAFETY: the same type in a transparent wrapper.
        unsafe { &*std::ptr::from_ref(value).cast() }
    }
}

/// Values as the bytes that lie in a map.
pub(super) fn bytes_of<T: Layout>(values: &[T]) -> &[u8] {
    // SAFETY: `Layout` types have no padding (see below), so every byte is initialised; the length is that of the slice.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

// SAFETY: `Layout` is implemented only for types of `tap_common::abi` and arrays of numbers, all `repr(C)` without padding
// (their sizes are asserted beside them).
unsafe impl<T: Layout> aya::Pod for Plain<T> {}
