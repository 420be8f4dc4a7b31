//! `gwtap doctor`: whether this machine can carry a tap.

use super::REFUSED;
use crate::config::DEFAULT_FILE;
use crate::doctor::{self, Report, State};
use crate::limits::DOCTOR_LOOK_SECONDS_MAX;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Checks this machine: kernel, memory, clock, leaks, mirror port, certificates, keys, disks, a stream's servers; says how to mend each.
///
/// It changes and attaches nothing. Run it as root, in the network namespace of the mirror port. Exit code 0: nothing stands
/// in the tap's way (there may be warnings). 3: a check failed, the tap would not start, record nothing or deliver nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gwtap doctor
  gwtap doctor --seconds 10
  gwtap doctor --json | jq '.checks[] | select(.state != \"ok\")'")]
pub struct Args {
    /// Configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// How long to watch the mirror port for frames; 0: not at all
    #[arg(long, value_name = "N", default_value_t = 2,
        value_parser = clap::value_parser!(u64).range(0..=DOCTOR_LOOK_SECONDS_MAX))]
    seconds: u64,
    /// One JSON object: `ready`, and `checks` with `check`, `state` (ok, warning, failed), `found`, `mend`
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// The report cannot be written as JSON.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let report = doctor::judge(&doctor::probe::machine(&args.config, Duration::from_secs(args.seconds)));
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", text(&report));
    }
    Ok(if report.ready { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// A line for each finding, and one for how to mend it.
fn text(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.checks {
        let state = match finding.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failed => "FAILED",
        };
        text += &format!("{state:<8} {:<16} {}\n", finding.check, finding.found);
        if let Some(mend) = &finding.mend {
            text += &format!("{:<25} mend: {mend}\n", "");
        }
    }
    let count = |state| report.checks.iter().filter(|finding| finding.state == state).count();
    let (failed, warnings) = (count(State::Failed), count(State::Warning));
    text + &format!("{} checks: {failed} failed, {warnings} warnings\n", report.checks.len())
}
