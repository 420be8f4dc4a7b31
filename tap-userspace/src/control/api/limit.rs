//! Limits: how often a client may call, and how often the same kind of refusal is told.

use crate::limits::{API_BURST_CALLS, API_CALL_INTERVAL, API_TELL_INTERVAL};
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A burst for each client, which grows again with time (the generic cell rate algorithm of ITU-T I.371).
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// When a client's burst is whole again.
    whole_at: HashMap<String, Instant>,
}

impl Rates {
    /// Whether the client may call now; if not, after how long.
    pub(super) fn take(&mut self, client: &str, now: Instant) -> Result<(), Duration> {
        let whole_at = self.whole_at.get(client).copied().unwrap_or(now).max(now);
        let wait = (whole_at - now + API_CALL_INTERVAL).saturating_sub(API_CALL_INTERVAL * API_BURST_CALLS);
        if wait.is_zero() {
            self.whole_at.insert(client.to_owned(), whole_at + API_CALL_INTERVAL);
            Ok(())
        } else {
            Err(wait)
        }
    }
}

/// Counts what happens too often to be told each time: the first at once, then sums.
#[derive(Debug)]
pub(super) struct Sums<K>(HashMap<K, Sum>);

#[derive(Debug)]
struct Sum {
    told: Instant,
    untold: u64,
}

impl<K: Clone + Eq + Hash> Sums<K> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Counts one; the number to tell now, if it is time.
    pub(super) fn count(&mut self, key: K, now: Instant) -> Option<u64> {
        let Some(sum) = self.0.get_mut(&key) else {
            self.0.insert(key, Sum { told: now, untold: 0 });
            return Some(1);
        };
        sum.untold += 1;
        sum.due(now)
    }

    /// What has become due since.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(K, u64)> {
        self.0.iter_mut().filter_map(|(key, sum)| Some((key.clone(), sum.due(now)?))).collect()
    }
}

impl Sum {
    fn due(&mut self, now: Instant) -> Option<u64> {
        if self.untold == 0 || now < self.told + API_TELL_INTERVAL {
            return None;
        }
        self.told = now;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_call_an_interval_and_each_client_by_itself() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        for _ in 0..API_BURST_CALLS {
            rates.take("a", start).unwrap();
        }
        let wait = rates.take("a", start).unwrap_err();
        assert_eq!(wait, API_CALL_INTERVAL);
        rates.take("b", start).unwrap();
        rates.take("a", start + wait).unwrap();
        rates.take("a", start + wait).unwrap_err();
        // A refused call costs nothing; after a long time there is one burst, not more.
        let later = start + Duration::from_secs(3_600);
        let taken = (0..10 * API_BURST_CALLS).filter(|_| rates.take("a", later).is_ok()).count();
        assert_eq!(taken, API_BURST_CALLS as usize);
    }

    #[test]
    fn the_first_is_told_at_once_and_none_is_forgotten() {
        let (mut sums, start) = (Sums::new(), Instant::now());
        assert_eq!(sums.count("rate", start), Some(1));
        assert_eq!(sums.count("rate", start), None);
        assert_eq!(sums.count("rate", start), None);
        assert_eq!(sums.count("expired", start), Some(1));
        assert!(sums.due(start + API_TELL_INTERVAL / 2).is_empty());
        assert_eq!(sums.due(start + API_TELL_INTERVAL), [("rate", 2)]);
        assert!(sums.due(start + 2 * API_TELL_INTERVAL).is_empty());
        assert_eq!(sums.count("rate", start + 3 * API_TELL_INTERVAL), Some(1));
    }
}
