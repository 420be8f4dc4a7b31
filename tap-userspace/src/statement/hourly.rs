//! The hour that is running: what is sampled becomes the statements of each chain.
//!
//! In: samples, counts and the time, all as arguments. Out: at each whole hour, and at the agent's end, a signed statement
//! of every chain. It reads no clock and no kernel. A statement that cannot be written is tried again, and none is written
//! twice. Bound: one statement a chain and hour.

use super::{Counts, Most, Statement, Store, StoreError, VERSION};
use crate::keys::SecretKey;
use crate::limits::{STATEMENT_PERIOD_NS, STATEMENT_RETRY_NS};
use crate::metrics::share::{Rate, Shares};
use jiff::Timestamp;
use std::path::Path;

/// What is the same in all statements.
#[derive(Clone, Debug)]
pub struct Tap {
    /// Facility.
    pub facility: String,
    /// Its capacity.
    pub capacity_bits_per_second: u64,
    /// Instance of the kernel's maps.
    pub map_instance: String,
}

/// What was written: a chain's name, the first instant of the statement, its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Chain.
    pub of: String,
    /// First instant that it speaks of.
    pub from: Timestamp,
    /// SHA-256 of its file.
    pub sha256: String,
}

struct Chain {
    of: String,
    store: Store,
    shares: Shares,
    limit_ppm: u32,
    /// It has its statement of the hour that ended; another chain has not.
    written: bool,
}

/// The statements of the running hour.
pub struct Hourly {
    key: SecretKey,
    tap: Tap,
    chains: Vec<Chain>,
    from: Timestamp,
    retry_at_ns: u64,
}

impl Hourly {
    /// Opens a chain for each name.
    ///
    /// # Errors
    /// A directory or the last statement in it.
    pub fn open(
        directory: &Path,
        names: impl IntoIterator<Item = String>,
        tap: Tap,
        key: SecretKey,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let mut chains = Vec::new();
        for of in names {
            let store = Store::open(directory, &of, &key.public())?;
            chains.push(Chain { of, store, shares: Shares::default(), limit_ppm: 0, written: false });
        }
        Ok(Self { key, tap, chains, from: now, retry_at_ns: 0 })
    }

    /// Takes what was admitted so far and the limit in force, of each chain.
    pub fn sample(&mut self, boot_ns: u64, samples: impl IntoIterator<Item = (u64, u32)>) {
        for (chain, (bytes, limit_ppm)) in self.chains.iter_mut().zip(samples) {
            chain.shares.sample(boot_ns, bytes);
            chain.limit_ppm = chain.limit_ppm.max(limit_ppm);
        }
    }

    /// Whether an hour has ended and its statements are due.
    #[must_use]
    pub fn due(&self, boot_ns: u64, now: Timestamp) -> bool {
        hour(now) != hour(self.from) && boot_ns >= self.retry_at_ns
    }

    /// Writes a statement of each chain, from the totals of each. What could not be written is due again a little later.
    ///
    /// # Errors
    /// Beside what was written: the first that could not be.
    pub fn write(
        &mut self,
        boot_ns: u64,
        now: Timestamp,
        totals: impl IntoIterator<Item = Counts>,
        last: bool,
    ) -> (Vec<Written>, Result<(), StoreError>) {
        self.retry_at_ns = boot_ns.saturating_add(STATEMENT_RETRY_NS);
        let (mut written, mut outcome) = (Vec::new(), Ok(()));
        for (chain, totals) in self.chains.iter_mut().zip(totals).filter(|(chain, _)| !chain.written) {
            let statement = statement(chain, &self.tap, (self.from, now), totals, last);
            match chain.store.append(statement, &self.key) {
                Ok(sha256) => {
                    chain.shares.restart_max();
                    (chain.limit_ppm, chain.written) = (0, true);
                    written.push(Written { of: chain.of.clone(), from: self.from, sha256 });
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        if outcome.is_ok() {
            self.chains.iter_mut().for_each(|chain| chain.written = false);
            (self.from, self.retry_at_ns) = (now, 0);
        }
        (written, outcome)
    }
}

fn statement(chain: &Chain, tap: &Tap, (from, to): (Timestamp, Timestamp), totals: Counts, last: bool) -> Statement {
    let before = chain.store.last().filter(|before| before.map_instance == tap.map_instance);
    let [second, minute, hour] = chain.shares.max().map(most);
    Statement {
        version: VERSION,
        of: chain.of.clone(),
        number: 0,
        previous_sha256: String::new(),
        facility: tap.facility.clone(),
        map_instance: tap.map_instance.clone(),
        from,
        to,
        last,
        capacity_bits_per_second: tap.capacity_bits_per_second,
        limit_ppm: chain.limit_ppm,
        most_in_a_second: second,
        most_in_a_minute: minute,
        most_in_an_hour: hour,
        counted: totals.since(&before.map(|before| before.totals).unwrap_or_default()),
        totals,
    }
}

fn hour(time: Timestamp) -> i128 {
    time.as_nanosecond().div_euclid(i128::from(STATEMENT_PERIOD_NS))
}

fn most(rate: Rate) -> Option<Most> {
    (rate.window_ns > 0).then_some(Most { bytes: rate.bytes, window_ns: rate.window_ns })
}

#[cfg(test)]
mod tests {
    use super::super::{FACILITY, read_all};
    use super::*;
    use crate::report;

    const SECOND_NS: u64 = 1_000_000_000;

    fn open(directory: &Path, key: &SecretKey, now: &str) -> Hourly {
        let tap = Tap { facility: "f-1".into(), capacity_bits_per_second: 8_000_000, map_instance: "00".into() };
        let key = SecretKey::parse(&key.encode(), "key").unwrap();
        let names = ["measure-m-1".to_owned(), FACILITY.to_owned()];
        Hourly::open(directory, names, tap, key, now.parse().unwrap()).unwrap()
    }

    fn counts(admitted_bytes: u64) -> [Counts; 2] {
        [Counts { admitted_bytes, ..Counts::default() }; 2]
    }

    #[test]
    fn the_hour_the_day_and_the_month_change_at_their_instant_and_nothing_is_counted_twice() {
        let directory = tempfile::tempdir().unwrap();
        let key = SecretKey::generate("host").unwrap();
        // 23:30 in Japan on the last day of November: an hour, a day, a month end there at 15:00 UTC.
        let start: Timestamp = "2026-11-30T14:30:00Z".parse().unwrap();
        let mut hourly = open(directory.path(), &key, &start.to_string());
        let mut admitted = 0;
        for step in 1..=2 * 3_600_u64 {
            let boot_ns = step * SECOND_NS;
            let now = start + jiff::SignedDuration::from_nanos(i64::try_from(boot_ns).unwrap());
            admitted += 1_000;
            hourly.sample(boot_ns, [(admitted, 300_000); 2]);
            let due = hourly.due(boot_ns, now);
            assert_eq!(due, now.as_second() % 3_600 == 0, "{now}");
            if due {
                let (written, outcome) = hourly.write(boot_ns, now, counts(admitted), false);
                outcome.unwrap();
                assert_eq!(written.len(), 2);
                assert!(!hourly.due(boot_ns, now));
            }
        }
        hourly.write(7_200 * SECOND_NS, start + jiff::SignedDuration::from_hours(2), counts(admitted), true).1.unwrap();
        let statements = read_all(&directory.path().join("measure-m-1"), &key.public()).unwrap();
        let times: Vec<_> = statements.iter().map(|it| (it.from.to_string(), it.to.to_string(), it.last)).collect();
        let at = |text: &str| text.to_owned();
        assert_eq!(
            times,
            [
                (at("2026-11-30T14:30:00Z"), at("2026-11-30T15:00:00Z"), false),
                (at("2026-11-30T15:00:00Z"), at("2026-11-30T16:00:00Z"), false),
                (at("2026-11-30T16:00:00Z"), at("2026-11-30T16:30:00Z"), true),
            ]
        );
        let counted: Vec<_> = statements.iter().map(|it| it.counted.admitted_bytes).collect();
        assert_eq!(counted, [1_800_000, 3_600_000, 1_800_000]);
        // A thousand bytes a second, whatever the window.
        assert_eq!(statements[1].most_in_a_second.unwrap().bytes * SECOND_NS, {
            1_000 * statements[1].most_in_a_second.unwrap().window_ns
        });
        let months = report::by_month(&statements, &[]);
        let shown: Vec<_> = months.iter().map(|it| (it.month.as_str(), it.counted.admitted_bytes)).collect();
        assert_eq!(shown, [("2026-11", 1_800_000), ("2026-12", 5_400_000)]);
    }

    #[test]
    fn the_last_nanosecond_of_an_hour_is_in_it_and_the_next_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let key = SecretKey::generate("host").unwrap();
        let hourly = open(directory.path(), &key, "2026-12-31T14:00:00Z");
        assert!(!hourly.due(1, "2026-12-31T14:59:59.999999999Z".parse().unwrap()));
        assert!(hourly.due(1, "2026-12-31T15:00:00Z".parse().unwrap()));
        // A clock that was set back into another hour has one too: what was sampled is not lost.
        assert!(hourly.due(1, "2026-12-31T13:59:59Z".parse().unwrap()));
    }

    #[test]
    fn a_statement_that_cannot_be_written_is_tried_again_and_the_others_are_not_written_twice() {
        let directory = tempfile::tempdir().unwrap();
        let key = SecretKey::generate("host").unwrap();
        let mut hourly = open(directory.path(), &key, "2026-11-30T14:30:00Z");
        let facility = directory.path().join(FACILITY);
        // The name under which the store writes before it renames.
        std::fs::create_dir(facility.join("00000001.note.new")).unwrap();
        let now: Timestamp = "2026-11-30T15:00:00Z".parse().unwrap();
        hourly.sample(1, [(5, 1); 2]);
        let (written, outcome) = hourly.write(1, now, counts(5), false);
        assert!(outcome.is_err() && written.iter().map(|it| it.of.as_str()).eq(["measure-m-1"]), "{written:?}");
        assert!(!hourly.due(2, now), "not at once");
        assert!(hourly.due(1 + STATEMENT_RETRY_NS, now));
        std::fs::remove_dir(facility.join("00000001.note.new")).unwrap();
        let (written, outcome) = hourly.write(1 + STATEMENT_RETRY_NS, now, counts(9), false);
        outcome.unwrap();
        assert!(written.iter().map(|it| it.of.as_str()).eq([FACILITY]), "{written:?}");
        let of = |name: &str| read_all(&directory.path().join(name), &key.public()).unwrap();
        assert_eq!(of("measure-m-1").len(), 1);
        assert_eq!(of(FACILITY)[0].counted.admitted_bytes, 9);
    }
}
