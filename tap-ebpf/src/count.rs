//! Count: every packet once on entry, and once by verdict for each measure.

use crate::constant;
use tap_common::abi::counter::{FACILITY_VERDICTS, MeasureCounters, Verdict};
use tap_common::abi::cpu::CpuState;
use tap_common::limits::{LINE_OVERHEAD_BYTES, MEASURES_MAX};
use tap_common::path::verdict::{Decision, NO_REASON};

/// A packet arrived.
#[inline(always)]
pub fn entry(cpu: *mut CpuState) {
    // SAFETY: this CPU's own element; a program on a CPU is not preempted by another run of itself.
    unsafe { (*cpu).counters.observed_packets += 1 };
}

/// A packet has the verdict of the only measure, by the brief way.
#[inline(always)]
pub fn settled(cpu: *mut CpuState, decision: &Decision) {
    // SAFETY: as above.
    let counters = unsafe { &mut (*cpu).counters };
    counters.observed_bytes += u64::from(decision.frame_bytes + LINE_OVERHEAD_BYTES);
    let verdict = (decision.outcome.0 as usize).wrapping_sub(FACILITY_VERDICTS);
    measure(&mut counters.measures[0], verdict, decision.line_bytes);
}

/// A packet has its verdicts.
#[inline(always)]
pub fn verdicts(cpu: *mut CpuState, decision: &Decision) {
    // SAFETY: as above.
    let counters = unsafe { &mut (*cpu).counters };
    counters.observed_bytes += u64::from(decision.frame_bytes + LINE_OVERHEAD_BYTES);
    let outcome = decision.outcome.0 as usize;
    if outcome < FACILITY_VERDICTS {
        if let Some(count) = counters.facility_verdicts.get_mut(outcome) {
            *count += 1;
        }
        if decision.reason != NO_REASON
            && let Some(count) = counters.reasons.get_mut(decision.reason as usize)
        {
            *count += 1;
        }
        return;
    }
    if constant::measures() == 1 {
        // The first live slot is the only one.
        measure(&mut counters.measures[0], outcome - FACILITY_VERDICTS, decision.line_bytes);
        return;
    }
    if decision.admitted != 0 {
        counters.admitted_packets += 1;
        counters.admitted_bytes += u64::from(decision.line_bytes);
    }
    let mut slot = 0;
    while slot < MEASURES_MAX as u32 && slot < constant::measures() {
        if let Some(counters) = counters.measures.get_mut(slot as usize) {
            match decision.verdict(slot) {
                Some(verdict) => measure(counters, verdict as usize, decision.line_bytes),
                None => counters.idle_packets += 1,
            }
        }
        slot += 1;
    }
}

#[inline(always)]
fn measure(counters: &mut MeasureCounters, verdict: usize, line_bytes: u32) {
    if let Some(count) = counters.verdicts.get_mut(verdict) {
        *count += 1;
    }
    if verdict > Verdict::OverCap as usize {
        counters.admitted_packets += 1;
        counters.admitted_bytes += u64::from(line_bytes);
    }
}
