//! Pauses between connections: they double, and differ between hosts, so that a receiving facility that comes back is
//! not met by all of them at once.

use std::time::Duration;

use crate::limits::{RECONNECT_MAX, RECONNECT_MIN};

/// The pause after `failures` sessions without progress.
pub(crate) fn pause(failures: u32) -> Duration {
    let mut random = [0; 4];
    // Without random octets the pause is the shortest of its range: harmless for one host.
    if getrandom::fill(&mut random).is_err() {
        random = [0; 4];
    }
    pause_with(failures, u32::from_ne_bytes(random))
}

/// Between half and the whole of `RECONNECT_MIN * 2^failures`, at most [`RECONNECT_MAX`].
fn pause_with(failures: u32, random: u32) -> Duration {
    let whole = RECONNECT_MIN.saturating_mul(1 << failures.min(16)).min(RECONNECT_MAX);
    let half = whole / 2;
    half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_differ() {
        assert_eq!(pause_with(0, 0), RECONNECT_MIN / 2);
        assert_eq!(pause_with(0, u32::MAX), RECONNECT_MIN);
        assert_eq!(pause_with(3, u32::MAX), RECONNECT_MIN * 8);
        assert_eq!(pause_with(u32::MAX, u32::MAX), RECONNECT_MAX);
        assert!(pause_with(4, 1 << 31) > pause_with(4, 0));
    }
}
