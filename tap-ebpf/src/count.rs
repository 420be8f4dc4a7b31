//! Count: every packet once on entry and once by verdict.

use tap_common::abi::counter::{FACILITY_VERDICTS, Verdict};
use tap_common::abi::cpu::CpuState;
use tap_common::limits::LINE_OVERHEAD_BYTES;
use tap_common::path::SLOT;
use tap_common::path::verdict::{Decision, NO_REASON};

/// A packet arrived.
#[inline(always)]
pub fn entry(cpu: *mut CpuState, frame_bytes: u32) {
    // SAFETY: this CPU's own element; a program on a CPU is not preempted by another run of itself.
    unsafe {
        (*cpu).counters.observed_packets += 1;
        (*cpu).counters.observed_bytes += u64::from(frame_bytes + LINE_OVERHEAD_BYTES);
    }
}

/// A packet has its verdict.
#[inline(always)]
pub fn verdict(cpu: *mut CpuState, decision: &Decision) {
    // SAFETY: as above.
    let counters = unsafe { &mut (*cpu).counters };
    let outcome = decision.outcome.0 as usize;
    if decision.reason != NO_REASON
        && let Some(count) = counters.reasons.get_mut(decision.reason as usize)
    {
        *count += 1;
    }
    if outcome < FACILITY_VERDICTS {
        if let Some(count) = counters.facility_verdicts.get_mut(outcome) {
            *count += 1;
        }
        return;
    }
    let measure = &mut counters.measures[SLOT as usize];
    if let Some(count) = measure.verdicts.get_mut(outcome - FACILITY_VERDICTS) {
        *count += 1;
    }
    if outcome > FACILITY_VERDICTS + Verdict::OverCap as usize {
        measure.admitted_packets += 1;
        measure.admitted_bytes += u64::from(decision.line_bytes);
    }
}
