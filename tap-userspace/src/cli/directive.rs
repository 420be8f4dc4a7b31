//! `gwtap directive`: directives of the Commission are drafted, signed, checked, sent to a running agent and listed.

use super::agent::{Socket, ask};
use super::order::{read, refused, replace, trust};
use crate::control::{Request, Response, client};
use crate::directive::{self, Directive, Kind};
use crate::keys::{self, SecretKey};
use anyhow::bail;
use clap::{Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use std::path::PathBuf;
use std::process::ExitCode;

/// Directives of the Commission: stop a measure, lower its share, end it earlier. They only ever narrow.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  gwtap directive new --measure m-1 --order order.note --number 1 --kind stop --reason 'decision 12' --out 1.note
  gwtap directive new --measure m-1 --order order.note --number 2 --kind lower-share --share-ppm 100000 \\
      --reason 'decision 13' --out 2.note
  gwtap directive sign 2.note --key commission.key
  gwtap directive check 2.note --trust trust.toml
  gwtap directive send 2.note
  gwtap directive list")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Draft a directive
    New(NewArgs),
    /// Check a draft and add the Commission's signature to it
    Sign(SignArgs),
    /// Say whether a directive is of the Commission's and of the form; exit code 3 if not
    Check(CheckArgs),
    /// Hand a directive to a running agent
    Send(SendArgs),
    /// List what a running agent is bound by
    List(ListArgs),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindName {
    /// The measure ends now
    Stop,
    /// The facility's share is lower from now on
    LowerShare,
    /// The measure ends earlier
    Shorten,
}

#[derive(Debug, clap::Args)]
struct NewArgs {
    /// Id of the measure
    #[arg(long, value_name = "ID")]
    measure: String,
    /// The order in force
    #[arg(long, value_name = "FILE")]
    order: PathBuf,
    /// Higher than every earlier directive's of the measure
    #[arg(long)]
    number: u64,
    /// What is directed
    #[arg(long)]
    kind: KindName,
    /// The facility's new share, in parts per million of its capacity
    #[arg(long, value_name = "PPM", required_if_eq("kind", "lower-share"))]
    share_ppm: Option<u32>,
    /// First moment after the new end
    #[arg(long, value_name = "TIME", required_if_eq("kind", "shorten"))]
    not_after: Option<Timestamp>,
    /// Why, in one line
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// When it is issued, instead of now
    #[arg(long, value_name = "TIME")]
    issued: Option<Timestamp>,
    /// Write here
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct SignArgs {
    /// Draft, or directive with signatures
    file: PathBuf,
    /// Secret key to sign with
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Directive
    file: PathBuf,
    /// Trust roots: which key may sign in which role
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
}

#[derive(Debug, clap::Args)]
struct SendArgs {
    /// Directive
    file: PathBuf,
    #[command(flatten)]
    socket: Socket,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    socket: Socket,
    /// One JSON object a measure
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// A file or agent that cannot be reached, or [`super::Refused`] with the field that stands against the directive.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::New(args) => new(args),
        Verb::Sign(args) => sign(&args),
        Verb::Check(args) => check(&args),
        Verb::Send(args) => ask(&args.socket.path()?, &Request::Directive { note: read(&args.file)? }),
        Verb::List(args) => list(args),
    }
}

fn new(args: NewArgs) -> anyhow::Result<ExitCode> {
    let order = crate::order::parse_unsigned(&read(&args.order)?).map_err(|error| refused(&args.order, error))?;
    let kind = match (args.kind, args.share_ppm, args.not_after) {
        (KindName::Stop, None, None) => Kind::Stop,
        (KindName::LowerShare, Some(share_ppm), None) => Kind::LowerShare(share_ppm),
        (KindName::Shorten, None, Some(not_after)) => Kind::Shorten(not_after),
        _ => bail!("--share-ppm belongs to lower-share alone, --not-after to shorten alone"),
    };
    let directive = Directive {
        measure: args.measure,
        order_sha256: order.sha256,
        number: args.number,
        kind,
        reason: args.reason,
        issued: args.issued.unwrap_or_else(Timestamp::now),
    };
    let text = directive.text();
    Directive::parse_unsigned(&text).map_err(|error| refused(&args.out, error))?;
    replace(&args.out, &text)?;
    println!("{}: directive {} for measure {}: {}", args.out.display(), args.number, directive.measure, kind);
    Ok(ExitCode::SUCCESS)
}

fn sign(args: &SignArgs) -> anyhow::Result<ExitCode> {
    let text = read(&args.file)?;
    let directive = Directive::parse_unsigned(&text).map_err(|error| refused(&args.file, error))?;
    let key = SecretKey::from_file(&args.key)?;
    let note = keys::note::sign(&text, &key).map_err(|error| refused(&args.file, error))?;
    replace(&args.file, &note)?;
    println!("{}: directive {} signed by {}", args.file.display(), directive.number, key.public().name);
    Ok(ExitCode::SUCCESS)
}

fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let roots = trust(&args.trust)?.at(Timestamp::now());
    let directive = directive::verify(&read(&args.file)?, &roots).map_err(|error| refused(&args.file, error))?;
    println!(
        "{}: directive {} for measure {}: {} ({})",
        args.file.display(),
        directive.number,
        directive.measure,
        directive.kind,
        directive.reason
    );
    Ok(ExitCode::SUCCESS)
}

fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let Response::Status(status) = client::ask(&args.socket.path()?, &Request::Status)? else {
        bail!("the agent answered another question; is it of this version?")
    };
    for measure in &status.measures {
        let (id, of) = (&measure.order.measure, &measure.oversight);
        if args.json {
            println!("{}", serde_json::json!({"measure": id, "oversight": of}));
            continue;
        }
        for directive in &of.directives {
            println!(
                "measure {id}: directive {} of {}: {} ({})",
                directive.number, directive.issued, directive.kind, directive.reason
            );
        }
        if let Some(switch) = &of.kill_switch {
            println!("measure {id}: the carrier's kill switch since {}: {}", switch.since, switch.reason);
        }
        if of.directives.is_empty() && of.kill_switch.is_none() {
            println!("measure {id}: nothing beyond its order");
        }
    }
    Ok(ExitCode::SUCCESS)
}
