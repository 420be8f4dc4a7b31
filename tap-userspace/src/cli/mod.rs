//! The command line: one verb, one file. Each has `Args` and `run`, which returns the exit code.
//!
//! Exit codes: 0 done, 1 failure at run time, 2 wrong usage, 3 refused (an input that the rules refuse: order, selector
//! set, activation, key, clock), 4 done in part, as asked for (`selectors import --partial`).

use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod agent;
pub mod api;
pub mod audit;
#[cfg(feature = "laboratory")]
pub mod commission;
pub mod directive;
pub mod doctor;
#[cfg(feature = "laboratory")]
pub mod explain;
pub mod inspect;
pub mod keygen;
#[cfg(feature = "laboratory")]
mod laboratory_world;
mod loader;
pub mod log;
pub mod notices;
pub mod order;
mod order_new;
pub mod receive;
pub mod records;
#[cfg(feature = "laboratory")]
pub mod replay;
pub mod report;
pub mod run;
pub mod selectors;
mod selectors_edit;
pub mod selectors_import;
pub mod selectors_load;
mod selectors_seal;
pub mod selectors_versions;
mod selectors_withdraw;
pub mod status;
pub mod stop;

/// Exit code of a failure at run time.
pub const FAILED: u8 = 1;
/// Exit code of an input that the rules refuse.
pub const REFUSED: u8 = 3;
/// Exit code of an import whose set has a part of what was read, as asked for.
pub const PARTIAL: u8 = 4;

/// Header records of lawfully selected traffic from a mirror port, and nothing else.
#[derive(Debug, Parser)]
#[command(name = "gwtap", version, propagate_version = true, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Api(api::Args),
    Audit(audit::Args),
    #[cfg(feature = "laboratory")]
    Commission(commission::Args),
    Directive(directive::Args),
    Doctor(doctor::Args),
    #[cfg(feature = "laboratory")]
    Explain(explain::Args),
    Inspect(inspect::Args),
    Keygen(keygen::Args),
    #[command(hide = true)]
    Loader(loader::Args),
    Notices(notices::Args),
    Order(order::Args),
    Receive(receive::Args),
    Records(records::Args),
    #[cfg(feature = "laboratory")]
    Replay(replay::Args),
    Resume(stop::ResumeArgs),
    Report(report::Args),
    Run(run::Args),
    Selectors(selectors::Args),
    Status(status::Args),
    Stop(stop::Args),
}

/// An input that the rules refuse: ends the program with [`REFUSED`] instead of [`FAILED`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Refused {
    /// A refusal that says what `error` says.
    pub fn because(error: impl std::fmt::Display) -> anyhow::Error {
        Self(error.to_string()).into()
    }
}

/// The command line as a value, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    use clap::CommandFactory as _;
    Cli::command()
}

/// Runs the verb that the command line names; errors go to stderr as `gwtap: …`.
#[must_use]
pub fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    let result = match verb {
        Verb::Api(args) => api::run(args),
        Verb::Audit(args) => audit::run(args),
        #[cfg(feature = "laboratory")]
        Verb::Commission(args) => commission::run(args),
        Verb::Directive(args) => directive::run(args),
        Verb::Doctor(args) => doctor::run(&args),
        #[cfg(feature = "laboratory")]
        Verb::Explain(args) => explain::run(args),
        Verb::Inspect(args) => inspect::run(args),
        Verb::Keygen(args) => keygen::run(args),
        Verb::Loader(args) => loader::run(args),
        Verb::Notices(args) => notices::run(args),
        Verb::Order(args) => order::run(args),
        Verb::Receive(args) => receive::run(args),
        Verb::Records(args) => records::run(args),
        #[cfg(feature = "laboratory")]
        Verb::Replay(args) => replay::run(args),
        Verb::Resume(args) => stop::resume(args),
        Verb::Report(args) => report::run(args),
        Verb::Run(args) => run::run(args),
        Verb::Selectors(args) => selectors::run(args),
        Verb::Status(args) => status::run(args),
        Verb::Stop(args) => stop::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("gwtap: {error:#}");
        if error.is::<Refused>() { ExitCode::from(REFUSED) } else { ExitCode::from(FAILED) }
    })
}
