//! Bounds: what the signed documents allow at most, held against whatever the agent asks for.
//!
//! In: verified orders and activations, one judged moment. Out: leases cut to the window and to five seconds, caps and
//! samples that the orders allow, or a refusal. It reads no clock and touches no kernel.

use crate::clock::Now;
use crate::load::cap_policy;
use crate::order::basis::Basis;
use crate::run::facility;
use crate::run::lease::{self, NoLease, Window};
use tap_common::abi::policy::{CapPolicy, Lease};

/// The bounds of one measure.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) measure: String,
    pub(super) basis: Basis,
    /// This tap's share, in parts per million.
    pub(super) share_ppm: u32,
    pub(super) capacity_bits_per_second: u64,
    /// Highest sampling threshold.
    pub(super) sampling_max: u64,
    /// The orders'.
    pub(super) ordered: Window,
    /// The activation's; none before a set is loaded.
    pub(super) window: Option<Window>,
}

impl Bounds {
    /// The lease that is asked for, no longer than the window and five seconds from `now`.
    ///
    /// # Errors
    /// There is none now.
    pub(super) fn lease(&self, asked: Lease, now: &Now) -> Result<Lease, NoLease> {
        let window = self.window.ok_or(NoLease::NotYet)?.intersect(self.ordered);
        let longest = lease::lease(now, &window)?;
        Ok(Lease {
            not_before_ns: asked.not_before_ns.max(longest.not_before_ns),
            deadline_ns: asked.deadline_ns.min(longest.deadline_ns),
        })
    }

    /// Whether the measure's own cap may be this.
    pub(super) fn admits_cap(&self, asked: CapPolicy) -> bool {
        cap_policy(self.capacity_bits_per_second, self.share_ppm).is_ok_and(|highest| within(asked, highest))
    }
}

/// The facility's highest cap while the measures with a lease are live; without one, that of the measure with the highest:
/// nothing is admitted then. `None` if the orders' figures give no bucket.
pub(super) fn facility_cap(bounds: &[Bounds], leases: &[Lease]) -> Option<CapPolicy> {
    let capacity = bounds.first()?.capacity_bits_per_second;
    let of = |bounds: &Bounds| (bounds.basis, bounds.share_ppm);
    let live = bounds.iter().zip(leases).filter(|(_, lease)| **lease != Lease::default()).map(|(bounds, _)| of(bounds));
    let share_ppm = match facility::share_ppm(live) {
        0 => bounds.iter().map(|bounds| facility::share_ppm([of(bounds)])).max()?,
        share_ppm => share_ppm,
    };
    cap_policy(capacity, share_ppm).ok()
}

/// Whether a cap is no higher than another.
pub(super) fn within(asked: CapPolicy, highest: CapPolicy) -> bool {
    asked.epoch_credit_bytes <= highest.epoch_credit_bytes && asked.chunk_bytes <= highest.chunk_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const CAPACITY: u64 = 1_000_000_000;

    fn bounds(basis: Basis, share_ppm: u32) -> Bounds {
        Bounds {
            measure: "m-1".into(),
            basis,
            share_ppm,
            capacity_bits_per_second: CAPACITY,
            sampling_max: 1 << 31,
            ordered: Window { not_before_ns: 1_000 * SECOND, not_after_ns: 9_000 * SECOND },
            window: Some(Window { not_before_ns: 0, not_after_ns: 2_000 * SECOND }),
        }
    }

    fn at(unix_ns: u64) -> Now {
        let boot_ns = unix_ns - 900 * SECOND;
        Now { unix_ns, boot_ns, boot_to_unix_ns: (900 * SECOND).cast_signed(), forward_ns: None }
    }

    #[test]
    fn whatever_is_asked_a_lease_ends_with_the_window_and_within_five_seconds() {
        let measure = bounds(Basis::ForeignToDomestic, 300_000);
        let forever = Lease { not_before_ns: 0, deadline_ns: u64::MAX };
        for (unix_ns, deadline_ns) in [(1_500, 605), (1_999, 1_100)] {
            let lease = measure.lease(forever, &at(unix_ns * SECOND)).unwrap();
            assert_eq!(lease, Lease { not_before_ns: 100 * SECOND, deadline_ns: deadline_ns * SECOND });
        }
        let shorter = Lease { not_before_ns: 550 * SECOND, deadline_ns: 601 * SECOND };
        assert_eq!(measure.lease(shorter, &at(1_500 * SECOND)).unwrap(), shorter);
        for unix_ns in [999 * SECOND, 2_000 * SECOND] {
            measure.lease(forever, &at(unix_ns)).unwrap_err();
        }
        let unloaded = Bounds { window: None, ..measure };
        unloaded.lease(forever, &at(1_500 * SECOND)).unwrap_err();
    }

    #[test]
    fn caps_are_those_of_the_live_measures_orders() {
        let both = [bounds(Basis::ForeignToForeign, 100_000), bounds(Basis::ForeignToDomestic, 500_000)];
        let live = Lease { not_before_ns: 1, deadline_ns: 2 };
        let cap = |share_ppm| cap_policy(CAPACITY, share_ppm).unwrap();
        for (leases, share_ppm) in [
            ([Lease::default(); 2], 500_000),
            ([live, Lease::default()], 100_000),
            ([Lease::default(), live], 500_000),
            ([live, live], 300_000),
        ] {
            assert_eq!(facility_cap(&both, &leases), Some(cap(share_ppm)), "{leases:?}");
        }
        let [measure, _] = both;
        assert!(measure.admits_cap(cap(100_000)) && measure.admits_cap(cap(1_000)));
        assert!(!measure.admits_cap(cap(100_010)));
        let CapPolicy { epoch_credit_bytes, chunk_bytes } = cap(100_000);
        assert!(!measure.admits_cap(CapPolicy { epoch_credit_bytes, chunk_bytes: chunk_bytes + 1 }));
        assert!(facility_cap(&[], &[]).is_none());
    }
}
