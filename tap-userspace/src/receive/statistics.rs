//! Statistics of a store: what each spool gave, and which numbers are not there.
//!
//! In: stored records, in any order, and the totals that hosts declared, in their order. Out: messages and records by spool; by host,
//! instance and CPU how many of the numbers between the first and the last are missing; by measure what was declared and what is stored. A number is missing where a ring or a spool was full, or where the record is another measure's,
//! whose store is another. Bounded by the number of spools, and of instances and CPUs; addresses are not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde::Serialize;

use super::read::{Declared, StoredRecord};
use crate::ipfix::selection::{Step, Totals};

/// What a store holds.
#[derive(Debug, Default)]
pub struct Statistics {
    spools: BTreeMap<(String, String), Spool>,
    cpus: BTreeMap<(String, [u8; 16], u32), Range>,
    /// By host, spool and instance: a spool is one measure's.
    measures: BTreeMap<(String, String, [u8; 16]), OfMeasure>,
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

/// A measure's records beside what its host declared of them.
#[derive(Debug, Default)]
struct OfMeasure {
    id: Option<String>,
    /// Records stored.
    stored: u64,
    /// What was declared last.
    declared: Option<Totals>,
    /// Records that full or failing spools of earlier agents lost: an agent counts from its start.
    refused_before: u64,
}

/// A line about a spool, about a CPU, or about what was declared of a measure.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Spool { host: &'a str, spool: &'a str, measures: Vec<&'a str>, messages: usize, records: u64 },
    Cpu { host: &'a str, instance: String, cpu: u32, first: u64, last: u64, records: u64, missing: u64 },
    Declared(Account<'a>),
}

/// What was declared of a measure's steps, and what of it is stored.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Account<'a> {
    host: &'a str,
    spool: &'a str,
    instance: String,
    measure: Option<&'a str>,
    /// Packets while the measure was live.
    declared_observed: u64,
    declared_sampled: u64,
    declared_selected: u64,
    /// Selected packets whose record found no room in its ring.
    declared_lost_in_rings: u64,
    /// Records that a spool refused, or that could not leave.
    declared_lost_at_spool: u64,
    stored: u64,
    /// Declared as selected, neither lost nor stored: on their way, or missing.
    outstanding: u64,
}

impl OfMeasure {
    fn declare(&mut self, declared: &Declared) {
        let totals = declared.totals;
        if let Some(last) = self.declared.filter(|last| totals.spool.observed < last.spool.observed) {
            self.refused_before = self.refused_before.saturating_add(last.spool.dropped());
        }
        self.declared = Some(totals);
        self.id = declared.measure_id.clone().or_else(|| self.id.take());
    }
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
        let key = (stored.host.clone(), stored.spool.clone(), stored.instance);
        self.measures.entry(key).or_default().stored += 1;
    }

    /// Takes what a host declared; of one spool in its order.
    pub fn declare(&mut self, declared: &Declared) {
        let key = (declared.host.clone(), declared.spool.clone(), declared.instance);
        self.measures.entry(key).or_default().declare(declared);
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
        let accounts = self.measures.iter().filter_map(|((host, spool, instance), of)| {
            let Totals { sample, ring, spool: spooled, .. } = of.declared?;
            let lost_at_spool = of.refused_before.saturating_add(spooled.dropped());
            Some(Line::Declared(Account {
                host,
                spool,
                instance: hex::encode(instance),
                measure: of.id.as_deref(),
                declared_observed: sample.observed,
                declared_sampled: sample.selected,
                declared_selected: ring.observed,
                declared_lost_in_rings: ring.dropped(),
                declared_lost_at_spool: lost_at_spool,
                stored: of.stored,
                outstanding: Step { observed: ring.selected, selected: of.stored.saturating_add(lost_at_spool) }
                    .dropped(),
            }))
        });
        spools.chain(cpus).chain(accounts)
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
                Line::Declared(of) => {
                    let Account { host, spool, instance, .. } = &of;
                    writeln!(out, "host {host}\n  spool {spool}, instance {instance}")?;
                    writeln!(
                        out,
                        "  declared: {} packets observed, {} in the sample, {} selected; {} lost in the rings, {} at the spool",
                        of.declared_observed,
                        of.declared_sampled,
                        of.declared_selected,
                        of.declared_lost_in_rings,
                        of.declared_lost_at_spool
                    )?;
                    writeln!(out, "  stored: {} records; {} outstanding", of.stored, of.outstanding)?;
                }
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

    #[test]
    fn declared_totals_stand_beside_what_is_stored() {
        let mut statistics = Statistics::default();
        for sequence in 0..5 {
            let mut stored = tests::stored();
            stored.record.sequence = sequence;
            statistics.add(&stored);
        }
        let stored = tests::stored();
        let step = |observed, selected| Step { observed, selected };
        let mut declare = |instance, selected, recorded, spool| {
            let totals = Totals {
                measure: 0,
                sample: step(100, 50),
                selection: step(50, selected),
                ring: step(selected, recorded),
                spool,
            };
            let (host, spool) = (stored.host.clone(), stored.spool.clone());
            statistics.declare(&Declared { totals, host, spool, instance, measure_id: Some("m-1".into()) });
        };
        // Two agents one after the other: the second counts its spool's refusals from its start.
        declare(stored.instance, 5, 5, step(4, 3));
        declare(stored.instance, 9, 9, step(5, 3));
        declare(stored.instance, 10, 10, step(0, 0));
        declare(stored.instance, 20, 16, step(6, 5));
        declare([0xdd; 16], 7, 7, step(7, 7));
        let mut lines = Vec::new();
        statistics.json(&mut lines).unwrap();
        let lines: Vec<serde_json::Value> =
            lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let of = |line: usize| {
            ["selected", "lost_in_rings", "lost_at_spool"]
                .map(|key| format!("declared_{key}"))
                .iter()
                .map(String::as_str)
                .chain(["stored", "outstanding"])
                .map(|key| lines[line][key].as_u64().unwrap())
                .collect::<Vec<_>>()
        };
        // 16 found room in the rings; 5 are stored, 2 and 1 were refused.
        assert_eq!(of(2), [20, 4, 3, 5, 8]);
        assert_eq!(of(3), [7, 0, 0, 0, 7]);
        assert_eq!((&lines[2]["measure"], lines.len()), (&"m-1".into(), 4));
        let mut table = Vec::new();
        statistics.table(&mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        assert!(table.contains("20 selected; 4 lost in the rings, 3 at the spool\n  stored: 5 records; 8 outstanding"));
    }
}
