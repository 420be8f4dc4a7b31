//! `gwtap order new`: a commented draft of an order, from flags.

use crate::keys::{parse_sha256, sha256};
use crate::order::template::Draft;
use crate::order::window::{in_jst, months_later};
use crate::order::{self, Basis};
use anyhow::{Context, anyhow};
use jiff::Timestamp;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write a commented draft; flags that are left out stay empty in it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gwtap order new > order.toml                      # an empty draft to fill in
  gwtap order new --measure m-1 --basis foreign-to-foreign --act a-1 \\
    --not-before 2027-12-01T00:00:00+09:00 --months 6 --approval c-7 --facility f-1 \\
    --capacity 10000000000 --share-ppm 300000 --tap HOSTKEY:eth1:300000 --standard s-1 \\
    --country-table world.csv --country-table-oldest-date 2027-11-01 \\
    --endpoint collector.example:4739 --name collector.example --sealing-key collector.seal.pub --out order.toml")]
pub(super) struct Args {
    /// Id of the measure
    #[arg(long, default_value = "")]
    measure: String,
    /// agreement, foreign-to-foreign, foreign-to-domestic or domestic-to-foreign
    #[arg(long)]
    basis: Option<Basis>,
    /// Target act (repeatable)
    #[arg(long = "act", value_name = "ID")]
    acts: Vec<String>,
    /// First moment, with its offset from UTC
    #[arg(long, value_name = "TIME")]
    not_before: Option<Timestamp>,
    /// First moment after the last
    #[arg(long, value_name = "TIME", conflicts_with = "months")]
    not_after: Option<Timestamp>,
    /// Calendar months in Japan from --not-before, instead of --not-after
    #[arg(long, requires = "not_before")]
    months: Option<i32>,
    /// SHA-256 of the order that this one extends (`gwtap order show` prints it)
    #[arg(long, value_name = "SHA256")]
    previous: Option<String>,
    /// Id of the Commission's approval (Arts 17, 32, 33)
    #[arg(long, value_name = "ID", conflicts_with = "notification")]
    approval: Option<String>,
    /// Condition of the approval as a line of TOML, e.g. 'share_at_most = 200000' (repeatable)
    #[arg(long = "condition", value_name = "KEY = VALUE")]
    conditions: Vec<String>,
    /// Id of the notification to the Commission (agreements)
    #[arg(long, value_name = "ID")]
    notification: Option<String>,
    /// Id of the carrier's transmission facility
    #[arg(long, default_value = "")]
    facility: String,
    /// Its transmission capacity in bits per second
    #[arg(long, value_name = "BITS", default_value_t = 0)]
    capacity: u64,
    /// Part of the capacity that may be admitted to selection, in parts per million
    #[arg(long, value_name = "PPM", default_value_t = 0)]
    share_ppm: u32,
    /// Part of the flows that is looked at, in parts per million
    #[arg(long, value_name = "PPM", default_value_t = 1_000_000)]
    sampling_ppm: u32,
    /// Mirror host, its port and its part of the capacity (repeatable)
    #[arg(long = "tap", value_name = "HOSTKEY:INTERFACE:PPM", value_parser = tap)]
    taps: Vec<(String, String, u32)>,
    /// The selection standard that sets name
    #[arg(long, default_value = "")]
    standard: String,
    /// Approved facility (Arts 32 and 33; repeatable)
    #[arg(long = "approved-facility", value_name = "PREFIX")]
    approved_facilities: Vec<String>,
    /// The party's own prefix (agreements; repeatable)
    #[arg(long = "party-prefix", value_name = "PREFIX")]
    party_prefixes: Vec<String>,
    /// Country table, whose digest goes into the order (repeatable: read as their concatenation)
    #[arg(long = "country-table", value_name = "FILE")]
    country_tables: Vec<PathBuf>,
    /// Oldest date that the country table's data may have
    #[arg(long, value_name = "DATE", default_value = "")]
    country_table_oldest_date: String,
    /// Show foreign addresses in clear that an entry of at least /24 or /48 matched
    #[arg(long)]
    clear_addresses: bool,
    /// Pseudonyms keep common prefixes
    #[arg(long)]
    prefix_preserving: bool,
    /// Conditions may name domestic addresses
    #[arg(long)]
    domestic_conditions: bool,
    /// How long one pseudonym key is used
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    key_epoch_days: u32,
    /// Receiving facility
    #[arg(long, value_name = "HOST:PORT", default_value = "")]
    endpoint: String,
    /// Where it takes records while that cannot be reached (repeatable)
    #[arg(long = "further-endpoint", value_name = "HOST:PORT")]
    further_endpoints: Vec<String>,
    /// Name in the receiving facility's certificate (repeatable)
    #[arg(long = "name")]
    names: Vec<String>,
    /// The receiving facility's sealing key: a .seal.pub file or 64 hex digits
    #[arg(long, value_name = "FILE|HEX", default_value = "")]
    sealing_key: String,
    /// File for the draft instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn tap(text: &str) -> Result<(String, String, u32), String> {
    let mut parts = text.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next().map(str::parse)) {
        (Some(host), Some(interface), Some(Ok(share))) => Ok((host.to_owned(), interface.to_owned(), share)),
        _ => Err("not of the form HOSTKEY:INTERFACE:PPM".to_owned()),
    }
}

/// Runs the verb.
///
/// # Errors
/// When a file cannot be read or written, or the end of the window is beyond the calendar.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let out = args.out.clone();
    let text = draft(args)?.text();
    match &out {
        Some(path) => std::fs::write(path, &text).with_context(|| path.display().to_string())?,
        None => print!("{text}"),
    }
    if let Err(error) = order::parse_unsigned(&text) {
        eprintln!("gwtap: not complete yet: {error}");
    }
    Ok(ExitCode::SUCCESS)
}

fn draft(args: Args) -> anyhow::Result<Draft> {
    let not_after = match (args.not_after, args.not_before, args.months) {
        (None, Some(start), Some(months)) => {
            Some(months_later(start, months).ok_or_else(|| anyhow!("--months: beyond the calendar"))?)
        }
        (given, _, _) => given,
    };
    let mut table = Vec::new();
    for path in &args.country_tables {
        table.extend(std::fs::read(path).with_context(|| path.display().to_string())?);
    }
    let country_table_sha256 = if table.is_empty() { String::new() } else { hex::encode(sha256(&table)) };
    let sealing_key = if args.sealing_key.is_empty() || parse_sha256(&args.sealing_key).is_some() {
        args.sealing_key
    } else {
        let text = std::fs::read_to_string(&args.sealing_key).with_context(|| args.sealing_key.clone())?;
        text.trim().to_owned()
    };
    Ok(Draft {
        measure: args.measure,
        basis: args.basis,
        acts: args.acts,
        not_before: args.not_before.map(in_jst).unwrap_or_default(),
        not_after: not_after.map(in_jst).unwrap_or_default(),
        previous: args.previous,
        authority: args.approval.or(args.notification).unwrap_or_default(),
        conditions: args.conditions,
        facility: args.facility,
        capacity_bits_per_second: args.capacity,
        share_ppm: args.share_ppm,
        sampling_ppm: args.sampling_ppm,
        taps: args.taps,
        standard: args.standard,
        approved_facilities: args.approved_facilities,
        party_prefixes: args.party_prefixes,
        country_table_sha256,
        country_table_oldest_date: args.country_table_oldest_date,
        clear_addresses: args.clear_addresses,
        prefix_preserving: args.prefix_preserving,
        domestic_conditions: args.domestic_conditions,
        key_epoch_days: args.key_epoch_days,
        endpoint: args.endpoint,
        further_endpoints: args.further_endpoints,
        names: args.names,
        sealing_key,
    })
}
