//! Which running agent a verb speaks to, and how it asks one.

use super::Refused;
use crate::config::{Config, Control};
use crate::control::{Request, Response, client};
use anyhow::bail;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The agent's control socket, as every verb that speaks to an agent names it.
#[derive(Debug, clap::Args)]
pub(super) struct Socket {
    /// The agent's control socket
    #[arg(long, conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// Configuration that names the socket
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Socket {
    /// The socket that was named, or the configuration's, or the default one.
    ///
    /// # Errors
    /// The configuration cannot be read.
    pub(super) fn path(self) -> anyhow::Result<PathBuf> {
        Ok(match (self.socket, self.config) {
            (Some(socket), _) => socket,
            (None, Some(file)) => Config::load(&file)?.control.socket,
            (None, None) => Control::default().socket,
        })
    }
}

/// Asks the agent for something that it answers in words.
///
/// # Errors
/// [`Refused`] when the agent refuses; else it cannot be reached, or could not do it.
pub(super) fn ask(socket: &Path, request: &Request) -> anyhow::Result<ExitCode> {
    match client::ask(socket, request)? {
        Response::Done { done } => done.iter().for_each(|line| println!("{line}")),
        Response::Refused { reason } => return Err(Refused::because(reason)),
        Response::Failed { reason } => bail!("{reason}"),
        Response::Status(_) | Response::Loaded(_) => {
            bail!("the agent answered another question; is it of this version?")
        }
    }
    Ok(ExitCode::SUCCESS)
}
