//! `gwtap records`: reads the store of a receiving facility.

mod format;

use crate::receive::read::{self, Entry, StoredRecord, Summary};
use crate::receive::statistics::Statistics;
use anyhow::Context as _;
use clap::Parser;
use jiff::Timestamp;
use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Shows the records in a receiving facility's store, in order of host, spool and sequence.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  gwtap records --store /var/lib/gwtap/store --limit 20
  gwtap records --store /var/lib/gwtap/store --measure m-1 --since 2026-11-01T00:00:00Z --csv > november.csv
  gwtap records --store /var/lib/gwtap/store --json | jq -r .rules[] | sort | uniq -c
  gwtap records --store /var/lib/gwtap/store --statistics

An address is clear (c), a pseudonym (d) that is the same for the same address, or a pseudonym (p) that keeps prefixes.
A rule is shown by its id, or as #INDEX where the store lacks the rule table of its generation.
It reads only: it may run beside `gwtap receive`.")]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Only records of this measure
    #[arg(long, value_name = "ID")]
    measure: Option<String>,
    /// Only records that this rule selected
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Only records from this moment on
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only records before this moment
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Instead of the records: how many each spool gave, how many numbers are missing, what the hosts declared
    #[arg(long, conflicts_with_all = ["csv", "limit"])]
    statistics: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Comma-separated values with a first line of names
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Show so many records at most
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// Runs the verb.
///
/// # Errors
/// A store that cannot be read, or is damaged.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.statistics {
        return statistics(&args);
    }
    let mut out = Out::begin(&args);
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut progress = Progress::of(&args)?;
    let mut summary = Summary::default();
    let mut shown = 0_u64;
    if left > 0 && out.written.is_ok() {
        let each = |stored: &StoredRecord| {
            if args.admits(stored) {
                out.show(stored);
                shown += 1;
                left -= 1;
            }
            left > 0 && out.written.is_ok()
        };
        summary = read::records_with(&args.store, each, |summary| progress.at(summary))?;
    }
    progress.end();
    if let Err(error) = out.end() {
        // Whoever reads has seen enough.
        if error.kind() == ErrorKind::BrokenPipe {
            return Ok(ExitCode::SUCCESS);
        }
        return Err(error).context("cannot write");
    }
    if !args.json && !args.csv {
        eprintln!("{shown} records of {} in {} messages", summary.records, summary.files);
        if summary.peer_files > 0 {
            eprintln!("{} messages of other exporters (under peers/) are not shown", summary.peer_files);
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn is_of(&self, measure: Option<&str>) -> bool {
        self.measure.as_deref().is_none_or(|wanted| measure == Some(wanted))
    }

    /// Whether a record is among those asked for.
    fn admits(&self, stored: &StoredRecord) -> bool {
        let time = i128::from(stored.record.time.0);
        self.is_of(stored.measure_id.as_deref())
            && self.rule.as_ref().is_none_or(|rule| stored.rules.contains(rule))
            && self.since.is_none_or(|since| since.as_nanosecond() <= time)
            && self.until.is_none_or(|until| time < until.as_nanosecond())
    }
}

fn statistics(args: &Args) -> anyhow::Result<ExitCode> {
    let mut statistics = Statistics::default();
    let mut progress = Progress::of(args)?;
    // What was declared is of all records of a measure: it says nothing of a part.
    let parts = args.rule.is_some() || args.since.is_some() || args.until.is_some();
    let each = |entry: &Entry| {
        match entry {
            Entry::Record(stored) if args.admits(stored) => statistics.add(stored),
            Entry::Declared(declared) if !parts && args.is_of(declared.measure_id.as_deref()) => {
                statistics.declare(declared);
            }
            Entry::Record(_) | Entry::Declared(_) => {}
        }
        true
    };
    read::entries_with(&args.store, each, |summary| progress.at(summary))?;
    progress.end();
    let mut out = io::stdout().lock();
    let written = if args.json { statistics.json(&mut out) } else { statistics.table(&mut out) };
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Where records are shown, and how; a failure ends the showing.
struct Out {
    how: How,
    written: io::Result<()>,
}

enum How {
    Json(BufWriter<io::Stdout>),
    Csv(Box<csv::Writer<io::Stdout>>),
    Table(BufWriter<io::Stdout>),
}

impl Out {
    fn begin(args: &Args) -> Self {
        let how = if args.json {
            How::Json(BufWriter::new(io::stdout()))
        } else if args.csv {
            How::Csv(Box::new(csv::Writer::from_writer(io::stdout())))
        } else {
            How::Table(BufWriter::new(io::stdout()))
        };
        let mut out = Self { how, written: Ok(()) };
        out.written = match &mut out.how {
            How::Json(_) => Ok(()),
            How::Csv(out) => format::csv_head(out).map_err(io::Error::from),
            How::Table(out) => format::head(out),
        };
        out
    }

    fn show(&mut self, stored: &StoredRecord) {
        self.written = match &mut self.how {
            How::Json(out) => format::json(out, stored),
            How::Csv(out) => format::csv_row(out, stored).map_err(io::Error::from),
            How::Table(out) => format::row(out, stored),
        };
    }

    fn end(self) -> io::Result<()> {
        self.written?;
        match self.how {
            How::Json(mut out) | How::Table(mut out) => out.flush(),
            How::Csv(mut out) => out.flush(),
        }
    }
}

/// How far a long reading is, on a terminal.
struct Progress {
    /// Messages in the store; `None`: nobody looks.
    files: Option<u64>,
    shown: Option<Instant>,
    began: Instant,
}

impl Progress {
    /// The first line, and the pause between two.
    const PAUSE: Duration = Duration::from_secs(1);

    fn of(args: &Args) -> anyhow::Result<Self> {
        let seen = io::stderr().is_terminal() && (args.statistics || !io::stdout().is_terminal());
        let files = if seen { Some(read::count(&args.store)?) } else { None };
        Ok(Self { files, shown: None, began: Instant::now() })
    }

    fn at(&mut self, summary: &Summary) {
        let Some(files) = self.files else { return };
        if self.shown.unwrap_or(self.began).elapsed() >= Self::PAUSE {
            self.shown = Some(Instant::now());
            eprint!("\r{} of {files} messages, {} records", summary.files, summary.records);
        }
    }

    fn end(&self) {
        if self.shown.is_some() {
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::read::tests::stored;

    #[test]
    fn a_record_is_shown_if_measure_rule_and_time_are_those_asked_for() {
        let stored = stored();
        let time = "2027-01-15T08:00:00.000000007Z";
        let later = "2027-01-15T08:00:00.000000008Z";
        for (words, is_admitted) in [
            (vec![], true),
            (vec!["--measure", "m-1"], true),
            (vec!["--measure", "m-2"], false),
            (vec!["--rule", "r1"], true),
            (vec!["--rule", "r"], false),
            (vec!["--since", time, "--until", later], true),
            (vec!["--since", later], false),
            (vec!["--until", time], false),
        ] {
            let args = Args::parse_from(["records", "--store", "store"].iter().chain(&words));
            assert_eq!(args.admits(&stored), is_admitted, "{words:?}");
        }
    }
}
