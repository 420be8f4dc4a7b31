//! What the agent tells the program: per-measure policy of a generation, lease, sample and cap of each measure.

use crate::limits::{CONDITION_KINDS, MEASURES_MAX, RULE_WORDS};

/// What one generation knows of one measure. Written before the program is attached, then frozen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MeasurePolicy {
    /// Rules of this measure, by index; no bit means the slot has no rules.
    pub rules: [u64; RULE_WORDS],
    /// Bit set of the `Direction`s the measure selects (bit = direction's number).
    pub directions: u32,
    /// Always 0.
    pub reserved: u32,
}

/// What one generation knows of all its measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Policy {
    /// For each kind of condition the rules in which a condition of this kind is counted (Art. 22(2)).
    pub counted: [[u64; RULE_WORDS]; CONDITION_KINDS],
    /// For each number of counted conditions, from 1 on, the rules that are asked for so many.
    pub asked: [[u64; RULE_WORDS]; CONDITION_KINDS],
    /// The measures, by slot.
    pub measures: [MeasurePolicy; MEASURES_MAX],
    /// Secret, direction-independent seed of the flow hash.
    pub sampling_seed: u64,
}

/// The cap of one facility or measure, as the bucket needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CapPolicy {
    /// Bytes an epoch's refill gives.
    pub epoch_credit_bytes: u64,
    /// Bytes a CPU takes at once, if the frame is not larger.
    pub chunk_bytes: u64,
}

/// The lease of a measure slot, in nanoseconds of the program's clock. Written while the program runs.
///
/// Live means `not_before_ns <= now < deadline_ns`. All zero (the kernel's default) is not live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Lease {
    /// First nanosecond.
    pub not_before_ns: u64,
    /// First nanosecond after the last.
    pub deadline_ns: u64,
}

/// A bucket's word on a cache line of its own, for every CPU writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Bucket {
    /// Epoch's tag and the credit left in it: see [`crate::path::cap`].
    pub word: u64,
    /// Always 0.
    pub reserved: [u64; 7],
}

/// Buckets there are: the facility's, then one for each measure slot.
pub const BUCKETS: usize = 1 + MEASURES_MAX;
/// The facility's bucket.
pub const FACILITY_BUCKET: u32 = 0;

/// What all generations of a tap share and the agent changes while the program runs: one value of a map that is mapped
/// into the agent, which stores one aligned word at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Shared {
    /// Leases, by slot.
    pub leases: [Lease; MEASURES_MAX],
    /// Samples, by slot: a flow is in the sample when its 32-bit hash is below this; 2^32 takes all.
    pub sampling_thresholds: [u64; MEASURES_MAX],
    /// Caps: [`FACILITY_BUCKET`], then the measures'.
    pub caps: [CapPolicy; BUCKETS],
    /// Always 0: brings the buckets to a cache line's beginning.
    pub reserved: [u64; 6],
    /// The buckets, as the caps. Only the program writes them.
    pub buckets: [Bucket; BUCKETS],
}

/// What identifies a set of maps: made once, together with them, and read back by an agent that finds them pinned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Instance {
    /// [`super::ABI_VERSION`] of the agent that made the maps.
    pub abi_version: u32,
    /// Always 0.
    pub reserved: u32,
    /// 128 random bits.
    pub id: [u8; 16],
}

const _: () = assert!(size_of::<MeasurePolicy>() == 8 * (RULE_WORDS + 1));
const _: () =
    assert!(size_of::<Policy>() == 8 * (2 * RULE_WORDS * CONDITION_KINDS + MEASURES_MAX * (RULE_WORDS + 1) + 1));
const _: () = assert!(size_of::<[Lease; MEASURES_MAX]>() == 128);
const _: () = assert!(core::mem::offset_of!(Shared, buckets) == 384);
const _: () = assert!(size_of::<Shared>() == 384 + 64 * BUCKETS);
const _: () = assert!(size_of::<Instance>() == 24);
