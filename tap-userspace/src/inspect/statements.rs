//! Cap statements in a bundle: each chain whole, each statement the one that the log names, each limit the order's.
//!
//! In: the bundle's statements, the host's key, the log's entries, the orders. Out: maxima and gaps of each chain, and the
//! statement that is missing, strange, altered, contradicts the one before it, or shows more than was allowed.

use super::Finding;
use super::container::Files;
use super::documents::Checked;
use super::ledger::Entries;
use super::report::{ChainReport, Gap};
use crate::audit::Leaf;
use crate::keys::{PublicKey, note, sha256};
use crate::order::Order;
use crate::statement::{FACILITY, Most, Statement};
use std::collections::BTreeMap;
use tap_common::limits::PPM;

/// Where statements stand, a folder a chain.
pub(super) const STATEMENTS: &str = "statements/";

/// Judges every chain.
pub(super) fn check(
    files: &Files,
    host: &PublicKey,
    entries: &Entries,
    checked: &Checked<'_>,
    findings: &mut Vec<Finding>,
) -> (Vec<ChainReport>, Vec<Statement>) {
    let mut named = named(entries);
    let mut chains: BTreeMap<&str, Vec<(&str, &[u8])>> = BTreeMap::new();
    for (name, bytes) in files.iter().filter(|(name, _)| name.starts_with(STATEMENTS)) {
        let chain = name.strip_prefix(STATEMENTS).and_then(|rest| rest.split_once('/')).map_or("", |(chain, _)| chain);
        chains.entry(chain).or_default().push((name, bytes));
    }
    let (mut reports, mut all) = (Vec::new(), Vec::new());
    for (of, files) in chains {
        let mut chain = Chain { of, host, checked, number: 0, before: None, digest: String::new(), named: &mut named };
        let mut report = ChainReport { of: of.to_owned(), ..ChainReport::default() };
        for (name, bytes) in files {
            match chain.next(name, bytes, findings) {
                Ok(statement) => {
                    sum(&mut report, &statement, all.last().filter(|last: &&Statement| last.of == of));
                    all.push(statement);
                }
                Err(what) => findings.push(Finding::new(name, what)),
            }
        }
        reports.push(report);
    }
    for ((of, digest), number) in named {
        let what = format!("names a statement of {of} ({digest}) that is not in the bundle: removed or altered");
        findings.push(Finding::new(format!("entry {number} of the log"), what));
    }
    (reports, all)
}

/// Chain and digest of every statement that the log names, and the entry that does.
#[expect(clippy::wildcard_enum_match_arm, reason = "acts that are no statement")]
fn named(entries: &Entries) -> BTreeMap<(String, String), u64> {
    let named = entries.iter().filter_map(|(number, entry)| match &entry.act {
        Leaf::Statement { measure, sha256, .. } => Some(((measure.clone(), sha256.clone()), *number)),
        _ => None,
    });
    named.collect()
}

struct Chain<'a> {
    of: &'a str,
    host: &'a PublicKey,
    checked: &'a Checked<'a>,
    number: u64,
    before: Option<Statement>,
    digest: String,
    named: &'a mut BTreeMap<(String, String), u64>,
}

impl Chain<'_> {
    /// Reads the next one of the chain. What does not let it be read is the error; what it says wrongly is found.
    fn next(&mut self, name: &str, bytes: &[u8], findings: &mut Vec<Finding>) -> Result<Statement, String> {
        let mut wrong = |what: String| findings.push(Finding::new(name, what));
        let digest = hex::encode(sha256(bytes));
        let text = std::str::from_utf8(bytes).map_err(|_not_utf8| "is no text: altered".to_owned())?;
        let signed =
            note::verify_one(text, self.host).map_err(|error| format!("{error}: altered, or of another host"))?;
        let statement: Statement =
            serde_json::from_str(&signed).map_err(|error| format!("is no statement: {error}"))?;
        self.number += 1;
        if statement.number != self.number {
            wrong(format!(
                "its number is {}, {} is missing: removed, added or reordered",
                statement.number, self.number
            ));
            self.number = statement.number;
        }
        if !name.ends_with(&format!("/{:08}.note", statement.number)) {
            wrong(format!("is number {} under another's name: reordered", statement.number));
        }
        if statement.of != self.of {
            wrong(format!("is a statement of {}: of another measure", statement.of));
        }
        if statement.previous_sha256 != self.digest {
            wrong("the statement before it is not the one it names: removed, added or altered".to_owned());
        }
        if self.named.remove(&(self.of.to_owned(), digest.clone())).is_none() {
            wrong("no entry of the log names it: added, or the log was set back".to_owned());
        }
        let before = self.before.as_ref().filter(|before| before.map_instance == statement.map_instance);
        let counted = statement.totals.since(&before.map(|before| before.totals).unwrap_or_default());
        if counted != statement.counted || statement.to < statement.from {
            wrong("contradicts itself or the one before it: counts or times do not add up".to_owned());
        }
        if let Some(what) = self.beyond_order(&statement) {
            wrong(what);
        }
        if statement.exceeded() {
            wrong(format!("more was admitted than allowed, between {} and {}", statement.from, statement.to));
        }
        self.digest = digest;
        self.before = Some(statement.clone());
        Ok(statement)
    }

    /// What it says of facility, capacity or limit that no order allows.
    fn beyond_order(&self, statement: &Statement) -> Option<String> {
        let of = |id: &str| self.checked.orders.get(id).map(Vec::as_slice).unwrap_or_default();
        let orders: Vec<&Order> = match self.of.strip_prefix("measure-") {
            Some(id) => of(id).iter().collect(),
            None => self.checked.orders.values().flatten().collect(),
        };
        let same = |order: &&Order| {
            order.facility.id == statement.facility
                && order.facility.capacity_bits_per_second == statement.capacity_bits_per_second
        };
        let of_facility: Vec<_> = orders.into_iter().filter(same).collect();
        if of_facility.is_empty() {
            return Some("its facility or capacity is that of no order in the bundle: of another order".to_owned());
        }
        let lowered = self.checked.lowered.iter().filter(|lowered| {
            self.of.strip_prefix("measure-") == Some(&lowered.measure) && lowered.since <= statement.from
        });
        let limit = of_facility.iter().map(|order| order.facility.share_ppm).max().unwrap_or_default();
        let limit = lowered.map(|lowered| lowered.share_ppm).min().unwrap_or(limit).min(limit);
        (statement.limit_ppm > limit && self.of != FACILITY || u64::from(statement.limit_ppm) > PPM).then(|| {
            format!("its limit, {} ppm, is above the order's or a directive's, {limit} ppm", statement.limit_ppm)
        })
    }
}

fn sum(report: &mut ChainReport, statement: &Statement, before: Option<&Statement>) {
    report.statements += 1;
    report.from.get_or_insert(statement.from);
    report.to = Some(statement.to);
    report.limit_ppm = report.limit_ppm.max(statement.limit_ppm);
    report.exceeding += u64::from(statement.exceeded());
    if let Some(before) = before.filter(|before| before.to < statement.from) {
        report.gaps.push(Gap { from: before.to, to: statement.from, in_order: before.last });
    }
    let most = [statement.most_in_a_second, statement.most_in_a_minute, statement.most_in_an_hour];
    for (report, most) in report.most_ppm.iter_mut().zip(most) {
        *report = (*report).max(most.and_then(|most| ppm(&most, statement.capacity_bits_per_second)));
    }
}

/// Parts per million of the capacity, rounded up.
fn ppm(most: &Most, capacity_bits_per_second: u64) -> Option<u64> {
    let bits = u128::from(most.bytes) * 8 * 1_000_000_000 * u128::from(PPM);
    let line = u128::from(capacity_bits_per_second).checked_mul(u128::from(most.window_ns)).filter(|line| *line > 0)?;
    u64::try_from(bits.div_ceil(line)).ok()
}
