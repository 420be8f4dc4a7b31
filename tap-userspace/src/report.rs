//! The counts of a measure's month, as Art. 61 has them laid before the Diet.
//!
//! In: verified statements, and entries of a verified log. Out: by chain and month in Japan what was counted and how often
//! which act happened. An order or activation that an agent took again at a restart is one. It reads no file and no clock.

use crate::audit::Leaf;
use crate::audit::leaf::Entry;
use crate::statement::{Counts, FACILITY, Statement};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A measure's month.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Month {
    /// Chain of statements: `measure-` and the measure's id, or the facility.
    pub of: String,
    /// Year and month in Japan.
    pub month: String,
    /// Statements whose times begin in it.
    pub statements: u64,
    /// Statements that show more than the ordered share in a second or longer.
    pub exceeding_statements: u64,
    /// Whether there is one.
    pub exceeded: bool,
    /// What was counted.
    pub counted: Counts,
    /// What happened; nothing where no log was read.
    pub acts: Acts,
}

/// How often which act happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Acts {
    /// Different orders that were loaded, extensions among them.
    pub orders: u64,
    /// Different selector sets that were activated.
    pub activations: u64,
    /// Directives of the Commission.
    pub directives: u64,
    /// Times the carrier threw its kill switch.
    pub kill_switches: u64,
    /// Times the measure lost its lease.
    pub leases_lost: u64,
    /// Leaves that say that the cap refused packets: at most one a minute.
    pub caps_reached: u64,
    /// Statements that the log names.
    pub statements: u64,
}

/// The months of all chains, in the order of their names and times.
#[must_use]
pub fn by_month(statements: &[Statement], log: &[Entry]) -> Vec<Month> {
    let mut months = Months::default();
    for statement in statements {
        let month = months.at(&statement.of, statement.from);
        month.statements += 1;
        month.exceeding_statements += u64::from(statement.exceeded());
        month.exceeded |= statement.exceeded();
        month.counted = month.counted.plus(&statement.counted);
    }
    let mut seen = BTreeSet::new();
    for entry in log {
        act(&mut months, &mut seen, entry);
    }
    months.0.into_values().collect()
}

#[derive(Default)]
struct Months(BTreeMap<(String, String), Month>);

impl Months {
    fn at(&mut self, of: &str, time: Timestamp) -> &mut Month {
        let name = time.to_zoned(TimeZone::fixed(jiff::tz::offset(9))).strftime("%Y-%m").to_string();
        let month = self.0.entry((of.to_owned(), name.clone())).or_default();
        (month.of, month.month) = (of.to_owned(), name);
        month
    }

    fn of_measure(&mut self, measure: &str, time: Timestamp) -> &mut Acts {
        &mut self.at(&format!("measure-{measure}"), time).acts
    }
}

/// Counts an act; `seen` holds the orders and activations that were counted.
#[expect(clippy::wildcard_enum_match_arm, reason = "acts that no count is asked for")]
fn act(months: &mut Months, seen: &mut BTreeSet<(String, String)>, entry: &Entry) {
    let time = entry.time;
    match &entry.act {
        Leaf::OrderLoaded { measure, order_sha256, .. } => {
            let new = seen.insert((measure.clone(), order_sha256.clone()));
            months.of_measure(measure, time).orders += u64::from(new);
        }
        Leaf::Activation { measure, number, .. } => {
            let new = seen.insert((measure.clone(), number.to_string()));
            months.of_measure(measure, time).activations += u64::from(new);
        }
        Leaf::Directive { measure, .. } => months.of_measure(measure, time).directives += 1,
        Leaf::KillSwitch { measure: Some(measure), .. } => months.of_measure(measure, time).kill_switches += 1,
        Leaf::KillSwitch { measure: None, .. } => months.at(FACILITY, time).acts.kill_switches += 1,
        Leaf::LeaseLost { measure, .. } => months.of_measure(measure, time).leases_lost += 1,
        Leaf::CapReached { measure, .. } => months.of_measure(measure, time).caps_reached += 1,
        Leaf::Statement { measure, from, .. } => months.at(measure, *from).acts.statements += 1,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{Most, VERSION};

    fn statement(from: &str, bytes: u64) -> Statement {
        Statement {
            version: VERSION,
            of: "measure-m-1".into(),
            number: 1,
            previous_sha256: String::new(),
            facility: "f-1".into(),
            map_instance: "00".into(),
            from: from.parse().unwrap(),
            to: from.parse().unwrap(),
            last: false,
            capacity_bits_per_second: 8_000,
            limit_ppm: 300_000,
            most_in_a_second: Some(Most { bytes, window_ns: 1_000_000_000 }),
            most_in_a_minute: None,
            most_in_an_hour: None,
            counted: Counts { selected_packets: 2, ..Counts::default() },
            totals: Counts::default(),
        }
    }

    #[test]
    fn months_are_japans_and_a_second_above_the_share_is_shown() {
        let statements = [
            statement("2026-11-30T14:00:00Z", 300),
            statement("2026-11-30T15:00:00Z", 300),
            statement("2026-12-01T00:00:00Z", 301),
        ];
        let months = by_month(&statements, &[]);
        let shown: Vec<_> =
            months.iter().map(|m| (m.month.as_str(), m.statements, m.exceeded, m.counted.selected_packets)).collect();
        assert_eq!(shown, [("2026-11", 1, false, 2), ("2026-12", 2, true, 4)]);
    }

    #[test]
    fn acts_are_counted_in_japans_month_and_what_a_restart_repeats_is_one() {
        let entry = |time: &str, act| Entry { time: time.parse().unwrap(), latest: None, act };
        let activation = |number| Leaf::Activation {
            measure: "m-1".into(),
            number,
            set_sha256: String::new(),
            rules: 1,
            valid_until: Timestamp::MAX,
        };
        let log = [
            entry("2026-11-30T14:59:59Z", activation(1)),
            entry("2026-11-30T15:00:00Z", activation(1)),
            entry("2026-11-30T15:00:01Z", activation(2)),
            entry("2026-12-01T00:00:00Z", Leaf::KillSwitch { measure: None, reason: "r".into() }),
            entry("2026-12-01T00:00:00Z", Leaf::KillSwitch { measure: Some("m-1".into()), reason: "r".into() }),
            entry("2026-12-01T00:00:00Z", Leaf::LeaseLost { measure: "m-1".into(), reason: "r".into() }),
        ];
        let months = by_month(&[], &log);
        let shown: Vec<_> = months
            .iter()
            .map(|m| (m.of.as_str(), m.month.as_str(), m.acts.activations, m.acts.kill_switches, m.acts.leases_lost))
            .collect();
        assert_eq!(
            shown,
            [(FACILITY, "2026-12", 0, 1, 0), ("measure-m-1", "2026-11", 1, 0, 0), ("measure-m-1", "2026-12", 1, 1, 1)]
        );
    }
}
