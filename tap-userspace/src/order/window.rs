//! Calendar months in Japan Standard Time, as the Act counts periods: half-open, the same clock time N months later,
//! the day clamped to the month's last (31 August + 6 months = the end of February).

use jiff::tz::{TimeZone, offset};
use jiff::{Span, Timestamp};

/// Japan Standard Time is UTC+9 without exception since 1951: no time zone database is asked.
const JST_HOURS: i8 = 9;

/// The moment `months` calendar months after `start`, or nothing if it is beyond the calendar.
#[must_use]
pub fn months_later(start: Timestamp, months: i32) -> Option<Timestamp> {
    let start = start.to_zoned(jst());
    let span = Span::new().try_months(months).ok()?;
    Some(start.checked_add(span).ok()?.timestamp())
}

/// Japan Standard Time.
#[must_use]
pub fn jst() -> TimeZone {
    TimeZone::fixed(offset(JST_HOURS))
}

/// A moment as people in Japan read it: `2026-12-01T00:00:00+09:00`.
#[must_use]
pub fn in_jst(moment: Timestamp) -> String {
    moment.display_with_offset(offset(JST_HOURS)).to_string()
}
