//! `gwtap selectors seal`: a set becomes a file that one mirror host alone reads.

use super::Refused;
use super::order::{read, refused, replace};
use crate::keys::pseudonym::SealingPublic;
use crate::selectors::SelectorSet;
use crate::selectors::sealed::seal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Seal a set to a mirror host: whoever carries the file, or runs the host, does not read what is looked for.
///
/// The activation is of the clear set's digest. Sealed or clear, a set is taken wherever one is: `set_file` of the
/// configuration, `gwtap selectors load`, `gwtap api propose`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gwtap selectors seal set-8.json --to mirror-1.seal.pub --out set-8.sealed")]
pub(super) struct Args {
    /// Selector set (JSON)
    set: PathBuf,
    /// The host's public sealing key (NAME.seal.pub)
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// The sealed set; a file that is there is not replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// A file that cannot be read or written, or [`Refused`].
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = read(&args.set)?;
    let set = SelectorSet::from_json(text.as_bytes()).map_err(|error| refused(&args.set, error))?;
    let to = SealingPublic::read(&args.to).map_err(Refused::because)?;
    if args.out.exists() {
        return Err(Refused::because(format!("--out: {} is there already", args.out.display())));
    }
    replace(&args.out, &seal(&text, &to)?)?;
    println!("{}: set {} sealed", args.out.display(), hex::encode(set.sha256));
    Ok(ExitCode::SUCCESS)
}
