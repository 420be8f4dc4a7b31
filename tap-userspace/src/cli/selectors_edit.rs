//! `gwtap selectors edit`: what is new in a set, for a tap that has the set before.

use super::Refused;
use super::order::{read, refused, replace};
use crate::selectors::SelectorSet;
use crate::selectors::edited::edit;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write what is new in a set beside the one that decides: an edit, which travels instead of the whole.
///
/// The activation is of the new set's digest, and the approver reads the new set. An edit is taken where a set is handed to a running
/// tap: `gwtap selectors load`, `gwtap api propose`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gwtap selectors edit set-8.json --base set-7.json --out set-8.edit")]
pub(super) struct Args {
    /// The new selector set (JSON)
    set: PathBuf,
    /// The set that decides (JSON)
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// The edit; a file that is there is not replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// A file that cannot be read or written, or [`Refused`].
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (base, text) = (read(&args.base)?, read(&args.set)?);
    SelectorSet::from_json(base.as_bytes()).map_err(|error| refused(&args.base, error))?;
    let set = SelectorSet::from_json(text.as_bytes()).map_err(|error| refused(&args.set, error))?;
    if args.out.exists() {
        return Err(Refused::because(format!("--out: {} is there already", args.out.display())));
    }
    let edit = edit(&base, &text)?;
    replace(&args.out, &edit)?;
    let (places, bytes) = (edit.lines().count().saturating_sub(2), edit.len());
    println!("{}: set {}: {places} places, {bytes} bytes", args.out.display(), hex::encode(set.sha256));
    Ok(ExitCode::SUCCESS)
}
