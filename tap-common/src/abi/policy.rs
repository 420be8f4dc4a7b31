//! What the agent tells the program: per-measure policy of a generation, the lease, and the bucket's parameters.

use crate::limits::{CONDITION_KINDS, MEASURES_MAX, RULE_WORDS};

/// What one generation knows of one measure. Written before the program is attached, then frozen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MeasurePolicy {
    /// Rules of this measure, by index; no bit means the slot is unused.
    pub rules: [u64; RULE_WORDS],
    /// For each kind of condition the rules in which a condition of this kind is counted (Art. 22(2)).
    pub counted: [[u64; RULE_WORDS]; CONDITION_KINDS],
    /// A flow is in the sample when its 32-bit hash is below this; 2^32 takes all.
    pub sampling_threshold: u64,
    /// Secret, direction-independent seed of the flow hash.
    pub sampling_seed: u64,
    /// Counted conditions a rule needs.
    pub conditions_min: u32,
    /// Bit set of the `Direction`s the measure selects (bit = direction's number).
    pub directions: u32,
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

/// The lease of each measure slot, in nanoseconds of the program's clock. Written while the program runs.
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

const _: () = assert!(size_of::<MeasurePolicy>() == 8 * (RULE_WORDS * (1 + CONDITION_KINDS) + 3));
const _: () = assert!(size_of::<[Lease; MEASURES_MAX]>() == 128);
const _: () = assert!(size_of::<Instance>() == 24);
