//! Bounds: what the signed documents allow at most, held against whatever the agent asks for.
//!
//! In: verified orders, activations and directives, one judged moment. Out: leases cut to the window and to five seconds,
//! caps and samples that the orders and directives allow, or a refusal. What a directive took away never comes back. It
//! reads no clock and touches no kernel.

use crate::clock::Now;
use crate::directive::Kind;
use crate::directive::restriction::Restriction;
use crate::load::cap_policy;
use crate::order::basis::Basis;
use crate::run::facility;
use crate::run::lease::{self, NoLease, Window};
use tap_common::abi::policy::{CapPolicy, Lease};

/// The bounds of one measure.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) measure: String,
    /// SHA-256 of the orders, each of which extends the one before it.
    pub(super) orders: Vec<[u8; 32]>,
    pub(super) basis: Basis,
    /// This tap's share as ordered, in parts per million.
    pub(super) share_ppm: u32,
    /// The whole facility's, of which directives speak.
    pub(super) facility_share_ppm: u32,
    pub(super) capacity_bits_per_second: u64,
    /// Highest sampling threshold.
    pub(super) sampling_max: u64,
    /// The orders'.
    pub(super) ordered: Window,
    /// The activation's; none before a set is loaded.
    pub(super) window: Option<Window>,
    /// What directives left. The carrier's kill switch is not in here: it is thrown and taken back without a signature.
    pub(super) left: Restriction,
}

/// Why a slot has no lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    /// Not now.
    #[error("{0}")]
    Window(#[from] NoLease),
    /// Not again.
    #[error("{0}")]
    Directed(String),
}

impl Bounds {
    /// Takes what a directive takes away. Of two directives the stricter counts, in whatever order they come: a repeated or
    /// an older one changes nothing.
    pub(super) fn narrow(&mut self, kind: Kind, reason: &str) {
        match kind {
            Kind::Stop => {
                self.left.stopped.get_or_insert_with(|| reason.to_owned());
            }
            Kind::LowerShare(share_ppm) => {
                self.left.share_ppm = Some(self.left.share_ppm.map_or(share_ppm, |left| left.min(share_ppm)));
            }
            Kind::Shorten(not_after) => {
                // A moment before 1970 has long ended the measure.
                let end = u64::try_from(not_after.as_nanosecond()).unwrap_or(0);
                self.left.not_after_ns = Some(self.left.not_after_ns.map_or(end, |left| left.min(end)));
            }
        }
    }

    /// Whether bounds that are to follow are those of the same orders, or of orders that extend them.
    pub(super) fn go_on_with(&self, next: &Self) -> bool {
        self.measure == next.measure && next.orders.starts_with(&self.orders)
    }

    /// The lease that is asked for, no longer than the window and five seconds from `now`.
    ///
    /// # Errors
    /// There is none now.
    pub(super) fn lease(&self, asked: Lease, now: &Now) -> Result<Lease, Denied> {
        if let Some(reason) = self.left.refusal() {
            return Err(Denied::Directed(reason));
        }
        if self.cap().is_none() {
            return Err(Denied::Directed("a directive left a share that is too small for a bucket".into()));
        }
        let window = self.window.ok_or(NoLease::NotYet)?.intersect(self.ordered);
        let not_after_ns = window.not_after_ns.min(self.left.not_after_ns.unwrap_or(u64::MAX));
        let longest = lease::lease(now, &Window { not_after_ns, ..window })?;
        Ok(Lease {
            not_before_ns: asked.not_before_ns.max(longest.not_before_ns),
            deadline_ns: asked.deadline_ns.min(longest.deadline_ns),
        })
    }

    /// The measure's own highest cap; `None` if its share gives no bucket.
    pub(super) fn cap(&self) -> Option<CapPolicy> {
        cap_policy(self.capacity_bits_per_second, self.share_left_ppm()).ok()
    }

    /// This tap's share as directives left it.
    fn share_left_ppm(&self) -> u32 {
        self.left.tap_share_ppm(self.share_ppm, self.facility_share_ppm)
    }
}

/// The facility's highest cap while the measures with a lease are live; without one, that of the order with the highest:
/// nothing is admitted then. `None` if the orders' figures give no bucket.
pub(super) fn facility_cap(bounds: &[Bounds], leases: &[Lease]) -> Option<CapPolicy> {
    let capacity = bounds.first()?.capacity_bits_per_second;
    let live = bounds.iter().zip(leases).filter(|(_, lease)| **lease != Lease::default());
    let share_ppm = match facility::share_ppm(live.map(|(bounds, _)| (bounds.basis, bounds.share_left_ppm()))) {
        0 => bounds.iter().map(|bounds| facility::share_ppm([(bounds.basis, bounds.share_ppm)])).max()?,
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
            orders: vec![[1; 32]],
            basis,
            share_ppm,
            facility_share_ppm: 2 * share_ppm,
            capacity_bits_per_second: CAPACITY,
            sampling_max: 1 << 31,
            ordered: Window { not_before_ns: 1_000 * SECOND, not_after_ns: 9_000 * SECOND },
            window: Some(Window { not_before_ns: 0, not_after_ns: 2_000 * SECOND }),
            left: Restriction::default(),
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
        let highest = measure.cap().unwrap();
        assert_eq!(highest, cap(100_000));
        assert!(within(highest, highest) && within(cap(1_000), highest) && !within(cap(100_010), highest));
        let CapPolicy { epoch_credit_bytes, chunk_bytes } = highest;
        assert!(!within(CapPolicy { epoch_credit_bytes, chunk_bytes: chunk_bytes + 1 }, highest));
        assert!(facility_cap(&[], &[]).is_none());
    }

    #[test]
    fn what_a_directive_took_away_no_later_one_gives_back() {
        let mut measure = bounds(Basis::ForeignToDomestic, 300_000);
        let forever = Lease { not_before_ns: 0, deadline_ns: u64::MAX };
        let now = at(1_500 * SECOND);
        let end = |second| Kind::Shorten(jiff::Timestamp::from_second(second).unwrap());
        for (kind, share_ppm, deadline) in [
            (Kind::LowerShare(200_000), 100_000, 605),
            (Kind::LowerShare(500_000), 100_000, 605),
            (end(1_503), 100_000, 603),
            (end(1_900), 100_000, 603),
            (Kind::LowerShare(20_000), 10_000, 603),
        ] {
            measure.narrow(kind, "because");
            assert_eq!(measure.cap(), cap_policy(CAPACITY, share_ppm).ok(), "{kind}");
            assert_eq!(measure.lease(forever, &now).unwrap().deadline_ns, deadline * SECOND, "{kind}");
        }
        let live = facility_cap(std::slice::from_ref(&measure), &[forever]);
        assert_eq!(live, cap_policy(CAPACITY, 10_000).ok());
        let mut tiny = bounds(Basis::ForeignToDomestic, 300_000);
        tiny.capacity_bits_per_second = 1_000;
        assert!(matches!(tiny.lease(forever, &now), Err(Denied::Directed(_))), "no bucket, no lease");
        measure.narrow(Kind::Stop, "because");
        measure.narrow(Kind::LowerShare(1_000_000), "because");
        assert!(matches!(measure.lease(forever, &now), Err(Denied::Directed(reason)) if reason.contains("because")));
    }

    #[test]
    fn bounds_go_on_with_the_same_orders_or_more_and_no_others() {
        let measure = bounds(Basis::ForeignToDomestic, 300_000);
        let with = |orders: &[[u8; 32]]| Bounds { orders: orders.to_vec(), ..measure.clone() };
        assert!(measure.go_on_with(&measure) && measure.go_on_with(&with(&[[1; 32], [2; 32]])));
        assert!(!with(&[[1; 32], [2; 32]]).go_on_with(&measure), "an extension is taken back");
        assert!(!measure.go_on_with(&with(&[[2; 32]])) && !measure.go_on_with(&with(&[])));
        assert!(!measure.go_on_with(&Bounds { measure: "m-2".into(), ..measure.clone() }));
    }
}
