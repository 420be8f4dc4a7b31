//! `gwtap api`: a tap is asked from afar, by its control API.

use super::Refused;
use super::order::{read, refused, replace};
use crate::control::api::client::{Answered, Call, CallError, Client, body};
use crate::control::api::wire::{Contents, Differing, Done, Noted, Proposing, Reasoned, Versions};
use crate::control::{Loaded, status::Status};
use crate::keys::{self, SecretKey, parse_sha256};
use crate::order;
use crate::selectors::Activation;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Ask a running tap from afar, by its control API: see docs/control-api.md.
///
/// Every verb takes the client's file: endpoint, server_name, ca_file, certificate_file, key_file.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  gwtap api --client author.toml list --measure m-1
  gwtap api --client author.toml propose --set set-8.json --activation activation-8.note
  gwtap api --client approver.toml contents --measure m-1 --out proposed.json
  gwtap api --client approver.toml approve --measure m-1 --set proposed.json --key approver.key
  gwtap api --client approver.toml activate --measure m-1 --number 8
  gwtap api --client carrier.toml stop --reason 'ticket 4711'")]
pub struct Args {
    /// The client's file (TOML)
    #[arg(long, value_name = "FILE", global = true, default_value = "gwtap-client.toml")]
    client: PathBuf,
    /// The answer as it came: one JSON object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// How the tap is
    Status,
    /// Which sets a measure has: what decides, what is proposed, what can be gone back to
    List(Of),
    /// Write a set's text: the proposed one's, or the one with this digest (author and approver)
    Contents(ContentsArgs),
    /// How many indicators two of the measure's sets do not share
    Diff(DiffArgs),
    /// Offer a set that the author has signed to the approver (author)
    Propose(ProposeArgs),
    /// Take the proposal away (author and approver)
    Discard(Of),
    /// Sign the proposal as the second person, holding the set that was read against it (approver)
    Approve(ApproveArgs),
    /// Let the approved proposal decide (author and approver)
    Activate(ActivateArgs),
    /// Propose a set that the tap has kept, under the next number (author)
    Rollback(RollbackArgs),
    /// End what a measure looks for, by a note of `gwtap selectors withdraw` (author or approver)
    Withdraw(WithdrawArgs),
    /// Hand over a directive of the Commission (operator, auditor)
    Directive(NoteArgs),
    /// The carrier's kill switch (operator)
    Stop(ReasonArgs),
    /// Take the kill switch back (operator)
    Resume(ReasonArgs),
}

#[derive(Debug, clap::Args)]
struct Of {
    /// The measure
    #[arg(long, value_name = "ID")]
    measure: String,
}

#[derive(Debug, clap::Args)]
struct ContentsArgs {
    #[command(flatten)]
    of: Of,
    /// Digest of the set; the proposed one if left out
    #[arg(long, value_name = "SHA256")]
    digest: Option<String>,
    /// Write here; a file that is there is not replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct DiffArgs {
    #[command(flatten)]
    of: Of,
    /// Digest of the set before
    first: String,
    /// Digest of the set after
    second: String,
}

#[derive(Debug, clap::Args)]
struct ProposeArgs {
    /// The selector set (JSON)
    #[arg(long, value_name = "FILE")]
    set: PathBuf,
    /// Its activation, with the author's signature
    #[arg(long, value_name = "FILE")]
    activation: PathBuf,
}

#[derive(Debug, clap::Args)]
struct ApproveArgs {
    #[command(flatten)]
    of: Of,
    /// The set as the approver has read it: it must be the proposed one
    #[arg(long, value_name = "FILE")]
    set: PathBuf,
    /// The approver's secret key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Debug, clap::Args)]
struct ActivateArgs {
    #[command(flatten)]
    of: Of,
    /// The proposal's number, as it was approved
    #[arg(long)]
    number: u64,
}

#[derive(Debug, clap::Args)]
struct RollbackArgs {
    #[command(flatten)]
    of: Of,
    /// Digest of the kept set
    #[arg(long, value_name = "SHA256")]
    to: String,
    /// Order, signed or a draft
    #[arg(long, value_name = "FILE")]
    order: PathBuf,
    /// First moment at which the activation is over; the order's end if left out
    #[arg(long, value_name = "TIME")]
    valid_until: Option<jiff::Timestamp>,
    /// The author's secret key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Debug, clap::Args)]
struct WithdrawArgs {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    note: NoteArgs,
}

#[derive(Debug, clap::Args)]
struct NoteArgs {
    /// The signed note
    #[arg(long, value_name = "FILE")]
    note: PathBuf,
}

#[derive(Debug, clap::Args)]
struct ReasonArgs {
    /// Why: one line, kept and logged
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The measure; all of them if none is named
    #[arg(long, value_name = "ID")]
    measure: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// [`Refused`] when the tap refuses the call; else a file or the tap cannot be reached.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = Client::load(&args.client)?;
    let (answered, text) = answer(&client, &args.verb).map_err(|error| match error.downcast::<CallError>() {
        Ok(CallError::Problem(problem)) if problem.status < 500 => Refused::because(CallError::Problem(problem)),
        Ok(other) => other.into(),
        Err(error) => error,
    })?;
    if args.json {
        println!("{}", String::from_utf8_lossy(&answered.body))
    } else {
        print!("{text}")
    }
    Ok(ExitCode::SUCCESS)
}

/// The answer, and what of it a person reads.
fn answer(client: &Client, verb: &Verb) -> anyhow::Result<(Answered, String)> {
    Ok(match verb {
        Verb::Status => {
            let answered = client.call(&get("/v1/status"))?;
            let text = super::status::table(&answered.as_json::<Status>()?);
            (answered, text)
        }
        Verb::List(of) => versions(client.call(&get(&path(&of.measure, "selectors")))?)?,
        Verb::Contents(args) => contents(client, args)?,
        Verb::Diff(DiffArgs { of, first, second }) => {
            let path = path(&of.measure, &format!("selectors/{first}/difference/{second}"));
            let answered = client.call(&get(&path))?;
            let Differing { added, removed, kept, .. } = answered.as_json()?;
            (answered, format!("{added} added, {removed} removed, {kept} kept\n"))
        }
        Verb::Propose(args) => propose(client, args)?,
        Verb::Discard(Of { measure }) => {
            let (_, etag) = client.versions(measure)?;
            let path = path(measure, "proposal");
            versions(client.call(&Call { method: "DELETE", path: &path, etag: Some(&etag), body: None })?)?
        }
        Verb::Approve(args) => approve(client, args)?,
        Verb::Activate(args) => activate(client, args)?,
        Verb::Rollback(args) => rollback(client, args)?,
        Verb::Withdraw(WithdrawArgs { of, note }) => {
            done(client, &path(&of.measure, "withdrawal"), &Noted { note: read(&note.note)? })?
        }
        Verb::Directive(args) => done(client, "/v1/directives", &Noted { note: read(&args.note)? })?,
        Verb::Stop(args) => done(client, "/v1/stop", &reasoned(args))?,
        Verb::Resume(args) => done(client, "/v1/resume", &reasoned(args))?,
    })
}

fn get(path: &str) -> Call<'_> {
    Call { method: "GET", path, etag: None, body: None }
}

fn path(measure: &str, rest: &str) -> String {
    format!("/v1/measures/{measure}/{rest}")
}

fn reasoned(args: &ReasonArgs) -> Reasoned {
    Reasoned { measure: args.measure.clone(), reason: args.reason.clone() }
}

fn done(client: &Client, path: &str, of: &impl serde::Serialize) -> anyhow::Result<(Answered, String)> {
    let answered = client.call(&Call { method: "POST", path, etag: None, body: body(of)? })?;
    let Done { done } = answered.as_json()?;
    Ok((answered, done.iter().map(|line| format!("{line}\n")).collect()))
}

fn versions(answered: Answered) -> anyhow::Result<(Answered, String)> {
    let versions: Versions = answered.as_json()?;
    let mut text = match &versions.set_sha256 {
        Some(set) => format!("measure {}: number {} decides, set {set}\n", versions.measure, versions.number),
        None => format!("measure {}: withdrawn by number {}\n", versions.measure, versions.number),
    };
    if let Some(proposal) = &versions.proposal {
        let state = if proposal.approved { "approved" } else { "waits for the approver" };
        text += &format!(
            "proposed: number {}, set {}, version {}, {} rules; {state}\n",
            proposal.number, proposal.set_sha256, proposal.set_version, proposal.rules
        );
    }
    for kept in &versions.kept {
        text += &format!(
            "kept: set {}, version {}, {} rules, last activated by number {}\n",
            kept.set_sha256, kept.set_version, kept.rules, kept.number
        );
    }
    Ok((answered, text))
}

fn contents(client: &Client, args: &ContentsArgs) -> anyhow::Result<(Answered, String)> {
    let measure = &args.of.measure;
    let digest = match &args.digest {
        Some(digest) => digest.clone(),
        None => {
            let (versions, _) = client.versions(measure)?;
            versions.proposal.ok_or_else(|| Refused::because("nothing is proposed; name a --digest"))?.set_sha256
        }
    };
    if args.out.exists() {
        return Err(Refused::because(format!("--out: {} is there already", args.out.display())));
    }
    let answered = client.call(&get(&path(measure, &format!("selectors/{digest}"))))?;
    let Contents { set, .. } = answered.as_json()?;
    if hex::encode(keys::sha256(set.as_bytes())) != digest {
        return Err(Refused::because("what came is not the set of this digest"));
    }
    replace(&args.out, &set)?;
    Ok((answered, format!("{}: set {digest}\n", args.out.display())))
}

fn propose(client: &Client, args: &ProposeArgs) -> anyhow::Result<(Answered, String)> {
    let proposing = Proposing { set: read(&args.set)?, activation: read(&args.activation)? };
    let named = Activation::parse_unsigned(&proposing.activation).map_err(|error| refused(&args.activation, error))?;
    let (_, etag) = client.versions(&named.measure)?;
    let path = path(&named.measure, "proposal");
    versions(client.call(&Call { method: "PUT", path: &path, etag: Some(&etag), body: body(&proposing)? })?)
}

fn approve(client: &Client, args: &ApproveArgs) -> anyhow::Result<(Answered, String)> {
    let measure = &args.of.measure;
    let (state, etag) = client.versions(measure)?;
    let proposal = state.proposal.ok_or_else(|| Refused::because("nothing is proposed"))?;
    let named = Activation::parse_unsigned(&proposal.note).map_err(Refused::because)?;
    if named.measure != *measure || keys::sha256(read(&args.set)?.as_bytes()) != named.set_sha256 {
        return Err(refused(&args.set, "is not what is proposed; read that one first: gwtap api contents"));
    }
    let note = signed(&proposal.note, &args.key)?;
    let path = path(measure, "proposal/approval");
    versions(client.call(&Call { method: "POST", path: &path, etag: Some(&etag), body: body(&Noted { note })? })?)
}

fn activate(client: &Client, args: &ActivateArgs) -> anyhow::Result<(Answered, String)> {
    let measure = &args.of.measure;
    let (state, etag) = client.versions(measure)?;
    if state.proposal.is_none_or(|proposal| proposal.number != args.number) {
        return Err(Refused::because(format!("--number: {} is not proposed", args.number)));
    }
    let path = path(measure, "proposal/activation");
    let answered = client.call(&Call { method: "POST", path: &path, etag: Some(&etag), body: None })?;
    let Loaded { generation, set_version, rules, set_sha256, .. } = answered.as_json()?;
    let text = format!(
        "measure {measure}: number {generation} decides: set version {set_version}, {rules} rules, {set_sha256}\n"
    );
    Ok((answered, text))
}

fn rollback(client: &Client, args: &RollbackArgs) -> anyhow::Result<(Answered, String)> {
    let measure = &args.of.measure;
    let order = order::parse_unsigned(&read(&args.order)?).map_err(|error| refused(&args.order, error))?;
    let set_sha256 = parse_sha256(&args.to).ok_or_else(|| Refused::because("--to: 64 hex digits of a kept set"))?;
    let (state, etag) = client.versions(measure)?;
    let activation = Activation {
        measure: measure.clone(),
        order_sha256: order.sha256,
        set_sha256,
        number: state.number.saturating_add(1),
        valid_until: args.valid_until.unwrap_or(order.measure.not_after),
    };
    let note = signed(&activation.text(), &args.key)?;
    let path = path(measure, "rollback");
    versions(client.call(&Call { method: "POST", path: &path, etag: Some(&etag), body: body(&Noted { note })? })?)
}

fn signed(text_or_note: &str, key: &Path) -> anyhow::Result<String> {
    let key = SecretKey::from_file(key)?;
    keys::note::sign(text_or_note, &key).map_err(Refused::because)
}
