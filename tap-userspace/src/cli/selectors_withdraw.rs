//! `gwtap selectors withdraw`: one person signs that a measure looks for nothing any more.

use super::Refused;
use super::order::{read, refused, replace};
use crate::keys::{self, Role, SecretKey};
use crate::order;
use crate::selectors::withdrawal::Withdrawal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Sign a withdrawal: the measure looks for nothing until a later activation. One author or approver suffices.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gwtap selectors withdraw --order order.toml --number 8 --key approver.key --out withdrawal-8.note
  gwtap selectors load --withdrawal withdrawal-8.note")]
pub(super) struct Args {
    /// Order, signed or a draft
    #[arg(long, value_name = "FILE")]
    order: PathBuf,
    /// Number: the last activation's or withdrawal's plus 1
    #[arg(long)]
    number: u64,
    /// Secret key of an author or approver
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The withdrawal; a file that is there is not replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// A file that cannot be read or written, or [`Refused`].
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let order = order::parse_unsigned(&read(&args.order)?).map_err(|error| refused(&args.order, error))?;
    if args.out.exists() {
        return Err(Refused::because(format!("--out: {} is there already", args.out.display())));
    }
    let withdrawal = Withdrawal { measure: order.measure.id.clone(), order_sha256: order.sha256, number: args.number };
    let key = SecretKey::from_file(&args.key)?;
    let note = keys::note::sign(&withdrawal.text(), &key).map_err(|error| refused(&args.out, error))?;
    replace(&args.out, &note)?;
    println!(
        "{}: withdrawal {} of measure {} signed by {}; it counts if that is a {} or {} key",
        args.out.display(),
        withdrawal.number,
        withdrawal.measure,
        key.public().name,
        Role::SelectorAuthor,
        Role::SelectorApprover
    );
    Ok(ExitCode::SUCCESS)
}
