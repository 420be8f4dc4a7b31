//! How much of the facility's capacity was admitted, as the maximum over sliding windows.
//!
//! In: samples (time, admitted bytes so far). Out: the highest rate over any window of one second or longer that starts
//! and ends at a sample. A window of more than three seconds has a sample at least a second from both its ends (samples
//! are at most a second apart) and is no higher than the higher of the two windows it splits into, so the samples of the
//! last three seconds suffice. It reads no clock; bound: the samples it keeps.

use crate::limits::SHARE_WINDOW_NS_MIN;
use std::collections::VecDeque;

/// Samples kept at most, whatever their times are.
const SAMPLES_MAX: usize = 4_096;

/// Maximum of admitted bytes over sliding windows.
#[derive(Clone, Debug)]
pub struct SlidingShare {
    /// Shortest window.
    window_ns: u64,
    /// Samples that follow sooner are passed over.
    step_ns: u64,
    samples: VecDeque<(u64, u64)>,
    max: Rate,
    last: Rate,
}

/// Bytes in nanoseconds: kept as a fraction, so that the comparison is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Bytes admitted in the window.
    pub bytes: u64,
    /// Length of the window; 0 before the first window is full.
    pub window_ns: u64,
}

impl Rate {
    /// Whether this rate is above `other`; a rate without a window is the lowest.
    #[must_use]
    pub fn above(self, other: Self) -> bool {
        if self.window_ns == 0 || other.window_ns == 0 {
            return self.window_ns > other.window_ns;
        }
        u128::from(self.bytes) * u128::from(other.window_ns) > u128::from(other.bytes) * u128::from(self.window_ns)
    }

    /// The rate as a part of `capacity_bits_per_second`; 0 without a window or a capacity.
    #[must_use]
    pub fn ratio(self, capacity_bits_per_second: u64) -> f64 {
        if self.window_ns == 0 || capacity_bits_per_second == 0 {
            return 0.0;
        }
        let bits = as_float(self.bytes) * 8.0;
        bits / (as_float(self.window_ns) / 1e9) / as_float(capacity_bits_per_second)
    }
}

/// The shortest window there is: a second.
impl Default for SlidingShare {
    fn default() -> Self {
        Self::over(SHARE_WINDOW_NS_MIN, 0)
    }
}

/// The maxima over windows of a second, a minute and an hour, each of at least that length.
#[derive(Clone, Debug)]
pub struct Shares([SlidingShare; 3]);

impl Default for Shares {
    fn default() -> Self {
        let minute = 60 * SHARE_WINDOW_NS_MIN;
        let hour = 60 * minute;
        Self([SlidingShare::default(), SlidingShare::over(minute, minute / 60), SlidingShare::over(hour, hour / 60)])
    }
}

impl Shares {
    /// Takes a sample for each, as [`SlidingShare::sample`].
    pub fn sample(&mut self, time_ns: u64, admitted_bytes: u64) {
        self.0.iter_mut().for_each(|share| share.sample(time_ns, admitted_bytes));
    }

    /// Highest rates of any window of a second, a minute and an hour.
    #[must_use]
    pub fn max(&self) -> [Rate; 3] {
        self.0.each_ref().map(SlidingShare::max)
    }

    /// Highest rate of the windows of a second or more that ended at the last sample.
    #[must_use]
    pub fn last(&self) -> Rate {
        self.0[0].last()
    }

    /// Begins the maxima anew; windows that are open now count in them.
    pub fn restart_max(&mut self) {
        self.0.iter_mut().for_each(|share| share.max = Rate::default());
    }
}

impl SlidingShare {
    /// Over windows of at least `window_ns`, from samples of which those are passed over that follow within `step_ns`.
    #[must_use]
    pub fn over(window_ns: u64, step_ns: u64) -> Self {
        let (max, last) = (Rate::default(), Rate::default());
        Self { window_ns, step_ns, samples: VecDeque::new(), max, last }
    }

    /// Takes a sample: `admitted_bytes` counts from any beginning and never falls.
    ///
    /// A sample that is not later than the one before, or lower, begins anew (other maps, another counter).
    pub fn sample(&mut self, time_ns: u64, admitted_bytes: u64) {
        if self.samples.back().is_some_and(|(time, bytes)| time_ns <= *time || admitted_bytes < *bytes) {
            self.samples.clear();
        }
        if self.samples.back().is_some_and(|(time, _)| time_ns - time < self.step_ns) {
            return;
        }
        self.samples.push_back((time_ns, admitted_bytes));
        // The second sample is dropped first only if it is old enough to start every window the first could.
        while self.samples.len() > SAMPLES_MAX
            || self.samples.get(1).is_some_and(|(time, _)| time_ns.saturating_sub(*time) >= 3 * self.window_ns)
        {
            self.samples.pop_front();
        }
        self.last = Rate::default();
        for (time, bytes) in &self.samples {
            let window_ns = time_ns - time;
            if window_ns < self.window_ns {
                break;
            }
            let rate = Rate { bytes: admitted_bytes - bytes, window_ns };
            if rate.above(self.last) {
                self.last = rate;
            }
        }
        if self.last.above(self.max) {
            self.max = self.last;
        }
    }

    /// Highest rate of any window so far.
    #[must_use]
    pub fn max(&self) -> Rate {
        self.max
    }

    /// Highest rate of the windows that ended at the last sample.
    #[must_use]
    pub fn last(&self) -> Rate {
        self.last
    }
}

/// For display only: nothing is decided by it.
#[expect(clippy::cast_precision_loss, reason = "a ratio on a metrics page; 53 bits are enough")]
fn as_float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Every pair of samples at least a second apart, however far.
    fn naive(samples: &[(u64, u64)]) -> f64 {
        let mut best = 0.0_f64;
        for (i, (from, before)) in samples.iter().enumerate() {
            for (to, after) in &samples[i..] {
                if to - from >= SHARE_WINDOW_NS_MIN {
                    best = best.max((after - before) as f64 / (to - from) as f64);
                }
            }
        }
        best
    }

    fn slide(samples: &[(u64, u64)]) -> SlidingShare {
        let mut share = SlidingShare::default();
        for (time, bytes) in samples {
            share.sample(*time, *bytes);
        }
        share
    }

    #[test]
    fn a_steady_rate_is_its_own_maximum() {
        let samples: Vec<_> = (0..500_u64).map(|i| (i * SECOND / 50, i * 2_500)).collect();
        // 125,000 bytes a second = 1 Mbit/s of 10 Mbit/s.
        assert!((slide(&samples).max().ratio(10_000_000) - 0.1).abs() < 1e-9);
    }

    #[test]
    fn a_burst_across_two_clock_seconds_is_one_window() {
        let mut samples = vec![(0, 0), (SECOND / 2, 0), (SECOND, 60_000), (3 * SECOND / 2, 120_000)];
        samples.extend([(2 * SECOND, 120_000), (9 * SECOND, 120_000)]);
        assert_eq!(slide(&samples).max(), Rate { bytes: 120_000, window_ns: SECOND });
    }

    #[test]
    fn before_a_whole_second_there_is_nothing_to_say() {
        let share = slide(&[(0, 0), (SECOND - 1, 1_000_000)]);
        assert_eq!(share.max(), Rate::default());
        assert!(share.max().ratio(1_000) == 0.0);
    }

    #[test]
    fn other_maps_begin_anew_and_keep_the_maximum() {
        let mut share = slide(&[(0, 0), (SECOND, 500)]);
        share.sample(2 * SECOND, 10);
        share.sample(3 * SECOND, 20);
        assert_eq!(share.max(), Rate { bytes: 500, window_ns: SECOND });
        assert_eq!(share.last(), Rate { bytes: 10, window_ns: SECOND });
    }

    #[test]
    fn a_minute_and_an_hour_have_maxima_of_their_own() {
        let mut shares = Shares::default();
        // A burst of a second in every minute, half a minute of them, then rest.
        for tick in 0..3 * 3_600_u64 {
            shares.sample(tick * SECOND, tick.div_ceil(60).min(30) * 6_000);
        }
        let rates = shares.max().map(|rate| rate.bytes * SECOND / rate.window_ns.max(1));
        assert_eq!(rates, [6_000, 196, 50], "61 seconds hold two bursts, the hour thirty");
        shares.restart_max();
        assert_eq!(shares.max(), [Rate::default(); 3]);
    }

    #[test]
    fn memory_is_bounded_whatever_the_times_are() {
        let mut share = SlidingShare::default();
        for i in 0..20_000 {
            share.sample(i, i);
        }
        assert!(share.samples.len() <= SAMPLES_MAX);
    }

    proptest::proptest! {
        #[test]
        fn it_equals_the_naive_model(steps in proptest::collection::vec((1_u64..1_000, 0_u64..100_000), 2..150)) {
            let mut samples = vec![(0_u64, 0_u64)];
            for (elapsed_ms, bytes) in steps {
                let (time, total) = samples[samples.len() - 1];
                samples.push((time + elapsed_ms * 1_000_000, total + bytes));
            }
            let rate = slide(&samples).max();
            let found = if rate.window_ns == 0 { 0.0 } else { rate.bytes as f64 / rate.window_ns as f64 };
            let expected = naive(&samples);
            proptest::prop_assert!((found - expected).abs() <= 1e-12 * expected.max(1.0), "{found} {expected}");
        }
    }
}
