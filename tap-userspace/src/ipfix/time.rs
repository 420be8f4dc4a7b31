//! `dateTimeNanoseconds` (RFC 7011, section 6.1.9): an NTP timestamp. In: UTC nanoseconds. Out: the same, unchanged.

use crate::path::UnixNs;

/// Seconds from 1900, where NTP begins, to 1970.
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;
/// Seconds in an NTP era; the second one begins in 2036.
const NTP_ERA_SECONDS: u64 = 1 << 32;
const NANOSECONDS: u64 = 1_000_000_000;

/// NTP timestamp of `time`: seconds since 1900 modulo 2^32 above 32 bits of binary fraction.
///
/// The fraction is rounded up: a unit is 0.23 ns, so that rounding down on the way back gives the same nanosecond.
#[must_use]
pub fn to_ntp(time: UnixNs) -> u64 {
    let seconds = (time.0 / NANOSECONDS + NTP_TO_UNIX_SECONDS) % NTP_ERA_SECONDS;
    // Below 10^9 * 2^32 < 2^62; the quotient is below 2^32 because the remainder is below 10^9 and 2^32 > 10^9.
    let fraction = ((time.0 % NANOSECONDS) << 32).div_ceil(NANOSECONDS);
    (seconds << 32) | fraction
}

/// The time that an NTP timestamp says. Seconds with the highest bit clear belong to the era from 2036 on (RFC 2030,
/// section 3).
#[must_use]
pub fn from_ntp(ntp: u64) -> UnixNs {
    let seconds = ntp >> 32;
    let era = if seconds < NTP_ERA_SECONDS / 2 { NTP_ERA_SECONDS } else { 0 };
    let unix_seconds = (seconds + era).saturating_sub(NTP_TO_UNIX_SECONDS);
    // Both factors are below 2^32 and 2^30.
    let nanoseconds = ((ntp & 0xffff_ffff) * NANOSECONDS) >> 32;
    UnixNs(unix_seconds * NANOSECONDS + nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times() {
        assert_eq!(to_ntp(UnixNs(0)), 2_208_988_800 << 32);
        // Half a second is the highest bit of the fraction.
        assert_eq!(to_ntp(UnixNs(500_000_000)), (2_208_988_800 << 32) | 0x8000_0000);
        // 2036-02-07T06:28:16Z: the era changes.
        assert_eq!(to_ntp(UnixNs(2_085_978_496 * NANOSECONDS)), 0);
        assert_eq!(from_ntp(0), UnixNs(2_085_978_496 * NANOSECONDS));
    }

    proptest! {
        #[test]
        fn every_nanosecond_comes_back(time in 0..4_000_000_000_000_000_000u64) {
            prop_assert_eq!(from_ntp(to_ntp(UnixNs(time))), UnixNs(time));
        }

        #[test]
        fn any_timestamp_is_some_time(ntp: u64) {
            let _time = from_ntp(ntp);
        }
    }
}
