//! What an inspector reads: everything that a bundle shows, as plain values. In: nothing. Out: JSON, and the text of `text`.

use super::Finding;
use crate::report::Month;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a bundle proves, and what does not hold.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Nothing was found that does not hold.
    pub good: bool,
    /// What does not hold.
    pub findings: Vec<Finding>,
    /// The mirror host's name.
    pub host: String,
    /// SHA-256 of its key: what orders name.
    pub host_key: String,
    /// Version of the program that made the bundle.
    pub program_version: String,
    /// SHA-256 of the BPF object that this version carries.
    pub object_sha256: String,
    /// The log.
    pub log: LogReport,
    /// Measures by name.
    pub measures: Vec<MeasureReport>,
    /// Chains of statements.
    pub statements: Vec<ChainReport>,
    /// What decided in the kernel, from when on.
    pub programs: Vec<Program>,
    /// Machines that the host's key was on, in the order of their appearance, by digest.
    pub machines: Vec<String>,
    /// Notices to the Commission, by their signer.
    pub notices: Vec<Notices>,
    /// Counts by month in Japan.
    pub months: Vec<Month>,
}

/// The log as far as the bundle goes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogReport {
    /// Its name.
    pub origin: String,
    /// Entries.
    pub entries: u64,
    /// Root over them, in hex.
    pub root: String,
    /// Time of the first.
    pub first: Option<Timestamp>,
    /// Time of the last.
    pub last: Option<Timestamp>,
    /// Entries of acts that this version does not know.
    pub unknown: u64,
    /// Who saw it only grow, up to where.
    pub witnessed: Vec<Witnessed>,
    /// Sizes of earlier checkpoints that the inspector held against it.
    pub continues: Vec<u64>,
}

/// A witness's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Witnessed {
    /// Who.
    pub by: String,
    /// Entries of the log then.
    pub entries: u64,
    /// When.
    pub time: Timestamp,
}

/// One measure.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MeasureReport {
    /// Id.
    pub measure: String,
    /// Orders, the first and those that extend it.
    pub orders: Vec<OrderReport>,
    /// Activations of selector sets.
    pub activations: Vec<ActivationReport>,
    /// Withdrawals of selector sets.
    pub withdrawals: Vec<WithdrawalReport>,
    /// Directives of the Commission.
    pub directives: Vec<DirectiveReport>,
    /// The carrier's kill switch: thrown and taken back.
    pub switches: Vec<SwitchReport>,
}

/// An order.
#[derive(Clone, Debug, Serialize)]
pub struct OrderReport {
    /// Its digest.
    pub sha256: String,
    /// Basis in the Act.
    pub basis: String,
    /// The Commission's approval, or the notification.
    pub approval: Option<String>,
    /// Facility.
    pub facility: String,
    /// Its capacity.
    pub capacity_bits_per_second: u64,
    /// This host's part of it, in parts per million.
    pub share_ppm: u32,
    /// First instant.
    pub not_before: Timestamp,
    /// First instant after the last.
    pub not_after: Timestamp,
    /// Who signed: name and role.
    pub signed_by: Vec<String>,
    /// When the host loaded it first.
    pub loaded: Timestamp,
}

/// Two persons' consent to a set.
#[derive(Clone, Debug, Serialize)]
pub struct ActivationReport {
    /// Its number.
    pub number: u64,
    /// Digest of the set.
    pub set_sha256: String,
    /// Whether the set itself is in the bundle.
    pub set_in_bundle: bool,
    /// Rules in it.
    pub rules: u64,
    /// Who signed: name and role.
    pub signed_by: Vec<String>,
    /// When it was loaded first.
    pub loaded: Timestamp,
}

/// One person's end of a set.
#[derive(Clone, Debug, Serialize)]
pub struct WithdrawalReport {
    /// Its number, one of the activations' row.
    pub number: u64,
    /// Who signed: name and role.
    pub signed_by: Vec<String>,
    /// When it was in force.
    pub in_force: Timestamp,
}

/// A directive.
#[derive(Clone, Debug, Serialize)]
pub struct DirectiveReport {
    /// Its number.
    pub number: u64,
    /// What it does.
    pub kind: String,
    /// Why.
    pub reason: String,
    /// When it was issued.
    pub issued: Timestamp,
    /// When the log has it in force.
    pub in_force: Timestamp,
    /// Milliseconds between the two.
    pub after_ms: i64,
}

/// The carrier's kill switch.
#[derive(Clone, Debug, Serialize)]
pub struct SwitchReport {
    /// When.
    pub time: Timestamp,
    /// Thrown, or taken back.
    pub thrown: bool,
    /// Why.
    pub reason: String,
}

/// One chain of statements.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChainReport {
    /// `measure-` and the measure's id, or the facility.
    pub of: String,
    /// Statements.
    pub statements: u64,
    /// First instant they speak of.
    pub from: Option<Timestamp>,
    /// First instant after the last.
    pub to: Option<Timestamp>,
    /// Times between that no statement speaks of, and whether the agent had ended in order before.
    pub gaps: Vec<Gap>,
    /// Most admitted in any window of a second, a minute, an hour or longer, in parts per million of the capacity.
    pub most_ppm: [Option<u64>; 3],
    /// Highest limit that was in force, likewise.
    pub limit_ppm: u32,
    /// Statements that show more than the limit.
    pub exceeding: u64,
}

/// A time that no statement speaks of.
#[derive(Clone, Debug, Serialize)]
pub struct Gap {
    /// First instant.
    pub from: Timestamp,
    /// First instant after the last.
    pub to: Timestamp,
    /// The agent had ended in order: nothing was selected.
    pub in_order: bool,
}

/// A program.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    /// Number of the generation.
    pub generation: u64,
    /// Digest over object, constants and tables' shapes, as the kernel's reading gave it.
    pub sha256: String,
    /// Since when.
    pub since: Timestamp,
}

/// Notices by one signer.
#[derive(Clone, Debug, Serialize)]
pub struct Notices {
    /// Whose key signed them.
    pub by: String,
    /// How many.
    pub notices: u64,
    /// How many of them the Commission acknowledged.
    pub acknowledged: u64,
    /// How many about each measure.
    pub by_measure: BTreeMap<String, u64>,
}
