//! `gwtap selectors`: sets are imported, checked and activated, and loaded into a running agent.

use super::order::{read, refused, replace, trust};
use super::{
    Refused, selectors_edit, selectors_import, selectors_load, selectors_seal, selectors_versions, selectors_withdraw,
};
use crate::keys::{self, SecretKey};
use crate::order::window::in_jst;
use crate::order::{self, Basis, Order};
use crate::prefixes::country::CountryTable;
use crate::prefixes::special::Special;
use crate::selectors::check::{CheckContext, Refusal, check};
use crate::selectors::{Activation, CheckedSet, SelectorSet};
use anyhow::Context;
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Imports, checks, activates and loads selector sets.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  gwtap selectors check set-7.json --order order.toml --country-table world.csv
  gwtap selectors check set-7.json --basis foreign-to-foreign
  gwtap selectors import feed.json --order order.toml --reason 'request 17' --set-version 7 --out set-7.json
  gwtap selectors activate set-7.json --order order.toml --number 7 \\
    --valid-until 2028-01-01T00:00:00+09:00 --key author.key --out activation-7.note
  gwtap selectors activate set-7.json --order order.toml --key approver.key --out activation-7.note
  gwtap selectors load --socket /run/gwtap/control.sock --set set-7.json --activation activation-7.note")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say whether a set may be activated under an order; exit code 3 if not, with every reason
    Check(CheckArgs),
    /// Sign one person's part of an activation: the first call makes the note, the second adds the other person
    Activate(ActivateArgs),
    Load(selectors_load::Args),
    Import(Box<selectors_import::Args>),
    List(selectors_versions::ListArgs),
    Diff(selectors_versions::DiffArgs),
    Rollback(Box<selectors_versions::RollbackArgs>),
    Edit(selectors_edit::Args),
    Seal(selectors_seal::Args),
    Withdraw(selectors_withdraw::Args),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Selector set
    set: PathBuf,
    /// Order, signed or a draft
    #[arg(long, value_name = "FILE", required_unless_present = "basis")]
    order: Option<PathBuf>,
    /// Trust roots: verify the order's signatures too
    #[arg(long, value_name = "FILE", requires = "order")]
    trust: Option<PathBuf>,
    /// Check against a basis alone, without an order
    #[arg(long, conflicts_with = "order")]
    basis: Option<Basis>,
    /// Range CSV: refuse domestic addresses in conditions unless the order allows them (repeatable)
    #[arg(long = "country-table", value_name = "FILE", requires = "order")]
    country_tables: Vec<PathBuf>,
    /// The table may list documentation prefixes (demo and tests)
    #[arg(long, requires = "country_tables")]
    documentation_prefixes: bool,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ActivateArgs {
    /// Selector set
    pub(super) set: PathBuf,
    /// Order, signed or a draft
    #[arg(long, value_name = "FILE")]
    pub(super) order: PathBuf,
    /// Number of the activation: the last one's plus 1. Needed for the first signature
    #[arg(long)]
    pub(super) number: Option<u64>,
    /// First moment at which the activation is over; the order's end if left out
    #[arg(long, value_name = "TIME")]
    pub(super) valid_until: Option<Timestamp>,
    /// Secret key of the author or the approver (given twice: both sign at once)
    #[arg(long = "key", value_name = "FILE", required = true)]
    pub(super) keys: Vec<PathBuf>,
    /// The activation; a signature is added if it exists
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// A file that cannot be read or written, or [`Refused`] with everything that stands against the set.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Check(args) => run_check(&args),
        Verb::Activate(args) => activate(&args),
        Verb::Load(args) => selectors_load::run(args),
        Verb::Import(args) => selectors_import::run(&args),
        Verb::List(args) => selectors_versions::list(&args),
        Verb::Diff(args) => selectors_versions::diff(&args),
        Verb::Rollback(args) => selectors_versions::rollback(*args),
        Verb::Edit(args) => selectors_edit::run(&args),
        Verb::Seal(args) => selectors_seal::run(&args),
        Verb::Withdraw(args) => selectors_withdraw::run(&args),
    }
}

pub(super) fn read_set(path: &Path) -> anyhow::Result<SelectorSet> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    SelectorSet::from_json(&bytes).map_err(|error| refused(path, error))
}

fn run_check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let set = read_set(&args.set)?;
    let context = match (&args.order, args.basis) {
        (None, Some(basis)) => CheckContext::laboratory(basis),
        (Some(path), _) => {
            let text = read(path)?;
            let order = match &args.trust {
                Some(roots) => order::verify(&text, &trust(roots)?),
                None => order::parse_unsigned(&text),
            };
            let order = order.map_err(|error| refused(path, error))?;
            let context = CheckContext::from_order(&order);
            let special = if args.documentation_prefixes { Special::DocumentationAllowed } else { Special::TakenOut };
            match country_table(&args.country_tables, special, &order)? {
                Some(table) => context.with_country_table(table),
                None => context,
            }
        }
        (None, None) => return Err(Refused::because("either --order or --basis is needed")),
    };
    match check(&set, &context) {
        Ok(checked) => show(args, &checked),
        Err(refusals) if args.json => {
            let reasons: Vec<_> = refusals.iter().map(as_json).collect();
            println!("{}", json!({"set": hex::encode(set.sha256), "accepted": false, "refusals": reasons}));
            Ok(ExitCode::from(super::REFUSED))
        }
        Err(refusals) => Err(refuse_all(&args.set, &refusals)),
    }
}

/// The table that the order names; nothing without a file.
pub(super) fn country_table(
    files: &[PathBuf],
    special: Special,
    order: &Order,
) -> anyhow::Result<Option<CountryTable>> {
    let mut bytes = Vec::new();
    for path in files {
        bytes.extend(std::fs::read(path).with_context(|| path.display().to_string())?);
    }
    if files.is_empty() {
        return Ok(None);
    }
    let table = CountryTable::from_csv(&bytes, None, special).map_err(Refused::because)?;
    if table.sha256 != order.addresses.country_table_sha256 {
        return Err(Refused::because("--country-table: the order names another country table"));
    }
    Ok(Some(table))
}

fn as_json(refusal: &Refusal) -> serde_json::Value {
    json!({
        "rule": refusal.rule, "condition": refusal.condition, "field": refusal.field, "reason": refusal.reason,
    })
}

fn refuse_all(path: &Path, refusals: &[Refusal]) -> anyhow::Error {
    let reasons: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    refused(path, reasons.join("\n  "))
}

fn show(args: &CheckArgs, set: &CheckedSet) -> anyhow::Result<ExitCode> {
    let digest = hex::encode(set.sha256);
    let domestic_unknown = args.order.is_some() && args.country_tables.is_empty();
    if args.json {
        let rules: Vec<_> = set
            .rules
            .iter()
            .map(|rule| {
                let counted: Vec<_> =
                    rule.counted.iter().map(|kind| crate::selectors::field::kind_name(*kind)).collect();
                json!({"id": rule.id, "counted": counted})
            })
            .collect();
        let object = json!({
            "set": digest, "measure": set.measure, "version": set.version, "accepted": true, "rules": rules,
            "domestic_conditions_checked": !domestic_unknown,
        });
        println!("{object}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}: set {digest}, version {} for measure {}, is good", args.set.display(), set.version, set.measure);
    for rule in &set.rules {
        let counted: Vec<_> = rule.counted.iter().map(|kind| crate::selectors::field::kind_name(*kind)).collect();
        println!("  {}: counted {}", rule.id, counted.join(", "));
    }
    if domestic_unknown {
        println!("  not checked: whether conditions name domestic addresses (give --country-table)");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn activate(args: &ActivateArgs) -> anyhow::Result<ExitCode> {
    let set = read_set(&args.set)?;
    let order = order::parse_unsigned(&read(&args.order)?).map_err(|error| refused(&args.order, error))?;
    check(&set, &CheckContext::from_order(&order)).map_err(|refusals| refuse_all(&args.set, &refusals))?;
    let mut note = if args.out.exists() { existing(args, &set, &order)? } else { new(args, &set, &order)?.text() };
    for path in &args.keys {
        let key = SecretKey::from_file(path)?;
        if keys::note::signature_names(&note).contains(&key.public().name) {
            let reason = format!("{} has signed already; the other person must sign", key.public().name);
            return Err(refused(&args.out, format!("signatures: {reason}")));
        }
        note = keys::note::sign(&note, &key).map_err(|error| refused(&args.out, error))?;
    }
    replace(&args.out, &note)?;
    let signers = keys::note::signature_names(&note);
    println!("{}: activation of set {} signed by {}", args.out.display(), hex::encode(set.sha256), signers.join(", "));
    if signers.len() < 2 {
        println!("a selector approver must sign too: gwtap selectors activate with the same files and their --key");
    }
    Ok(ExitCode::SUCCESS)
}

fn new(args: &ActivateArgs, set: &SelectorSet, order: &Order) -> anyhow::Result<Activation> {
    let number = args.number.ok_or_else(|| Refused::because("--number is needed: the last activation's plus 1"))?;
    let valid_until = args.valid_until.unwrap_or(order.measure.not_after);
    if valid_until <= order.measure.not_before || valid_until > order.measure.not_after {
        let end = in_jst(order.measure.not_after);
        return Err(Refused::because(format!("valid_until: does not lie within the order, which ends {end}")));
    }
    Ok(Activation {
        measure: order.measure.id.clone(),
        order_sha256: order.sha256,
        set_sha256: set.sha256,
        number,
        valid_until,
    })
}

/// The note that another person has begun: it must be about the same set and order, and say what the flags say.
fn existing(args: &ActivateArgs, set: &SelectorSet, order: &Order) -> anyhow::Result<String> {
    let note = read(&args.out)?;
    let activation = Activation::parse_unsigned(&note).map_err(|error| refused(&args.out, error))?;
    activation.fits(&order.measure.id, &order.sha256, &set.sha256).map_err(|error| refused(&args.out, error))?;
    if args.number.is_some_and(|number| number != activation.number) {
        return Err(refused(&args.out, format!("number: the note says {}", activation.number)));
    }
    if args.valid_until.is_some_and(|valid_until| valid_until != activation.valid_until) {
        return Err(refused(&args.out, format!("valid_until: the note says {}", in_jst(activation.valid_until))));
    }
    Ok(note)
}
