//! Whether the books balance: every packet once, every record once, from the interface to the disk. In: the agent's status at
//! rest, the interface's count, the stored records. Out: equations in words, each held or not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;
use tap_userspace::control::status::Status;

use super::Deployment;
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
    /// The stored records.
    pub records: Vec<Value>,
    /// Rules of each generation.
    sets: Vec<Vec<Value>>,
}

/// Records selected by the kernel since its maps were made.
#[must_use]
pub fn selected(status: &Status) -> u64 {
    status.counters.verdicts.get("selected").copied().unwrap_or_default()
}

/// Records lost, and counted as such: by a full ring or a full spool.
#[must_use]
pub fn lost(status: &Status) -> u64 {
    status.counters.ring_lost + status.records.refused
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
            let drained = now.records.drained == last.records.drained;
            let at_rest = now.counters == last.counters && drained && now.records.spooled == now.records.drained;
            if at_rest && now.spool.messages == 0 {
                return Ok(now);
            }
            if Instant::now() >= until {
                let (messages, error) = (now.spool.messages, now.delivery.last_error.unwrap_or_default());
                bail!("{messages} messages are still in the spool {SETTLE_MAX:?} after traffic stopped; {error}");
            }
            last = now;
        }
    }

    /// The books after `status`; `host` and `interface` are the tap's.
    ///
    /// # Errors
    /// Where interface or store cannot be read.
    pub fn books(&self, status: Status, host: &Host, interface: &str) -> Result<Books> {
        let interface_packets = self.interface_packets(host, interface)?;
        Ok(Books { status, interface_packets, records: self.records()?, sets: self.plan().sets.clone() })
    }
}

impl Books {
    /// The equations that have to hold, each in words.
    #[must_use]
    pub fn equations(&self) -> Vec<(bool, &'static str)> {
        let counters = &self.status.counters;
        let judged: u64 = counters.verdicts.values().sum();
        let stored = self.records.len() as u64;
        vec![
            (counters.observed_packets == self.interface_packets, "observed = received by the interface"),
            (counters.observed_packets == judged, "observed = sum of all verdicts"),
            (selected(&self.status) == stored + lost(&self.status), "selected = stored + lost and counted"),
            (self.status.records.invalid == 0, "every ring entry is a record"),
            (self.unexplained().is_empty(), "every record's rules are those of its generation"),
        ]
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
        let rules = self.sets.get(generation.checked_sub(1)?)?;
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
