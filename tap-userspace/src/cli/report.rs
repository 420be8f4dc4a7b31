//! `gwtap report`: what the cap statements and the log show, per measure and month in Japan.

use super::Refused;
use crate::audit::leaf::Entry;
use crate::audit::{read, verify};
use crate::keys::PublicKey;
use crate::report::{Month, by_month};
use crate::statement::read_all;
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What was observed, admitted and selected, by measure and month (JST), from the signed hourly statements; each is verified.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gwtap report --statements /var/lib/gwtap/statements --key host.pub
  gwtap report --statements /var/lib/gwtap/statements --key host.pub --log /var/lib/gwtap/log --log-key mirror-1.log.pub
  gwtap report --statements /var/lib/gwtap/statements --key host.pub --json | jq '.[] | select(.exceeded)'")]
pub struct Args {
    /// Directory of the statements: `statements` below `[state] directory`
    #[arg(long, value_name = "DIRECTORY")]
    statements: PathBuf,
    /// Public key of the host
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The audit log: its acts are counted too, and must name the same statements
    #[arg(long, value_name = "DIRECTORY", requires = "log_key")]
    log: Option<PathBuf>,
    /// Public key of the log
    #[arg(long, value_name = "FILE", requires = "log")]
    log_key: Option<PathBuf>,
    /// One JSON array
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// A file cannot be read; [`Refused`] names the first statement that does not hold.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let key = PublicKey::from_file(&args.key)?;
    let entries = std::fs::read_dir(&args.statements).with_context(|| args.statements.display().to_string())?;
    let mut directories = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    directories.sort();
    let mut statements = Vec::new();
    for directory in directories {
        statements.extend(read_all(&directory, &key).map_err(Refused::because)?);
    }
    let log = args.log.as_deref().zip(args.log_key.as_deref());
    let acts = log.map(|(log, key)| log_entries(log, key)).transpose()?;
    let months = by_month(&statements, acts.as_deref().unwrap_or_default());
    if acts.is_some() {
        agree(&months)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&months)?);
    } else {
        months.iter().for_each(|month| print!("{}", row(month, acts.is_some())));
    }
    Ok(ExitCode::SUCCESS)
}

/// The entries of a log, every one verified.
fn log_entries(log: &Path, key: &Path) -> anyhow::Result<Vec<Entry>> {
    verify::verify(log, &PublicKey::from_file(key)?).map_err(Refused::because)?;
    let mut entries = Vec::new();
    read::entries(log, 0, |_, bytes| entries.extend(serde_json::from_slice(bytes).ok()))?;
    Ok(entries)
}

/// What the statements show is what the log says was stated.
fn agree(months: &[Month]) -> anyhow::Result<()> {
    match months.iter().find(|month| month.statements != month.acts.statements) {
        None => Ok(()),
        Some(month) => Err(Refused::because(format!(
            "{} {}: {} statements, the log names {}",
            month.of, month.month, month.statements, month.acts.statements
        ))),
    }
}

fn row(month: &Month, with_acts: bool) -> String {
    let (counted, acts) = (&month.counted, &month.acts);
    let mut row = format!(
        "{} {}: {} statements, {} with more than the ordered share; {} packets observed, {} admitted ({} bytes), {} refused by \
         the cap, {} selected; {} lost before the program\n",
        month.of,
        month.month,
        month.statements,
        month.exceeding_statements,
        counted.observed_packets,
        counted.admitted_packets,
        counted.admitted_bytes,
        counted.over_cap_packets,
        counted.selected_packets,
        counted.interface_dropped_packets,
    );
    if with_acts {
        row += &format!(
            "  {} orders, {} selector sets activated, {} directives, {} kill switches, {} leases lost, cap reached in {} minutes\n",
            acts.orders, acts.activations, acts.directives, acts.kill_switches, acts.leases_lost, acts.caps_reached,
        );
    }
    row
}
