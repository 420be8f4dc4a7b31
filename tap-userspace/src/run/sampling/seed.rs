//! When the flow hash takes a new seed: at stated times of day in Japan.
//!
//! In: two moments. Out: whether a stated time lies between them. It reads no clock; Japan's time has had no summer time
//! since 1951.

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::{self, TimeZone};

/// Whether one of `times` came after `since` and not after `now`.
pub(crate) fn is_due(times: &[Time], since: Timestamp, now: Timestamp) -> bool {
    let zone = TimeZone::fixed(tz::offset(9));
    let mut day = since.to_zoned(zone.clone()).date();
    let last = now.to_zoned(zone.clone()).date();
    // A day later at the latest every time has come.
    for _ in 0..2 {
        for time in times {
            let Ok(moment) = day.to_datetime(*time).to_zoned(zone.clone()) else { continue };
            if moment.timestamp() > since && moment.timestamp() <= now {
                return true;
            }
        }
        match day.tomorrow() {
            Ok(next) if day < last => day = next,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(times: &[&str], since: &str, now: &str) -> bool {
        let times: Vec<Time> = times.iter().map(|time| time.parse().unwrap()).collect();
        is_due(&times, since.parse().unwrap(), now.parse().unwrap())
    }

    #[test]
    fn midnight_is_japans_and_comes_once() {
        let midnight = ["00:00"];
        assert!(due(&midnight, "2027-12-01T14:59:59.5Z", "2027-12-01T15:00:00Z"));
        assert!(due(&midnight, "2027-12-01T14:59:59.5Z", "2027-12-01T15:00:00.7Z"));
        assert!(!due(&midnight, "2027-12-01T15:00:00Z", "2027-12-01T15:00:01Z"), "it was done");
        assert!(!due(&midnight, "2027-12-01T14:00:00Z", "2027-12-01T14:59:59.9Z"));
        assert!(!due(&midnight, "2027-12-01T15:00:01Z", "2027-12-01T23:59:59Z"), "not at midnight UTC either");
        assert!(due(&midnight, "2027-11-20T00:00:00Z", "2027-12-01T00:00:00Z"), "after days of sleep");
        assert!(!due(&[], "2027-11-20T00:00:00Z", "2027-12-01T00:00:00Z"));
    }

    #[test]
    fn several_times_and_seconds() {
        let times = ["06:00", "18:30:15"];
        assert!(due(&times, "2027-12-01T09:30:14Z", "2027-12-01T09:30:15Z"));
        assert!(due(&times, "2027-11-30T20:59:59Z", "2027-11-30T21:00:00Z"));
        assert!(!due(&times, "2027-12-01T09:30:15Z", "2027-12-01T20:59:59Z"));
        assert!(due(&times, "2027-12-01T09:30:15Z", "2027-12-01T21:00:00Z"), "the next day's first");
    }
}
