//! `gwtap run`: the agent on the mirror host.

use super::Refused;
use crate::config::{Config, DEFAULT_FILE};
use crate::run::{self, RunError};
use anyhow::bail;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// The agent: verifies the order, attaches to the mirror port, delivers header records.
///
/// Without a valid order, selector set and activation it attaches nothing and exits 3. SIGTERM revokes the lease,
/// drains, delivers and detaches.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gwtap run
  gwtap run --config /etc/gwtap/gwtap.toml --log json
  GWTAP_LOG=debug gwtap run --config gwtap.toml")]
pub struct Args {
    /// Configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// How the log on stderr is written
    #[arg(long, value_enum, default_value_t = Log::Text)]
    log: Log,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Log {
    Text,
    Json,
}

/// Runs the verb.
///
/// # Errors
/// [`Refused`] when the rules refuse an input: nothing is attached then. Anything else failed at run time.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    log(args.log)?;
    let config = Config::load(&args.config)?;
    match run::run(config) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(RunError::Refused(reason)) => Err(Refused::because(reason)),
        Err(RunError::Failed(reason)) => bail!("{reason}"),
    }
}

/// Level from `GWTAP_LOG` (`info` without); no address, port or rule is ever logged.
fn log(form: Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("GWTAP_LOG").unwrap_or_else(|_unset| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let set = match form {
        Log::Text => builder.with_ansi(false).try_init(),
        Log::Json => builder.json().try_init(),
    };
    set.map_err(|error| anyhow::anyhow!("log: {error}"))
}
