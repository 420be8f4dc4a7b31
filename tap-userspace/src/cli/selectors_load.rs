//! `gwtap selectors load`: a running agent changes to a newly activated set while traffic flows.

use super::Refused;
use super::agent::Socket;
use crate::control::{Request, Response, client};
use anyhow::{Context as _, bail};
use std::path::PathBuf;
use std::process::ExitCode;

/// Change a running agent to a newly activated selector set, or to none, while traffic flows.
///
/// The agent checks the set against its order and the activation's two signatures; its number must be the last one's
/// plus one. What is refused changes nothing; measures beside it keep their sets either way.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gwtap selectors load --socket /run/gwtap/control.sock --set selectors-8.json --activation activation-8.note
  gwtap selectors load --withdrawal withdrawal-9.note
  gwtap selectors load --measure m-2 --set m-2-selectors-3.json --activation m-2-activation-3.note")]
pub struct Args {
    #[command(flatten)]
    socket: Socket,
    /// The measure it is for; needed where several run
    #[arg(long, value_name = "ID")]
    measure: Option<String>,
    /// The selector set (JSON)
    #[arg(long, value_name = "FILE", requires = "activation", required_unless_present = "withdrawal")]
    set: Option<PathBuf>,
    /// Its activation
    #[arg(long, value_name = "FILE", requires = "set")]
    activation: Option<PathBuf>,
    /// A withdrawal: nothing is looked for any more
    #[arg(long, value_name = "FILE", conflicts_with_all = ["set", "measure"])]
    withdrawal: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// [`Refused`] when the agent refuses the set; else a file or the agent cannot be reached.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let socket = args.socket.path()?;
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read as text", path.display()))
    };
    let request = match (&args.withdrawal, &args.set, &args.activation) {
        (Some(note), ..) => Request::SelectorsWithdraw { note: read(note)? },
        (None, Some(set), Some(activation)) => {
            Request::SelectorsLoad { measure: args.measure, set: read(set)?, activation: read(activation)? }
        }
        _ => return Err(Refused::because("either --set with --activation or --withdrawal is needed")),
    };
    match client::ask(&socket, &request)? {
        Response::Loaded(loaded) if args.json => println!("{}", serde_json::to_string(&loaded)?),
        Response::Loaded(loaded) => println!(
            "measure {}: generation {}: set version {} with {} rules, SHA-256 {}",
            loaded.measure, loaded.generation, loaded.set_version, loaded.rules, loaded.set_sha256
        ),
        Response::Refused { reason } => return Err(Refused::because(reason)),
        Response::Failed { reason } => bail!("{reason}"),
        Response::Done { done } if args.json => println!("{}", serde_json::json!({"done": done})),
        Response::Done { done } => done.iter().for_each(|line| println!("{line}")),
        Response::Status(_) => {
            bail!("the agent answered another question; is it of this version?")
        }
    }
    Ok(ExitCode::SUCCESS)
}
