//! Pages: man pages and completions, made of the command line itself. In: whether the laboratory verbs are there. Out: files
//! by name. `cargo xtask pages` writes them anywhere; packages take them from here.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Command;
use clap_complete::Shell;

/// Verbs that exist in the laboratory's program alone.
const LABORATORY_VERBS: [&str; 2] = ["explain", "replay"];

/// Arguments of `cargo xtask pages`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where man pages and completions go
    #[arg(long, value_name = "DIRECTORY")]
    out: PathBuf,
    /// Those of the mirror host's program, without the laboratory verbs
    #[arg(long)]
    mirror: bool,
}

pub(crate) fn pages(args: &Args) -> Result<ExitCode> {
    man(&args.out, !args.mirror)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        completion(&args.out, shell, !args.mirror)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A page for each verb.
pub(super) fn man(directory: &Path, laboratory: bool) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    Ok(clap_mangen::generate_to(command(laboratory), directory)?)
}

/// The completion for one shell, under the name that clap gives it.
pub(super) fn completion(directory: &Path, shell: Shell, laboratory: bool) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_complete::generate_to(shell, &mut command(laboratory), "gwtap", directory)?;
    Ok(())
}

/// The command line with the verbs that people type.
fn command(laboratory: bool) -> Command {
    let whole = tap_userspace::cli::command();
    let verbs: Vec<Command> = whole
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set() && (laboratory || !LABORATORY_VERBS.contains(&verb.get_name())))
        .cloned()
        .collect();
    let about = whole.get_about().cloned().unwrap_or_default();
    Command::new("gwtap").version(env!("CARGO_PKG_VERSION")).about(about).subcommand_required(true).subcommands(verbs)
}
