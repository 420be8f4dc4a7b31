//! `gwtap run`: the agent on the mirror host.

use super::Refused;
use super::log::Log;
use crate::config::{Config, DEFAULT_FILE};
use crate::loader::Loader;
use crate::privilege;
use crate::run::{self, RunError};
use crate::transport::nats;
use anyhow::bail;
use std::path::PathBuf;
use std::process::ExitCode;

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

/// Runs the verb.
///
/// # Errors
/// [`Refused`] when the rules refuse an input: nothing is attached then. Anything else failed at run time.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.log.begin()?;
    let config = Config::load(&args.config)?;
    privilege::leaks::check(&config.privilege).map_err(Refused::because)?;
    let loader = Loader::start(&args.config, args.log.word())?;
    privilege::confine(&config.privilege, &config.agent_needs()).map_err(Refused::because)?;
    if let Some(measure) = config.measures.iter().find(|measure| measure.export.stream().is_some()) {
        nats::no_system_authorities(&measure.export.ca_file);
    }
    match run::run(config, loader) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(RunError::Refused(reason)) => Err(Refused::because(reason)),
        Err(RunError::Failed(reason)) => bail!("{reason}"),
    }
}
