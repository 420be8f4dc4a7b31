//! `gwtap notices`: what the receiving facility told the Commission.

use super::Refused;
use crate::keys::PublicKey;
use crate::limits::NOTICE_LATE_SECONDS;
use crate::notice::outbox::{DIRECTORY, Kept, read_all};
use crate::notice::{Kind, Occasion};
use clap::Parser;
use jiff::{SignedDuration, Timestamp};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Lists the notices of a receiving facility and what was acknowledged; verifies every file.
#[derive(Debug, Parser)]
#[command(after_help = "Example:
  gwtap notices --store /var/lib/gwtap/store --key facility.pub --commission commission.pub

A state is one of: acknowledged, waiting, late (not acknowledged for as long as --late-seconds says).
Exit code 3 when a file is missing, altered or signed by another key; it is named.")]
pub struct Args {
    /// The receiving facility's store
    #[arg(long, value_name = "DIRECTORY")]
    store: PathBuf,
    /// The facility's public key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The public key that signs the Commission's acknowledgements
    #[arg(long, value_name = "FILE")]
    commission: PathBuf,
    /// Seconds after which a notice without acknowledgement is late
    #[arg(long, value_name = "N", default_value_t = NOTICE_LATE_SECONDS)]
    late_seconds: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// A file that cannot be read or does not hold.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let key = PublicKey::from_file(&args.key).map_err(Refused::because)?;
    let commission = PublicKey::from_file(&args.commission).map_err(Refused::because)?;
    let all = read_all(&args.store.join(DIRECTORY), &key, &commission).map_err(Refused::because)?;
    let late = Timestamp::now() - SignedDuration::from_secs(i64::from(args.late_seconds));
    let mut out = std::io::stdout().lock();
    if args.json {
        let all: Vec<_> = all.iter().map(|kept| json(kept, late)).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        for kept in &all {
            let notice = &kept.notice;
            let (kind, occasion) = (kind(notice.kind), occasion(&notice.occasion));
            writeln!(out, "{:>8}  {kind:<17}  {}  {occasion}  {}", notice.number, notice.measure, state(kept, late))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn state(kept: &Kept, late: Timestamp) -> &'static str {
    match &kept.acknowledgement {
        Some(_) => "acknowledged",
        None if kept.notice.time < late => "late",
        None => "waiting",
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Selection => "selection",
        Kind::DeIdentification => "de-identification",
    }
}

fn occasion(occasion: &Occasion) -> String {
    match occasion {
        Occasion::Day(day) => day.to_string(),
        Occasion::End(_) => "end".to_owned(),
    }
}

fn json(kept: &Kept, late: Timestamp) -> serde_json::Value {
    let notice = &kept.notice;
    serde_json::json!({
        "number": notice.number, "kind": kind(notice.kind), "measure": notice.measure,
        "day": occasion(&notice.occasion), "time": notice.time, "state": state(kept, late),
        "acknowledged": kept.acknowledgement.as_ref().map(|answer| answer.time),
    })
}
