//! `gwtap order`: orders are drafted, signed, checked and shown.

use super::agent::{Socket, ask};
use super::{Refused, order_new};
use crate::control::Request;
use crate::keys::{self, HostKeyId, SecretKey, TrustRoots, sha256};
use crate::order::window::in_jst;
use crate::order::{self, Order};
use anyhow::Context;
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Drafts, signs, checks and shows orders.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  gwtap order new --out order.toml
  gwtap order sign order.toml --key government.key
  gwtap order sign order.toml --key commission.key
  gwtap order check order.toml --trust trust.toml
  gwtap order check order.toml --trust trust.toml --host-key HOSTKEY --interface eth1 --country-table world.csv
  gwtap order show order.toml --json
  gwtap order extend extension.note")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    New(Box<order_new::Args>),
    /// Check a draft or order and add a signature to it
    Sign(SignArgs),
    /// Say whether an order may be carried out; exit code 3 if not
    Check(CheckArgs),
    /// Show what an order says and who signed it
    Show(ShowArgs),
    /// Hand a running agent an order that extends the one in force (Art. 19)
    Extend(ExtendArgs),
}

#[derive(Debug, clap::Args)]
struct SignArgs {
    /// Draft, or order with signatures
    file: PathBuf,
    /// Secret key to sign with
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Write here instead of in place
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Order
    file: PathBuf,
    /// Trust roots: which key may sign in which role
    #[arg(long, value_name = "FILE", required_unless_present = "draft")]
    trust: Option<PathBuf>,
    /// Check the content of a draft only: neither signatures nor time
    #[arg(long, conflicts_with_all = ["trust", "now", "host_key"])]
    draft: bool,
    /// Moment to check for, instead of now
    #[arg(long, value_name = "TIME")]
    now: Option<Timestamp>,
    /// Mirror host that is to carry it out
    #[arg(long, value_name = "ID", requires = "interface", requires = "country_tables")]
    host_key: Option<HostKeyId>,
    /// Its mirror port
    #[arg(long, requires = "host_key")]
    interface: Option<String>,
    /// Country table that the host has (repeatable: read as their concatenation)
    #[arg(long = "country-table", value_name = "FILE", requires = "host_key")]
    country_tables: Vec<PathBuf>,
    /// One JSON object instead of a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ExtendArgs {
    /// Order whose `previous` is the SHA-256 of the one in force, and that begins before or just when that ends
    file: PathBuf,
    #[command(flatten)]
    socket: Socket,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Draft or order
    file: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// A file that cannot be read or written, or [`Refused`] with the field that stands against the order.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::New(args) => order_new::run(*args),
        Verb::Sign(args) => sign(&args),
        Verb::Check(args) => check(&args),
        Verb::Show(args) => show(&args),
        Verb::Extend(args) => ask(&args.socket.path()?, &Request::OrderExtend { note: read(&args.file)? }),
    }
}

pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// Writes a whole file or nothing.
pub(super) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    std::fs::write(&temporary, text)
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| path.display().to_string())
}

pub(super) fn trust(path: &Path) -> anyhow::Result<TrustRoots> {
    TrustRoots::from_toml(&read(path)?).map_err(|error| refused(path, error))
}

pub(super) fn refused(path: &Path, error: impl std::fmt::Display) -> anyhow::Error {
    Refused::because(format!("{}: {error}", path.display()))
}

fn sign(args: &SignArgs) -> anyhow::Result<ExitCode> {
    let text = read(&args.file)?;
    let order = order::parse_unsigned(&text).map_err(|error| refused(&args.file, error))?;
    let key = SecretKey::from_file(&args.key)?;
    let note = keys::note::sign(&text, &key).map_err(|error| refused(&args.file, error))?;
    let out = args.out.as_ref().unwrap_or(&args.file);
    replace(out, &note)?;
    println!("{}: order {} signed by {}", out.display(), hex::encode(order.sha256), key.public().name);
    Ok(ExitCode::SUCCESS)
}

fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let text = read(&args.file)?;
    let not = |error| refused(&args.file, error);
    let order = match &args.trust {
        None => order::parse_unsigned(&text).map_err(not)?,
        Some(path) => {
            let roots = trust(path)?.at(args.now.unwrap_or_else(Timestamp::now));
            order::verify(&text, &roots).map_err(not)?
        }
    };
    if !args.draft {
        let now = args.now.unwrap_or_else(Timestamp::now);
        order.is_live(now).map_err(not)?;
        if let (Some(host), Some(interface)) = (&args.host_key, &args.interface) {
            let mut table = Vec::new();
            for path in &args.country_tables {
                table.extend(std::fs::read(path).with_context(|| path.display().to_string())?);
            }
            order.admit(now, host, interface, &sha256(&table)).map_err(not)?;
        }
    }
    let digest = hex::encode(order.sha256);
    if args.json {
        println!("{}", json!({"order": digest, "measure": order.measure.id, "accepted": true}));
    } else {
        println!("{}: order {digest} of measure {} is good", args.file.display(), order.measure.id);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let text = read(&args.file)?;
    let order = order::parse_unsigned(&text).map_err(|error| refused(&args.file, error))?;
    let signatures = keys::note::signature_names(&text);
    if args.json {
        println!("{}", as_json(&order, &signatures));
        return Ok(ExitCode::SUCCESS);
    }
    let Order { measure, facility, addresses, receiving_facility, .. } = &order;
    println!("order      {}", hex::encode(order.sha256));
    println!("signatures {} (not verified here: gwtap order check)", signatures.join(", "));
    println!("measure    {} on basis {}", measure.id, measure.basis);
    println!("acts       {}", measure.acts.join(", "));
    println!("in force   {} until before {}", in_jst(measure.not_before), in_jst(measure.not_after));
    println!(
        "facility   {}: {} bit/s, share {} ppm, sampling {} ppm",
        facility.id, facility.capacity_bits_per_second, facility.share_ppm, facility.sampling_ppm
    );
    for tap in &facility.taps {
        println!("tap        {} {} {} ppm", tap.host_key, tap.interface, tap.share_ppm);
    }
    println!("conditions a rule needs: {}", order.conditions_min());
    println!(
        "addresses  table {} of {} or later; clear {}, prefix-preserving {}, domestic conditions {}",
        hex::encode(addresses.country_table_sha256),
        addresses.country_table_oldest_date,
        addresses.clear_addresses,
        addresses.prefix_preserving,
        addresses.domestic_conditions
    );
    println!("receiving  {} ({})", receiving_facility.endpoint, receiving_facility.names.join(", "));
    for further in &receiving_facility.further_endpoints {
        println!("           or {further}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything but approved machine information, which is shown by its fields.
fn as_json(order: &Order, signatures: &[String]) -> serde_json::Value {
    let Order { measure, approval, notification, facility, selection, addresses, receiving_facility, sha256, .. } =
        order;
    let taps: Vec<_> = facility
        .taps
        .iter()
        .map(
            |tap| json!({"host_key": tap.host_key.to_string(), "interface": tap.interface, "share_ppm": tap.share_ppm}),
        )
        .collect();
    let conditions = approval.as_ref().map(|approval| {
        let of = &approval.conditions;
        json!({
            "share_at_most": of.share_at_most, "sampling_at_most": of.sampling_at_most,
            "ends_by": of.ends_by.map(in_jst), "conditions_at_least": of.conditions_at_least,
            "prefixes_excluded": of.prefixes_excluded,
            "fields_excluded": of.fields_excluded.iter().map(|field| field.name()).collect::<Vec<_>>(),
            "no_clear_address": of.no_clear_address, "retention_at_most": of.retention_at_most,
            "rules_at_most": of.rules_at_most,
        })
    });
    let machine_information: Vec<_> =
        selection.approved_machine_information.iter().map(|(field, _)| field.name()).collect();
    json!({
        "sha256": hex::encode(sha256),
        "signatures": signatures,
        "measure": {
            "id": measure.id, "basis": measure.basis.name(), "acts": measure.acts,
            "not_before": in_jst(measure.not_before), "not_after": in_jst(measure.not_after),
            "previous": measure.previous.map(hex::encode),
        },
        "approval": approval.as_ref().map(|approval| json!({"id": approval.id, "conditions": conditions})),
        "notification": notification.as_ref().map(|notification| json!({"id": notification.id})),
        "facility": {
            "id": facility.id, "capacity_bits_per_second": facility.capacity_bits_per_second,
            "share_ppm": facility.share_ppm, "sampling_ppm": facility.sampling_ppm, "tap": taps,
        },
        "selection": {
            "standard": selection.standard, "approved_facilities": selection.approved_facilities,
            "approved_machine_information": machine_information, "party_prefixes": selection.party_prefixes,
            "payload_offsets": selection.payload_offsets,
        },
        "addresses": {
            "country_table_sha256": hex::encode(addresses.country_table_sha256),
            "country_table_oldest_date": addresses.country_table_oldest_date.to_string(),
            "clear_addresses": addresses.clear_addresses, "prefix_preserving": addresses.prefix_preserving,
            "domestic_conditions": addresses.domestic_conditions, "key_epoch_days": addresses.key_epoch_days,
        },
        "receiving_facility": {
            "endpoint": receiving_facility.endpoint, "further_endpoints": receiving_facility.further_endpoints, "names": receiving_facility.names,
            "sealing_key": hex::encode(receiving_facility.sealing_key),
        },
    })
}
