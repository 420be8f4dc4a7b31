//! `gwtap stop` and `gwtap resume`: the carrier's kill switch, by the agent's control socket.

use super::agent::{Socket, ask};
use crate::control::Request;
use std::process::ExitCode;

/// The carrier's kill switch: a running agent stops selecting within a second, and does not start again by itself.
///
/// It is kept with its reason across restarts, and shown in the status, the metrics and the audit log, until `gwtap resume`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gwtap stop --reason 'maintenance of the router, ticket 4711'
  gwtap stop --measure m-2 --reason 'complaint under review'")]
pub struct Args {
    #[command(flatten)]
    switch: Switch,
}

/// Take the carrier's kill switch back. What the Commission has directed stays in force.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gwtap resume --reason 'maintenance is over, ticket 4711'")]
pub struct ResumeArgs {
    #[command(flatten)]
    switch: Switch,
}

#[derive(Debug, clap::Args)]
struct Switch {
    /// Why: one line, kept and logged
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The measure it is for; all of them if none is named
    #[arg(long, value_name = "ID")]
    measure: Option<String>,
    #[command(flatten)]
    socket: Socket,
}

/// Runs `gwtap stop`.
///
/// # Errors
/// [`super::Refused`] when the agent refuses; else it cannot be reached, or could not do it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Switch { reason, measure, socket } = args.switch;
    ask(&socket.path()?, &Request::Stop { measure, reason })
}

/// Runs `gwtap resume`.
///
/// # Errors
/// As [`run`].
pub fn resume(args: ResumeArgs) -> anyhow::Result<ExitCode> {
    let Switch { reason, measure, socket } = args.switch;
    ask(&socket.path()?, &Request::Resume { measure, reason })
}
