//! `gwtap loader`: what `gwtap run` starts beside itself; nobody types it.

use super::Refused;
use super::log::Log;
use crate::config::{Config, DEFAULT_FILE};
use crate::loader::{self, LoaderError};
use anyhow::{Context as _, bail};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Loads programs and renews leases for the agent that started it, on the sockets it was given as stdin and stdout.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
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
/// As the agent's; it shows them.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.log.begin()?;
    let config = Config::load(&args.config)?;
    let quick = std::io::stdin().as_fd().try_clone_to_owned().context("stdin")?;
    let slow = std::io::stdout().as_fd().try_clone_to_owned().context("stdout")?;
    match loader::serve(config, quick, slow) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(LoaderError::Refused(reason)) => Err(Refused::because(reason)),
        Err(LoaderError::Failed(reason)) => bail!("{reason}"),
    }
}
