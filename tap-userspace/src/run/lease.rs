//! The lease the kernel compares every packet's time with.
//!
//! In: a moment that the clock vouches for, and the window in which order and activation allow selection. Out: a
//! [`Lease`] in boot time of at most five seconds, or why there is none. It reads no clock.

use crate::clock::Now;
use tap_common::abi::policy::Lease;
use tap_common::limits::LEASE_NS_MAX;

/// The half-open window `not_before <= now < not_after` in which selection is allowed, nanoseconds since 1970 (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First nanosecond.
    pub not_before_ns: u64,
    /// First nanosecond after the last.
    pub not_after_ns: u64,
}

impl Window {
    /// The window of all of these instants: the latest beginning, the earliest end.
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        Self {
            not_before_ns: self.not_before_ns.max(other.not_before_ns),
            not_after_ns: self.not_after_ns.min(other.not_after_ns),
        }
    }
}

/// Why there is no lease now. Either way the kernel has none from this moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLease {
    /// Before the window.
    #[error("order, activation or pseudonym key epoch: not in force yet")]
    NotYet,
    /// At or after its end.
    #[error("order, activation or pseudonym key epoch: ended")]
    Ended,
}

/// The lease to give at `now`.
///
/// Both ends err to the strict side: the beginning is not before the window's, the end not after it, and never more
/// than [`LEASE_NS_MAX`] ahead.
///
/// # Errors
/// `now` is outside the window.
pub fn lease(now: &Now, window: &Window) -> Result<Lease, NoLease> {
    if now.unix_ns < window.not_before_ns {
        return Err(NoLease::NotYet);
    }
    let left_ns = window.not_after_ns.saturating_sub(now.unix_ns);
    if left_ns == 0 {
        return Err(NoLease::Ended);
    }
    let age_ns = now.unix_ns - window.not_before_ns;
    Ok(Lease {
        not_before_ns: now.boot_ns.saturating_sub(age_ns),
        deadline_ns: now.boot_ns.saturating_add(left_ns.min(LEASE_NS_MAX)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const WINDOW: Window = Window { not_before_ns: 1_000 * SECOND, not_after_ns: 2_000 * SECOND };

    fn at(unix_ns: u64) -> Now {
        let boot_ns = unix_ns - 900 * SECOND;
        Now { unix_ns, boot_ns, boot_to_unix_ns: (900 * SECOND).cast_signed(), forward_ns: None }
    }

    #[test]
    fn first_and_last_nanosecond() {
        assert_eq!(lease(&at(WINDOW.not_before_ns - 1), &WINDOW), Err(NoLease::NotYet));
        let first = lease(&at(WINDOW.not_before_ns), &WINDOW).unwrap();
        assert_eq!(first, Lease { not_before_ns: 100 * SECOND, deadline_ns: 105 * SECOND });
        let last = lease(&at(WINDOW.not_after_ns - 1), &WINDOW).unwrap();
        assert_eq!(last.deadline_ns, at(WINDOW.not_after_ns).boot_ns);
        assert_eq!(lease(&at(WINDOW.not_after_ns), &WINDOW), Err(NoLease::Ended));
        assert_eq!(lease(&at(WINDOW.not_after_ns + SECOND), &WINDOW), Err(NoLease::Ended));
    }

    #[test]
    fn an_empty_window_has_no_lease() {
        let empty = Window { not_before_ns: 5 * SECOND, not_after_ns: 5 * SECOND };
        for unix_ns in [900 * SECOND, 5_000 * SECOND] {
            lease(&at(unix_ns), &empty).unwrap_err();
        }
    }

    #[test]
    fn windows_intersect() {
        let other = Window { not_before_ns: 1_500 * SECOND, not_after_ns: 9_000 * SECOND };
        let both = Window { not_before_ns: 1_500 * SECOND, not_after_ns: 2_000 * SECOND };
        assert_eq!(WINDOW.intersect(other), both);
        assert_eq!(other.intersect(WINDOW), both);
    }

    proptest::proptest! {
        #[test]
        fn a_lease_never_leaves_its_window_or_five_seconds(
            unix_ns in 900_u64 * SECOND..3_000 * SECOND,
            begin in 900_u64 * SECOND..3_000 * SECOND,
            length in 0_u64..50 * SECOND,
        ) {
            let window = Window { not_before_ns: begin, not_after_ns: begin + length };
            let now = at(unix_ns);
            match lease(&now, &window) {
                Ok(lease) => {
                    let unix = |boot_ns: u64| boot_ns.saturating_add_signed(now.boot_to_unix_ns);
                    proptest::prop_assert!(unix(lease.not_before_ns) >= window.not_before_ns);
                    proptest::prop_assert!(unix(lease.deadline_ns) <= window.not_after_ns);
                    proptest::prop_assert!(lease.not_before_ns <= now.boot_ns && now.boot_ns < lease.deadline_ns);
                    proptest::prop_assert!(lease.deadline_ns - now.boot_ns <= LEASE_NS_MAX);
                }
                Err(_) => proptest::prop_assert!(unix_ns < begin || unix_ns >= begin + length),
            }
        }
    }
}
