//! Lease: is the measure live now? The kernel stops by itself when the agent no longer renews.
//!
//! In: the slot's lease and the clock. Out: live or not. The cached clock may be one tick late, so the beginning is
//! compared with the cached time and the end with the latest time it could be: both round to the strict side.

use super::world::World;
use crate::abi::policy::Lease;

/// Whether slot `slot` is live, by the cached clock; up to one tick too strict, never too lenient.
#[inline(always)]
pub fn is_live<W: World>(world: &W, slot: u32, now_cached_ns: u64) -> bool {
    let Some(lease) = world.lease(slot) else { return false };
    lease.not_before_ns <= now_cached_ns && now_cached_ns.wrapping_add(world.tick_ns()) < lease.deadline_ns
}

/// Whether `lease` is live at exactly `now_ns`: selected packets are held against this.
#[inline(always)]
#[must_use]
pub fn is_live_exactly(lease: &Lease, now_ns: u64) -> bool {
    lease.not_before_ns <= now_ns && now_ns < lease.deadline_ns
}
