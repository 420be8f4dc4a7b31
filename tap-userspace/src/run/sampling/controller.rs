//! The controller of one measure's sample: which part of the flows fits under its share.
//!
//! In: what the kernel has counted, at a time that is an argument. Out: the threshold to write, with the reason, or that it
//! stays. Down at once, up slowly: sampled traffic above 95 % of the share lowers the threshold so that 90 % are left, in
//! the step after; after ten steps of calm below 80 % it rises by a quarter at most, never above the order's. A rise that
//! is followed by a fall doubles the calm that the next one takes. It reads no clock; bound: the floor and the ceiling.

use crate::limits::{
    SAMPLING_HIGH_PPM, SAMPLING_HOLD_STEPS_MAX, SAMPLING_HOLD_STEPS_MIN, SAMPLING_LOW_PPM, SAMPLING_REFUSED_PPM,
    SAMPLING_TARGET_PPM, SAMPLING_THRESHOLD_MIN,
};
use tap_common::limits::PPM;

/// Why a threshold changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Sampled traffic is more than the share.
    Load,
    /// It fits on average, but the cap refused some of it.
    Bursts,
    /// There is room again.
    Room,
}

impl Reason {
    /// As the record of changes and the log say it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Bursts => "bursts",
            Self::Room => "room",
        }
    }
}

/// What the kernel has counted of a measure since its maps were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Packets that the cap admitted.
    pub(crate) admitted_packets: u64,
    /// Their bytes on the line.
    pub(crate) admitted_bytes: u64,
    /// Packets in the sample that the cap refused.
    pub(crate) refused_packets: u64,
}

/// The controller of one measure.
#[derive(Clone, Debug)]
pub(crate) struct Controller {
    threshold: u64,
    ceiling: u64,
    last: Option<(u64, Totals)>,
    calm_steps: u32,
    hold_steps: u32,
    /// Steps since the last rise, as long as it is on trial.
    risen_steps: Option<u32>,
}

impl Controller {
    /// Begins at the ceiling: the order's threshold, 0 to 2^32.
    pub(crate) fn new(ceiling: u64) -> Self {
        Self {
            threshold: ceiling,
            ceiling,
            last: None,
            calm_steps: 0,
            hold_steps: SAMPLING_HOLD_STEPS_MIN,
            risen_steps: None,
        }
    }

    /// The threshold that should be in force.
    pub(crate) fn threshold(&self) -> u64 {
        self.threshold
    }

    /// The order's.
    pub(crate) fn ceiling(&self) -> u64 {
        self.ceiling
    }

    /// Looks at what came since the last step; a change is the new threshold and why. `share_bytes_per_second` is the lower
    /// of the measure's and the facility's share.
    pub(crate) fn step(&mut self, now_ns: u64, totals: Totals, share_bytes_per_second: u64) -> Option<(u64, Reason)> {
        let (then_ns, before) = self.last.replace((now_ns, totals))?;
        let elapsed_ns = now_ns.checked_sub(then_ns).filter(|elapsed| *elapsed > 0)?;
        // Counters that fell are other maps'.
        let admitted_packets = totals.admitted_packets.checked_sub(before.admitted_packets)?;
        let admitted_bytes = totals.admitted_bytes.checked_sub(before.admitted_bytes)?;
        let refused_packets = totals.refused_packets.checked_sub(before.refused_packets)?;
        let sampled_packets = admitted_packets.saturating_add(refused_packets);
        let share = u128::from(share_bytes_per_second) * u128::from(elapsed_ns) / 1_000_000_000;
        // What the sample holds, if the refused packets are as long as the admitted ones.
        let sampled = match admitted_packets {
            0 if refused_packets > 0 => share.saturating_mul(2),
            0 => 0,
            _ => u128::from(admitted_bytes) * u128::from(sampled_packets) / u128::from(admitted_packets),
        };
        let refused = u128::from(refused_packets) * u128::from(PPM);
        let reason = if sampled > part(share, SAMPLING_HIGH_PPM) {
            Reason::Load
        } else if refused > u128::from(sampled_packets) * u128::from(SAMPLING_REFUSED_PPM) {
            Reason::Bursts
        } else {
            return self.calm(sampled, share);
        };
        self.fall(reason, sampled, share)
    }

    fn fall(&mut self, reason: Reason, sampled: u128, share: u128) -> Option<(u64, Reason)> {
        self.calm_steps = 0;
        if self.risen_steps.take().is_some() {
            self.hold_steps = self.hold_steps.saturating_mul(2).min(SAMPLING_HOLD_STEPS_MAX);
        }
        let wanted = match reason {
            Reason::Bursts => u128::from(self.threshold) * 9 / 10,
            Reason::Load | Reason::Room => {
                u128::from(self.threshold) * part(share, SAMPLING_TARGET_PPM) / sampled.max(1)
            }
        };
        let floor = SAMPLING_THRESHOLD_MIN.min(self.ceiling);
        self.change(u64::try_from(wanted).unwrap_or(u64::MAX).clamp(floor, self.threshold.max(floor)), reason)
    }

    fn calm(&mut self, sampled: u128, share: u128) -> Option<(u64, Reason)> {
        self.calm_steps = self.calm_steps.saturating_add(1);
        self.risen_steps = self.risen_steps.map(|steps| steps.saturating_add(1));
        if self.risen_steps.is_some_and(|steps| steps > self.hold_steps) {
            // The last rise held.
            self.risen_steps = None;
            self.hold_steps = SAMPLING_HOLD_STEPS_MIN;
        }
        let room = sampled < part(share, SAMPLING_LOW_PPM) && self.threshold < self.ceiling;
        if !room || self.calm_steps < self.hold_steps {
            return None;
        }
        self.calm_steps = 0;
        let fits = u128::from(self.threshold) * part(share, SAMPLING_TARGET_PPM) / sampled.max(1);
        let quarter = self.threshold.saturating_add((self.threshold / 4).max(1));
        let wanted = u64::try_from(fits).unwrap_or(u64::MAX).min(quarter).min(self.ceiling);
        self.risen_steps = Some(0);
        self.change(wanted.max(self.threshold), Reason::Room)
    }

    fn change(&mut self, wanted: u64, reason: Reason) -> Option<(u64, Reason)> {
        if wanted == self.threshold {
            return None;
        }
        self.threshold = wanted;
        Some((wanted, reason))
    }

    /// The change could not be made: the threshold is still `old`.
    pub(crate) fn take_back(&mut self, old: u64) {
        self.threshold = old;
    }
}

fn part(whole: u128, ppm: u64) -> u128 {
    whole * u128::from(ppm) / u128::from(PPM)
}
