//! Whether the books balance: every packet once, every record once, from the interface to the disk. In: the agent's status at
//! rest, the interface's count, the stored records. Out: equations in words, each held or not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tap_userspace::control::status::{MeasureStatus, Status};

use super::{Deployment, MeasurePlan};
use crate::lab::Host;

/// How long what is under way may take to arrive once traffic has stopped.
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// Pause between two looks; counters that did not move in it are at rest.
const SETTLE_STEP: Duration = Duration::from_millis(300);

/// The agent's status at rest beside what the interface counted and what lies in the store.
#[derive(Clone, Debug)]
pub struct Books {
    /// What the agent said last.
    pub status: Status,
    /// Packets that the interface received.
    pub interface_packets: u64,
    /// The measure's stored records.
    pub records: Vec<Value>,
    /// The measure.
    plan: MeasurePlan,
}

/// Packets selected by the kernel since its maps were made, for all measures.
#[must_use]
pub fn selected(status: &Status) -> u64 {
    status.measures.iter().filter_map(|measure| measure.counters.verdicts.get("selected")).sum()
}

/// Records lost, and counted as such: by a full ring or a full spool.
#[must_use]
pub fn lost(status: &Status) -> u64 {
    status.measures.iter().map(lost_of).sum()
}

fn lost_of(measure: &MeasureStatus) -> u64 {
    measure.counters.ring_lost + measure.records.refused
}

/// Numbers that no stored record has, of those given by each CPU of each instance. The store lists records in the order of the
/// spool: no number comes twice or before a smaller one.
///
/// # Errors
/// One does.
pub fn missing(records: &[Value]) -> Result<u64> {
    let mut last: BTreeMap<(String, u64), u64> = BTreeMap::new();
    let mut missing = 0;
    for record in records {
        let number = |field| record.get(field).and_then(Value::as_u64).context(field);
        let instance = record.get("instance").and_then(Value::as_str).context("instance")?;
        let (cpu, sequence) = (number("cpu")?, number("sequence")?);
        let expected = last.get(&(instance.to_owned(), cpu)).map_or(0, |last| last + 1);
        ensure!(sequence >= expected, "CPU {cpu}: record {sequence} behind record {}", expected - 1);
        missing += sequence - expected;
        last.insert((instance.to_owned(), cpu), sequence);
    }
    ensure!(last.len() <= 128, "{} instances and CPUs", last.len());
    Ok(missing)
}

impl Deployment {
    /// Waits until counters rest and everything spooled is acknowledged. `stop` is asked on the way.
    ///
    /// # Errors
    /// When it takes too long, or `stop` says so.
    pub fn settle(&self, stop: impl Fn() -> Result<()>) -> Result<Status> {
        let until = Instant::now() + SETTLE_MAX;
        let mut last = self.status()?;
        loop {
            stop()?;
            std::thread::sleep(SETTLE_STEP);
            let now = self.status()?;
            let moves = |(now, last): (&MeasureStatus, &MeasureStatus)| {
                now.counters != last.counters
                    || now.records.drained != last.records.drained
                    || now.records.spooled + now.records.refused != now.records.drained
            };
            let moved = now.counters != last.counters || now.measures.iter().zip(&last.measures).any(moves);
            if !moved && now.measures.iter().all(|measure| measure.spool.messages == 0) {
                return Ok(now);
            }
            if Instant::now() >= until {
                let messages: u64 = now.measures.iter().map(|measure| measure.spool.messages).sum();
                let error: Vec<_> =
                    now.measures.iter().filter_map(|measure| measure.delivery.last_error.as_deref()).collect();
                let error = error.join(", ");
                bail!("{messages} messages are still in the spool {SETTLE_MAX:?} after traffic stopped; {error}");
            }
            last = now;
        }
    }

    /// The first measure's books after `status`; `host` and `interface` are the tap's.
    ///
    /// # Errors
    /// Where interface or store cannot be read.
    pub fn books(&self, status: Status, host: &Host, interface: &str) -> Result<Books> {
        let plan = self.measures().first().context("a measure")?;
        self.books_of(plan, status, host, interface)
    }

    /// As [`Deployment::books`], for any measure.
    ///
    /// # Errors
    /// As there.
    pub fn books_of(&self, plan: &MeasurePlan, status: Status, host: &Host, interface: &str) -> Result<Books> {
        let interface_packets = self.interface_packets(host, interface)?;
        Ok(Books { status, interface_packets, records: self.records_of(plan)?, plan: plan.clone() })
    }
}

impl Books {
    /// The equations that have to hold, each in words.
    #[must_use]
    pub fn equations(&self) -> Vec<(bool, &'static str)> {
        let counters = &self.status.counters;
        let measure = self.measure();
        let verdicts: u64 = counters.verdicts.values().chain(measure.counters.verdicts.values()).sum();
        let selected = measure.counters.verdicts.get("selected").copied().unwrap_or_default();
        let stored = self.records.len() as u64;
        vec![
            (counters.observed_packets == self.interface_packets, "observed = received by the interface"),
            (
                counters.observed_packets == verdicts + measure.counters.idle_packets,
                "observed = sum of all verdicts + packets while the measure had no lease and another did",
            ),
            (selected == stored + lost_of(&measure), "selected = stored + lost and counted"),
            (self.status.invalid_entries + measure.records.invalid == 0, "every ring entry is a record"),
            (self.unexplained().is_empty(), "every record's rules are those of its generation"),
        ]
    }

    /// What the agent said of the measure.
    #[must_use]
    pub fn measure(&self) -> MeasureStatus {
        self.status.measure(&self.plan.id).cloned().unwrap_or_default()
    }

    /// Whether all of them hold.
    #[must_use]
    pub fn balance(&self) -> bool {
        self.equations().iter().all(|(holds, _)| *holds)
    }

    /// Stored records by generation.
    #[must_use]
    pub fn generations(&self) -> BTreeMap<u64, u64> {
        let mut generations = BTreeMap::new();
        for record in &self.records {
            *generations.entry(number(record, "generation")).or_default() += 1;
        }
        generations
    }

    /// Records that no rule of their generation explains: a rule id it does not have, none at all, or a port that the rule
    /// does not ask for.
    #[must_use]
    pub fn unexplained(&self) -> Vec<&Value> {
        self.records.iter().filter(|record| !self.explained(record).unwrap_or(false)).collect()
    }

    fn explained(&self, record: &Value) -> Option<bool> {
        let generation = usize::try_from(number(record, "generation")).ok()?;
        let rules = self.plan.sets.get(generation.checked_sub(1)?)?;
        let fired = record.get("rules")?.as_array()?;
        let every =
            fired.iter().all(|id| rules.iter().any(|rule| rule.get("id") == Some(id) && asks_for(rule, record)));
        Some(every && !fired.is_empty())
    }
}

/// Whether a rule's port conditions name the record's ports.
fn asks_for(rule: &Value, record: &Value) -> bool {
    let conditions = rule.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let mut ports = conditions.filter_map(|condition| {
        let field = match condition.get("field")?.as_str()? {
            "source-port" => "source_port",
            "destination-port" => "destination_port",
            _ => return None,
        };
        Some((field, condition.get("any")?.as_array()?))
    });
    ports.all(|(field, any)| any.contains(&Value::from(number(record, field).to_string())))
}

fn number(record: &Value, field: &str) -> u64 {
    record.get(field).and_then(Value::as_u64).unwrap_or_default()
}
