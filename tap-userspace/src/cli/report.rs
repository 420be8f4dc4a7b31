//! `gwtap report`: what the cap statements show, per measure and month in Japan.

use super::Refused;
use crate::keys::PublicKey;
use crate::statement::{Counts, Statement, read_all};
use anyhow::Context as _;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// What was observed, admitted and selected, by measure and month (JST), from the signed hourly statements; each is verified.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gwtap report --statements /var/lib/gwtap/statements --key host.pub
  gwtap report --statements /var/lib/gwtap/statements --key host.pub --json | jq '.[] | select(.exceeded)'")]
pub struct Args {
    /// Directory of the statements: `statements` below `[state] directory`
    #[arg(long, value_name = "DIRECTORY")]
    statements: PathBuf,
    /// Public key of the host
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// One JSON array
    #[arg(long)]
    json: bool,
}

/// A measure's month.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Month {
    /// Measure, or the facility.
    of: String,
    /// Year and month in Japan in which the statements' times begin.
    month: String,
    /// Statements.
    statements: u64,
    /// Statements that show more than the ordered share in a second or longer.
    exceeding_statements: u64,
    /// Whether there is one.
    exceeded: bool,
    /// What was counted.
    counted: Counts,
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
    let mut months = Vec::new();
    for directory in directories {
        months.extend(by_month(&read_all(&directory, &key).map_err(Refused::because)?));
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&months)?);
    } else {
        months.iter().for_each(|month| print!("{}", row(month)));
    }
    Ok(ExitCode::SUCCESS)
}

fn by_month(statements: &[Statement]) -> Vec<Month> {
    let japan = TimeZone::fixed(jiff::tz::offset(9));
    let mut months: BTreeMap<String, Month> = BTreeMap::new();
    for statement in statements {
        let name = statement.from.to_zoned(japan.clone()).strftime("%Y-%m").to_string();
        let month = months.entry(name.clone()).or_default();
        (month.of, month.month) = (statement.of.clone(), name);
        month.statements += 1;
        month.exceeding_statements += u64::from(statement.exceeded());
        month.exceeded |= statement.exceeded();
        month.counted = month.counted.plus(&statement.counted);
    }
    months.into_values().collect()
}

fn row(month: &Month) -> String {
    let counted = &month.counted;
    format!(
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
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{Most, VERSION};

    #[test]
    fn months_are_japans_and_a_second_above_the_share_is_shown() {
        let statement = |from: &str, bytes| Statement {
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
        };
        let months = by_month(&[
            statement("2026-11-30T14:00:00Z", 300),
            statement("2026-11-30T15:00:00Z", 300),
            statement("2026-12-01T00:00:00Z", 301),
        ]);
        let shown: Vec<_> =
            months.iter().map(|m| (m.month.as_str(), m.statements, m.exceeded, m.counted.selected_packets)).collect();
        assert_eq!(shown, [("2026-11", 1, false, 2), ("2026-12", 2, true, 4)]);
        assert!(row(&months[1]).contains("2 statements, 1 with more than the ordered share"));
    }
}
