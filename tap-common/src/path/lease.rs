//! Lease: which measures are live now? The kernel stops by itself when the agent no longer renews.
//!
//! In: the slots' leases and the clock. Out: a bit for each live slot. The cached clock may be one tick late, so the
//! beginning is compared with the cached time and the end with the latest time it could be: both round to the strict side.

use super::verdict::Decision;
use super::world::{World, settle_slot};
use crate::abi::policy::Lease;
use crate::limits::MEASURES_MAX;

/// Sets in `out.live` the slots that are live by the cached clock, as bits; up to one tick too strict, never too lenient.
#[inline(always)]
pub fn live<W: World>(world: &W, now_cached_ns: u64, out: &mut Decision) {
    out.live = 0;
    let mut slot = 0;
    while slot < MEASURES_MAX as u32 && slot < world.measures() {
        if is_live(world, slot, now_cached_ns) {
            out.live |= 1 << slot;
        }
        settle_slot(world, out);
        slot += 1;
    }
}

/// Whether a slot is live by the cached clock.
#[inline(always)]
#[must_use]
pub fn is_live<W: World>(world: &W, slot: u32, now_cached_ns: u64) -> bool {
    let lease = world.lease(slot);
    let latest_ns = now_cached_ns.wrapping_add(world.tick_ns());
    lease.not_before_ns <= now_cached_ns && latest_ns < lease.deadline_ns
}

/// Whether `lease` is live at exactly `now_ns`: selected packets are held against this.
#[inline(always)]
#[must_use]
pub fn is_live_exactly(lease: &Lease, now_ns: u64) -> bool {
    lease.not_before_ns <= now_ns && now_ns < lease.deadline_ns
}
