//! `gwtap audit`: the audit log is shown, verified, proved from and witnessed. Reads only; the agent alone writes a log.

use super::{Refused, order};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::leaf::Entry;
use crate::audit::proof::{self, Claim, Proof};
use crate::audit::witness::Witness;
use crate::audit::{LogError, cosignature, read, verify};
use crate::keys::{PublicKey, SecretKey};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Shows, verifies and proves the audit log, and cosigns its checkpoints as a witness.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  gwtap audit show /var/lib/gwtap/log --act activation
  gwtap audit verify /var/lib/gwtap/log --key mirror-1.log.pub
  gwtap audit prove /var/lib/gwtap/log --entry 17 --out entry-17.tlog-proof
  gwtap audit verify --proof entry-17.tlog-proof --key mirror-1.log.pub
  gwtap audit prove /var/lib/gwtap/log --old 0 --out request
  gwtap audit witness request --log-key mirror-1.log.pub --key witness.key --state witnessed/ --out cosigned
  gwtap audit verify /var/lib/gwtap/log --key mirror-1.log.pub --old cosigned --witness witness.pub

Exit code 3: the log, proof or checkpoint is not what it claims to be; the message names the first bad entry or tile.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the log's entries; nothing is verified
    Show(Show),
    /// Verify a whole log, or a proof, with public keys alone
    Verify(Verify),
    /// Write a proof that an entry is in the log, or that the log continues an earlier one
    Prove(Prove),
    /// Cosign a checkpoint, if the log has only grown since the last one cosigned
    Witness(Cosign),
}

#[derive(Debug, clap::Args)]
struct Show {
    /// The log's directory
    log: PathBuf,
    /// Only from this entry on
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    from: u64,
    /// Only entries of this act, for instance activation
    #[arg(long, value_name = "NAME")]
    act: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// The log's directory
    #[arg(required_unless_present = "proof", conflicts_with = "proof")]
    log: Option<PathBuf>,
    /// A proof instead of a whole log
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    /// Public key of the log
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// An earlier checkpoint: the log must be its continuation; a proof of consistency must begin there
    #[arg(long, value_name = "FILE")]
    old: Option<PathBuf>,
    /// Public key of a witness who must have cosigned: the earlier checkpoint if there is one, else the log's (repeatable)
    #[arg(long = "witness", value_name = "FILE")]
    witnesses: Vec<PathBuf>,
    /// One JSON object instead of a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Prove {
    /// The log's directory
    log: PathBuf,
    /// Prove that this entry is in the log (C2SP tlog-proof; the entry itself is in it)
    #[arg(long, value_name = "NUMBER", required_unless_present = "old", conflicts_with = "old")]
    entry: Option<u64>,
    /// Prove that the log continues its first SIZE entries (C2SP tlog-witness request)
    #[arg(long, value_name = "SIZE")]
    old: Option<u64>,
    /// File to write instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Cosign {
    /// Proof of consistency from the last size that was cosigned (0 at first): gwtap audit prove --old SIZE
    request: PathBuf,
    /// Public key of the log
    #[arg(long, value_name = "FILE")]
    log_key: PathBuf,
    /// Secret key of the witness
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Directory in which the witness keeps what it cosigned last
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Write the cosigned checkpoint here; without it the cosignature line is printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// A file that cannot be read or written, or [`Refused`] with what is wrong with the log.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Show(args) => show(&args),
        Verb::Verify(args) => check(&args),
        Verb::Prove(args) => prove(&args),
        Verb::Witness(args) => witness(&args),
    }
}

/// A file that is missing or unreadable is a failure; one that is not what it claims to be is refused.
fn outcome(error: LogError) -> anyhow::Error {
    if matches!(error, LogError::Io { .. } | LogError::Busy(_)) { error.into() } else { Refused::because(error) }
}

fn show(args: &Show) -> anyhow::Result<ExitCode> {
    read::entries(&args.log, args.from, |number, bytes| {
        let entry: Option<Entry> = serde_json::from_slice(bytes).ok();
        let act = entry.as_ref().map(|entry| entry.act.name());
        if args.act.is_some() && args.act != act {
            return;
        }
        let raw: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        if args.json {
            println!("{}", json!({"entry": number, "content": raw}));
            return;
        }
        match entry {
            Some(entry) => println!("{number:>7}  {}  {}", entry.time, line(&entry)),
            None => println!("{number:>7}  an act that this version does not know: {raw}"),
        }
    })
    .map_err(outcome)?;
    Ok(ExitCode::SUCCESS)
}

/// An act in one line: its name, then its fields.
fn line(entry: &Entry) -> String {
    let fields = match serde_json::to_value(&entry.act) {
        Ok(serde_json::Value::Object(act)) => act.into_iter().next().map(|(_, fields)| fields),
        _ => None,
    };
    let fields = fields.as_ref().and_then(serde_json::Value::as_object).into_iter().flatten();
    let fields: String = fields.map(|(name, value)| format!(" {name}={value}")).collect();
    format!("{}{fields}", entry.act.name())
}

fn check(args: &Verify) -> anyhow::Result<ExitCode> {
    let key = PublicKey::from_file(&args.key)?;
    let old = args.old.as_deref().map(|path| earlier(path, &key)).transpose()?;
    let (what, note, checkpoint, claim) = match (&args.log, &args.proof) {
        (Some(log), _) => {
            let verified = verify::verify(log, &key).map_err(outcome)?;
            if let Some((_, old)) = &old {
                verify::continues(log, &verified, old).map_err(outcome)?;
            }
            (log, verified.note, verified.checkpoint, None)
        }
        (None, Some(file)) => {
            let what = file.display().to_string();
            let proof = Proof::parse(&order::read(file)?, &what).map_err(outcome)?;
            let old = old.as_ref().map(|(_, old)| old);
            let checkpoint = proof.verify(&key, old, &what).map_err(outcome)?;
            (file, proof.checkpoint, checkpoint, Some(proof.claim))
        }
        (None, None) => anyhow::bail!("name a log, or --proof FILE"),
    };
    let cosigned = old.as_ref().map_or(note, |(note, _)| note.clone());
    let mut witnesses = Vec::new();
    for path in &args.witnesses {
        let witness = PublicKey::from_file(path)?;
        let unix_s = cosignature::verify(&cosigned, &witness, "the checkpoint").map_err(outcome)?;
        witnesses.push((witness.name, Timestamp::from_second(i64::try_from(unix_s)?)?));
    }
    tell(args, what, &checkpoint, claim.as_ref(), &witnesses)
}

fn tell(
    args: &Verify,
    what: &Path,
    checkpoint: &Checkpoint,
    claim: Option<&Claim>,
    witnesses: &[(String, Timestamp)],
) -> anyhow::Result<ExitCode> {
    let (origin, size, root) = (&checkpoint.origin, checkpoint.size, hex::encode(checkpoint.root));
    if args.json {
        let witnesses: Vec<_> = witnesses.iter().map(|(name, time)| json!({"name": name, "time": time})).collect();
        let claim = claim.map(|claim| match claim {
            Claim::Inclusion { index, entry } => {
                json!({"entry": index, "content": serde_json::from_slice::<serde_json::Value>(entry).unwrap_or_default()})
            }
            Claim::Consistency { old } => json!({"old": old}),
        });
        println!(
            "{}",
            json!({"log": origin, "entries": size, "root": root, "good": true, "proof": claim, "witnesses": witnesses})
        );
        return Ok(ExitCode::SUCCESS);
    }
    match claim {
        None => println!("{}: {size} entries of the log {origin} are good, root {root}", what.display()),
        Some(Claim::Inclusion { index, entry }) => {
            println!("{}: entry {index} is in the log {origin} of {size} entries:", what.display());
            println!("{}", String::from_utf8_lossy(entry));
        }
        Some(Claim::Consistency { old }) => {
            println!("{}: the log {origin} of {size} entries continues the one of {old}", what.display());
        }
    }
    for (name, time) in witnesses {
        println!("cosigned by {name} at {time}");
    }
    Ok(ExitCode::SUCCESS)
}

/// An earlier checkpoint: its note, and what the log's key signed in it.
fn earlier(path: &Path, key: &PublicKey) -> anyhow::Result<(String, Checkpoint)> {
    let note = order::read(path)?;
    let checkpoint = Checkpoint::verify(&note, key, &path.display().to_string()).map_err(outcome)?;
    Ok((note, checkpoint))
}

fn prove(args: &Prove) -> anyhow::Result<ExitCode> {
    let proof = match (args.entry, args.old) {
        (Some(entry), _) => proof::inclusion(&args.log, entry),
        (None, old) => proof::consistency(&args.log, old.unwrap_or_default()),
    };
    let text = proof.map_err(outcome)?.text();
    match &args.out {
        Some(out) => order::replace(out, &text)?,
        None => print!("{text}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn witness(args: &Cosign) -> anyhow::Result<ExitCode> {
    let request = Proof::parse(&order::read(&args.request)?, &args.request.display().to_string()).map_err(outcome)?;
    let (log, key) = (PublicKey::from_file(&args.log_key)?, SecretKey::from_file(&args.key)?);
    let witness = Witness::open(&args.state).map_err(outcome)?;
    let now = u64::try_from(Timestamp::now().as_second()).context("the clock is before 1970")?;
    let line = witness.cosign(&request, &log, &key, now).map_err(outcome)?;
    match &args.out {
        Some(out) => {
            order::replace(out, &format!("{}{line}", request.checkpoint))?;
            println!("{}: cosigned by {}", out.display(), key.public().name);
        }
        None => print!("{line}"),
    }
    Ok(ExitCode::SUCCESS)
}
