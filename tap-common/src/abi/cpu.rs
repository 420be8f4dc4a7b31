//! What one CPU keeps: merged into one value, because before Linux 6.10 each per-CPU look-up costs a call.

use super::counter::Counters;
use super::policy::BUCKETS;
use crate::path::verdict::Decision;
use crate::path::world::Credit;

/// State of one CPU. The kernel's per-CPU array hands each CPU its own, so nothing in it is shared while it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CpuState {
    /// Counters, added up over CPUs by the reader.
    pub counters: Counters,
    /// Credit taken from each bucket.
    pub credits: [Credit; BUCKETS],
    /// `bpf_jiffies64` when the clock was last read.
    pub jiffies: u64,
    /// The clock as read then, in nanoseconds of `CLOCK_BOOTTIME`.
    pub now_cached_ns: u64,
    /// Its epoch: this target has no cheap division by a constant.
    pub epoch_cached: u64,
    /// `jiffies` as they were when the only measure was last found live; 0 when it was not.
    pub ready_jiffies: u64,
    /// Its sampling threshold, as read then.
    pub ready_threshold: u64,
    /// Sequence of the next record.
    pub sequence: u64,
    /// The packet being decided about. It lives here and not on the stack, because the verifier tracks every value on
    /// the stack and would follow the stages once for each way a header was found.
    pub decision: Decision,
}

const _: () = assert!(size_of::<CpuState>() == size_of::<Counters>() + 16 * BUCKETS + 48 + size_of::<Decision>());
