//! The agent's clocks: UTC for windows and records, boot time for the kernel's lease.
//!
//! In: readings of both clocks and of the kernel's synchronisation state ([`read`]). Out: a [`Now`] that windows may be
//! judged by, or the reason why the clock is in doubt ([`Watch::judge`]). The judgement takes the reading as an argument
//! and knows no clock. Bound: a clock that was set back is refused until it has passed every time it ever showed, also
//! after a restart, so that no window is lived through twice; one that was set forward or back further than a correction goes
//! is refused until it is put right or the agent is started anew, so that no window is entered early or left late.

use crate::limits::{
    CLOCK_BACK_NS_MAX, CLOCK_ERROR_NS_MAX, CLOCK_FORWARD_NS_MAX, CLOCK_FORWARD_PERIOD_NS, CLOCK_READ_ATTEMPTS_MAX,
    CLOCK_READ_NS_MAX, CLOCK_STEP_NS,
};
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
    /// The error that the kernel takes for possible (`maxerror`), nanoseconds.
    pub error_ns: u64,
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
    /// The wall clock shows a time before one that was seen, or was left behind where it was.
    #[error(
        "the clock was set back: it is {back_ns} ns behind; the tap stays stopped until the clock is put right, and has passed \
         every time that it showed; if it is right now, start the agent anew"
    )]
    SetBack {
        /// Nanoseconds that it is behind.
        back_ns: u64,
    },
    /// The wall clock shows a time before one that was kept on disk by an agent before this one.
    #[error(
        "the clock shows a time {back_ns} ns before the last one kept on disk; the tap does not select until the clock has \
         passed that time (correct the clock)"
    )]
    BeforeKept {
        /// Nanoseconds until the clock is where it was.
        back_ns: u64,
    },
    /// The wall clock was set forward further than a correction goes.
    #[error(
        "the clock was set forward by {forward_ns} ns within an hour, more than a correction takes; set it right, or, if it \
         is right now, start the agent anew"
    )]
    SetForward {
        /// Nanoseconds by which it is ahead of where it would be.
        forward_ns: u64,
    },
    /// The kernel takes a larger error for possible than windows allow.
    #[error(
        "the clock may be wrong by {error_ns} ns (maxerror), more than windows allow; see to the time server, or see \
         [clock] synchronised in the configuration"
    )]
    Inexact {
        /// Nanoseconds.
        error_ns: u64,
    },
    /// The kernel reports `STA_UNSYNC`.
    #[error(
        "the kernel reports that the clock is not synchronised (STA_UNSYNC); start chrony, ntpd or systemd-timesyncd, \
         or see [clock] synchronised in the configuration"
    )]
    Unsynchronised,
}

/// Every reason for doubt as status and metrics name it.
pub const DOUBTS: [&str; 6] = ["set-back", "before-kept", "set-forward", "inexact", "unsynchronised", UNREADABLE];
/// The reason when the clocks cannot be read at all.
pub const UNREADABLE: &str = "unreadable";

impl ClockError {
    /// The reason's name, one of [`DOUBTS`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::SetBack { .. } => "set-back",
            Self::BeforeKept { .. } => "before-kept",
            Self::SetForward { .. } => "set-forward",
            Self::Inexact { .. } => "inexact",
            Self::Unsynchronised => "unsynchronised",
        }
    }
}

/// What was seen of the clock so far.
#[derive(Clone, Debug)]
pub struct Watch {
    required: bool,
    kept_unix_ns: u64,
    highest_unix_ns: u64,
    /// Wall minus boot time, and boot time, at a trusted reading of the last hour: steps forward are summed from there.
    anchor: Option<(i64, u64)>,
    /// The lowest of the anchors' offsets: a clock that is left below it was set back and not put right.
    lowest_ns: Option<i64>,
    /// Wall minus boot time since the last step; slewing leaves it alone.
    reference_ns: Option<i64>,
    /// Wall minus boot time at the last reading.
    previous_ns: Option<i64>,
}

impl Watch {
    /// `required`: an unsynchronised clock is refused. `last_unix_ns`: the last wall time before the restart, 0 without.
    #[must_use]
    pub fn new(required: bool, last_unix_ns: u64) -> Self {
        Self {
            required,
            kept_unix_ns: last_unix_ns,
            highest_unix_ns: last_unix_ns,
            anchor: None,
            lowest_ns: None,
            reference_ns: None,
            previous_ns: None,
        }
    }

    /// Highest wall time that was ever accepted or reached, to be kept over restarts.
    #[must_use]
    pub fn highest_unix_ns(&self) -> u64 {
        self.highest_unix_ns
    }

    /// Judges a reading.
    ///
    /// # Errors
    /// The clock was set back, was set forward too far, or is not synchronised or exact although it must be.
    pub fn judge(&mut self, reading: &Reading) -> Result<Now, ClockError> {
        let offset = difference(reading.unix_ns, reading.boot_ns);
        let ahead = self.anchor.map_or(0, |(anchor, _)| offset.saturating_sub(anchor));
        if ahead > 0 && ahead.unsigned_abs() > CLOCK_FORWARD_NS_MAX {
            // Nothing of this time is kept: were it, the corrected clock would be refused as set back.
            return Err(ClockError::SetForward { forward_ns: ahead.unsigned_abs() });
        }
        let mut forward_ns = None;
        if let Some(reference) = self.reference_ns {
            let change = offset.saturating_sub(reference);
            // The reference stays where it is while the clock creeps: a step back counts from where the clock was.
            let from = self.previous_ns.map_or(reference, |previous| previous.max(reference));
            let back = from.saturating_sub(offset);
            if back > 0 && back.unsigned_abs() > CLOCK_STEP_NS {
                // Where the clock would be had it not been set back: everything up to there has been lived through.
                let reached = reading.boot_ns.saturating_add_signed(from);
                self.highest_unix_ns = self.highest_unix_ns.max(reached);
                self.reference_ns = Some(offset);
            } else if change > 0 && change.unsigned_abs() > CLOCK_STEP_NS {
                forward_ns = Some(change.unsigned_abs());
                self.reference_ns = Some(offset);
            }
        } else {
            self.reference_ns = Some(offset);
        }
        self.previous_ns = Some(offset);
        let behind_ns = self.lowest_ns.map_or(0, |lowest| u64::try_from(lowest.saturating_sub(offset)).unwrap_or(0));
        let left_ns = Some(behind_ns).filter(|behind| *behind > CLOCK_BACK_NS_MAX);
        let before_ns = self.highest_unix_ns.checked_sub(reading.unix_ns).filter(|back| *back > 0);
        if let Some(back_ns) = before_ns.max(left_ns) {
            let kept = reading.unix_ns < self.kept_unix_ns;
            return Err(if kept { ClockError::BeforeKept { back_ns } } else { ClockError::SetBack { back_ns } });
        }
        self.highest_unix_ns = reading.unix_ns;
        if self.required && !reading.synchronised {
            return Err(ClockError::Unsynchronised);
        }
        if self.required && reading.error_ns > CLOCK_ERROR_NS_MAX {
            return Err(ClockError::Inexact { error_ns: reading.error_ns });
        }
        if self.anchor.is_none_or(|(_, boot_ns)| reading.boot_ns.saturating_sub(boot_ns) >= CLOCK_FORWARD_PERIOD_NS) {
            self.anchor = Some((offset, reading.boot_ns));
            self.lowest_ns = Some(self.lowest_ns.map_or(offset, |lowest| lowest.min(offset)));
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
    let (synchronised, error_ns) = synchronised()?;
    for _ in 0..CLOCK_READ_ATTEMPTS_MAX {
        let before_ns = nanoseconds(ClockId::CLOCK_BOOTTIME)?;
        let unix_ns = nanoseconds(ClockId::CLOCK_REALTIME)?;
        let after_ns = nanoseconds(ClockId::CLOCK_BOOTTIME)?;
        let width_ns = after_ns.saturating_sub(before_ns);
        if width_ns <= CLOCK_READ_NS_MAX {
            return Ok(Reading { unix_ns, boot_ns: before_ns + width_ns / 2, synchronised, error_ns });
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

/// Whether the kernel's clock is synchronised, and the error it takes for possible.
fn synchronised() -> std::io::Result<(bool, u64)> {
    // SAFETY: `timex` is plain old data; all-zero asks the kernel to change nothing (modes = 0).
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live, exclusively borrowed `timex`.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let error_ns = u64::try_from(state.maxerror).unwrap_or(u64::MAX).saturating_mul(1_000);
    Ok((result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0, error_ns))
}

fn difference(unix_ns: u64, boot_ns: u64) -> i64 {
    i64::try_from(i128::from(unix_ns) - i128::from(boot_ns)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
