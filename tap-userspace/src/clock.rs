//! The agent's clocks: UTC for windows and records, boot time for the kernel's lease.
//!
//! In: readings of both clocks and of the kernel's synchronisation state ([`read`]). Out: a [`Now`] that windows may be
//! judged by, or the reason why the clock is in doubt ([`Watch::judge`]). The judgement takes the reading as an argument
//! and knows no clock. Bound: a clock that was set back is refused until it has passed every time it ever showed, also
//! after a restart, so that no window is lived through twice.

use crate::limits::{CLOCK_READ_ATTEMPTS_MAX, CLOCK_READ_NS_MAX, CLOCK_STEP_NS};
use nix::time::{ClockId, clock_gettime};

/// Both clocks at one moment, and what the kernel says about the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// `CLOCK_REALTIME`, nanoseconds since 1970-01-01T00:00:00Z.
    pub unix_ns: u64,
    /// `CLOCK_BOOTTIME`, nanoseconds; never goes back, runs during suspend.
    pub boot_ns: u64,
    /// The kernel does not report `STA_UNSYNC` (adjtimex(2)).
    pub synchronised: bool,
}

/// A moment that windows may be judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// UTC, nanoseconds since 1970-01-01T00:00:00Z.
    pub unix_ns: u64,
    /// The kernel's clock at the same moment.
    pub boot_ns: u64,
    /// What turns a record's time into UTC: wall minus boot time, the same value as long as the clock is not stepped.
    pub boot_to_unix_ns: i64,
    /// Nanoseconds by which the wall clock was set forward since the last reading, if it was.
    pub forward_ns: Option<u64>,
}

/// Why the clock is in doubt. The lease is not renewed then, and the kernel stops by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// The wall clock shows a time before one that was seen.
    #[error(
        "the clock was set back: it shows a time {back_ns} ns before one already seen; the tap stays stopped until the \
         clock has passed that time (correct the clock; a wrong time in the past cannot be forgotten)"
    )]
    SetBack {
        /// Nanoseconds until the clock is where it was.
        back_ns: u64,
    },
    /// The kernel reports `STA_UNSYNC`.
    #[error(
        "the kernel reports that the clock is not synchronised (STA_UNSYNC); start chrony, ntpd or systemd-timesyncd, \
         or see [clock] synchronised in the configuration"
    )]
    Unsynchronised,
}

/// What was seen of the clock so far.
#[derive(Clone, Debug)]
pub struct Watch {
    required: bool,
    highest_unix_ns: u64,
    /// Wall minus boot time since the last step; slewing leaves it alone.
    reference_ns: Option<i64>,
}

impl Watch {
    /// `required`: an unsynchronised clock is refused. `last_unix_ns`: the last wall time before the restart, 0 without.
    #[must_use]
    pub fn new(required: bool, last_unix_ns: u64) -> Self {
        Self { required, highest_unix_ns: last_unix_ns, reference_ns: None }
    }

    /// Highest wall time that was ever accepted or reached, to be kept over restarts.
    #[must_use]
    pub fn highest_unix_ns(&self) -> u64 {
        self.highest_unix_ns
    }

    /// Judges a reading.
    ///
    /// # Errors
    /// The clock was set back, or is not synchronised although it must be.
    pub fn judge(&mut self, reading: &Reading) -> Result<Now, ClockError> {
        let offset = difference(reading.unix_ns, reading.boot_ns);
        let mut forward_ns = None;
        if let Some(reference) = self.reference_ns {
            let change = offset.saturating_sub(reference);
            if change < 0 && change.unsigned_abs() > CLOCK_STEP_NS {
                // Where the clock would be had it not been set back: everything up to there has been lived through.
                let reached = reading.boot_ns.saturating_add_signed(reference);
                self.highest_unix_ns = self.highest_unix_ns.max(reached);
                self.reference_ns = Some(offset);
            } else if change > 0 && change.unsigned_abs() > CLOCK_STEP_NS {
                forward_ns = Some(change.unsigned_abs());
                self.reference_ns = Some(offset);
            }
        } else {
            self.reference_ns = Some(offset);
        }
        if let Some(back_ns) = self.highest_unix_ns.checked_sub(reading.unix_ns).filter(|back| *back > 0) {
            return Err(ClockError::SetBack { back_ns });
        }
        self.highest_unix_ns = reading.unix_ns;
        if self.required && !reading.synchronised {
            return Err(ClockError::Unsynchronised);
        }
        Ok(Now {
            unix_ns: reading.unix_ns,
            boot_ns: reading.boot_ns,
            boot_to_unix_ns: self.reference_ns.unwrap_or(offset),
            forward_ns,
        })
    }
}

/// Reads both clocks, close enough together that the difference is not mistaken for a step.
///
/// # Errors
/// A clock cannot be read, or the machine is too busy to read two clocks within a millisecond.
pub fn read() -> std::io::Result<Reading> {
    let synchronised = synchronised()?;
    for _ in 0..CLOCK_READ_ATTEMPTS_MAX {
        let before_ns = nanoseconds(ClockId::CLOCK_BOOTTIME)?;
        let unix_ns = nanoseconds(ClockId::CLOCK_REALTIME)?;
        let after_ns = nanoseconds(ClockId::CLOCK_BOOTTIME)?;
        let width_ns = after_ns.saturating_sub(before_ns);
        if width_ns <= CLOCK_READ_NS_MAX {
            return Ok(Reading { unix_ns, boot_ns: before_ns + width_ns / 2, synchronised });
        }
    }
    Err(std::io::Error::other("the two clocks could not be read within a millisecond; the machine is overloaded"))
}

/// The kernel's clock now, in nanoseconds.
///
/// # Errors
/// The clock cannot be read.
pub fn boot_ns() -> std::io::Result<u64> {
    nanoseconds(ClockId::CLOCK_BOOTTIME)
}

fn nanoseconds(clock: ClockId) -> std::io::Result<u64> {
    let time = clock_gettime(clock)?;
    let seconds = u64::try_from(time.tv_sec()).map_err(std::io::Error::other)?;
    let nanoseconds = u64::try_from(time.tv_nsec()).map_err(std::io::Error::other)?;
    seconds
        .checked_mul(1_000_000_000)
        .and_then(|ns| ns.checked_add(nanoseconds))
        .ok_or_else(|| std::io::Error::other("the clock is beyond the year 2554"))
}

fn synchronised() -> std::io::Result<bool> {
    // SAFETY: `timex` is plain old data; all-zero asks the kernel to change nothing (modes = 0).
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live, exclusively borrowed `timex`.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

fn difference(unix_ns: u64, boot_ns: u64) -> i64 {
    i64::try_from(i128::from(unix_ns) - i128::from(boot_ns)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const START: u64 = 1_800_000_000 * SECOND;

    fn at(boot_s: u64, wall_offset_ns: i64) -> Reading {
        let boot_ns = boot_s * SECOND;
        Reading { unix_ns: (START + boot_ns).saturating_add_signed(wall_offset_ns), boot_ns, synchronised: true }
    }

    #[test]
    fn a_steady_clock_is_accepted_second_after_second() {
        let mut watch = Watch::new(true, 0);
        for second in 1..100_000 {
            // The jitter of reading two clocks.
            let jitter = i64::try_from(second % 7).unwrap() * 100_000;
            let now = watch.judge(&at(second, jitter)).unwrap();
            assert_eq!(now.forward_ns, None);
            assert_eq!(now.boot_to_unix_ns, START.cast_signed() + 100_000, "records keep one offset");
        }
    }

    #[test]
    fn a_step_back_is_refused_until_the_clock_is_where_it_was() {
        let mut watch = Watch::new(true, 0);
        watch.judge(&at(100, 0)).unwrap();
        let hour = 3_600 * SECOND.cast_signed();
        for second in 101..3_701 {
            let refused = watch.judge(&at(second, -hour)).unwrap_err();
            let ClockError::SetBack { back_ns } = refused else { panic!("{refused}") };
            assert_eq!(back_ns, (3_701 - second) * SECOND);
        }
        watch.judge(&at(3_701, -hour)).unwrap();
        watch.judge(&at(3_702, -hour)).unwrap();
    }

    #[test]
    fn a_step_back_shorter_than_the_renewal_is_noticed_too() {
        let mut watch = Watch::new(true, 0);
        watch.judge(&at(10, 0)).unwrap();
        // The wall clock still shows a later time than at the last reading; all the same it was set back.
        let refused = watch.judge(&at(11, -200_000_000)).unwrap_err();
        assert_eq!(refused, ClockError::SetBack { back_ns: 200_000_000 });
        watch.judge(&at(12, -200_000_000)).unwrap();
    }

    #[test]
    fn many_small_steps_back_add_up() {
        let mut watch = Watch::new(true, 0);
        watch.judge(&at(1, 0)).unwrap();
        let step = 2_000_000;
        let refused = (2..10).find(|second| watch.judge(&at(*second, -step * (second.cast_signed() - 1))).is_err());
        assert_eq!(refused, Some(4), "6 ms in all are over the 5 ms that reading may cost");
    }

    #[test]
    fn correcting_a_step_back_ends_the_refusal() {
        let mut watch = Watch::new(true, 0);
        watch.judge(&at(100, 0)).unwrap();
        watch.judge(&at(101, -90 * SECOND.cast_signed())).unwrap_err();
        watch.judge(&at(102, 0)).unwrap();
    }

    #[test]
    fn a_step_forward_is_taken_and_told() {
        let mut watch = Watch::new(true, 0);
        watch.judge(&at(100, 0)).unwrap();
        let now = watch.judge(&at(101, 7 * SECOND.cast_signed())).unwrap();
        assert_eq!(now.forward_ns, Some(7 * SECOND));
        assert_eq!(watch.judge(&at(102, 7 * SECOND.cast_signed())).unwrap().forward_ns, None);
    }

    #[test]
    fn a_time_before_the_last_run_is_refused_after_a_restart() {
        let last = START + 5_000 * SECOND;
        let mut watch = Watch::new(true, last);
        assert_eq!(watch.judge(&at(4_000, 0)), Err(ClockError::SetBack { back_ns: 1_000 * SECOND }));
        assert_eq!(watch.highest_unix_ns(), last);
        watch.judge(&at(5_000, 0)).unwrap();
    }

    #[test]
    fn an_unsynchronised_clock_is_refused_only_where_it_is_required() {
        let reading = Reading { synchronised: false, ..at(1, 0) };
        assert_eq!(Watch::new(true, 0).judge(&reading), Err(ClockError::Unsynchronised));
        Watch::new(false, 0).judge(&reading).unwrap();
    }

    #[test]
    fn the_machines_clocks_can_be_read() {
        let first = read().unwrap();
        let second = read().unwrap();
        assert!(second.boot_ns >= first.boot_ns);
        assert!(first.unix_ns > 1_700_000_000 * SECOND);
        assert!(boot_ns().unwrap() >= second.boot_ns - CLOCK_READ_NS_MAX);
    }

    proptest::proptest! {
        #[test]
        fn what_is_accepted_never_goes_back(steps in proptest::collection::vec((1_u64..3_000, -5_000_000_000_i64..5_000_000_000), 1..60)) {
            let mut watch = Watch::new(false, 0);
            let (mut boot_ms, mut offset, mut last) = (1_000_000_u64, 0_i64, 0);
            for (elapsed_ms, step) in steps {
                boot_ms += elapsed_ms;
                offset += if step.unsigned_abs() < 2_500_000_000 { 0 } else { step };
                let boot_ns = boot_ms * 1_000_000;
                let reading = Reading { unix_ns: (START + boot_ns).saturating_add_signed(offset), boot_ns, synchronised: true };
                if let Ok(now) = watch.judge(&reading) {
                    proptest::prop_assert!(now.unix_ns > last);
                    last = now.unix_ns;
                }
                proptest::prop_assert!(watch.highest_unix_ns() >= last);
            }
        }
    }
}
