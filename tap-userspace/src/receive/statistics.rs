//! Statistics of a store: what each spool gave, and which numbers are not there.
//!
//! In: stored records, in any order. Out: messages and records by spool; by host, instance and CPU how many of the numbers between the
//! first and the last are missing. A number is missing where a ring or a spool was full, or where the record is another measure's,
//! whose store is another. Bounded by the number of spools, and of instances and CPUs; addresses are not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde::Serialize;

use super::read::StoredRecord;

/// What a store holds.
#[derive(Debug, Default)]
pub struct Statistics {
    spools: BTreeMap<(String, String), Spool>,
    cpus: BTreeMap<(String, [u8; 16], u32), Range>,
}

#[derive(Debug, Default)]
struct Spool {
    records: u64,
    messages: BTreeSet<u64>,
    measures: BTreeSet<String>,
}

/// Numbers of one CPU.
#[derive(Debug)]
struct Range {
    first: u64,
    last: u64,
    records: u64,
}

/// A line about a spool, or about a CPU.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Spool { host: &'a str, spool: &'a str, measures: Vec<&'a str>, messages: usize, records: u64 },
    Cpu { host: &'a str, instance: String, cpu: u32, first: u64, last: u64, records: u64, missing: u64 },
}

impl Statistics {
    /// Counts a record.
    pub fn add(&mut self, stored: &StoredRecord) {
        let spool = self.spools.entry((stored.host.clone(), stored.spool.clone())).or_default();
        spool.records += 1;
        spool.messages.insert(stored.spool_sequence);
        spool
            .measures
            .extend(stored.measure_id.iter().filter(|id| !spool.measures.contains(*id)).cloned().collect::<Vec<_>>());
        let number = stored.record.sequence;
        let key = (stored.host.clone(), stored.instance, stored.record.cpu);
        let range = self.cpus.entry(key).or_insert(Range { first: number, last: number, records: 0 });
        range.first = range.first.min(number);
        range.last = range.last.max(number);
        range.records += 1;
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let spools = self.spools.iter().map(|((host, spool), of)| Line::Spool {
            host,
            spool,
            measures: of.measures.iter().map(String::as_str).collect(),
            messages: of.messages.len(),
            records: of.records,
        });
        let cpus = self.cpus.iter().map(|((host, instance, cpu), of)| Line::Cpu {
            host,
            instance: hex::encode(instance),
            cpu: *cpu,
            first: of.first,
            last: of.last,
            records: of.records,
            missing: (of.last - of.first).saturating_add(1).saturating_sub(of.records),
        });
        spools.chain(cpus)
    }

    /// One JSON object a line.
    ///
    /// # Errors
    /// The writer's.
    pub fn json(&self, out: &mut impl Write) -> io::Result<()> {
        for line in self.lines() {
            serde_json::to_writer(&mut *out, &line)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// For people.
    ///
    /// # Errors
    /// The writer's.
    pub fn table(&self, out: &mut impl Write) -> io::Result<()> {
        for line in self.lines() {
            match line {
                Line::Spool { host, spool, measures, messages, records } => {
                    writeln!(out, "host {host}\n  spool {spool}  {}", measures.join(", "))?;
                    writeln!(out, "  {records} records in {messages} messages")?;
                }
                Line::Cpu { host, instance, cpu, first, last, records, missing } => writeln!(
                    out,
                    "host {host}\n  instance {instance}, CPU {cpu}: {records} records, numbers {first} to {last}, {missing} missing"
                )?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::read::tests;

    #[test]
    fn missing_numbers_are_counted_by_cpu_and_messages_by_spool() {
        let mut statistics = Statistics::default();
        for (cpu, sequence, spool_sequence) in [(0, 5, 1), (0, 6, 1), (1, 0, 2), (0, 9, 4), (1, 1, 4)] {
            let mut stored = tests::stored();
            (stored.record.cpu, stored.record.sequence, stored.spool_sequence) = (cpu, sequence, spool_sequence);
            statistics.add(&stored);
        }
        let mut lines = Vec::new();
        statistics.json(&mut lines).unwrap();
        let lines: Vec<serde_json::Value> =
            lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!((&lines[0]["messages"], &lines[0]["records"]), (&3.into(), &5.into()));
        let cpu = |line: &serde_json::Value| {
            ["cpu", "first", "last", "records", "missing"].map(|key| line[key].as_u64().unwrap())
        };
        assert_eq!(cpu(&lines[1]), [0, 5, 9, 3, 2]);
        assert_eq!(cpu(&lines[2]), [1, 0, 1, 2, 0]);
        let mut table = Vec::new();
        statistics.table(&mut table).unwrap();
        assert!(String::from_utf8(table).unwrap().contains("CPU 0: 3 records, numbers 5 to 9, 2 missing"));
    }
}
