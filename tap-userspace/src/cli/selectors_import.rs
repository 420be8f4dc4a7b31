//! `gwtap selectors import`: other people's indicators become a selector set file.

use super::Refused;
use super::order::{read, refused};
use crate::order;
use crate::prefixes::special::Special;
use crate::run::state::replace_file;
use crate::selectors::check::CheckContext;
use crate::selectors::field::{Field, Item};
use crate::selectors::import::warning::Warnings;
use crate::selectors::import::{Format, Input, Terms, import};
use crate::selectors::set::Condition;
use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use jiff::Timestamp;
use serde_json::json;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Make a selector set of indicator files: STIX bundles, MISP events, CSV, plain lists.
///
/// Every entry is accounted for: loaded, merged into one that says the same, held back because a warning list has it, or
/// refused with the reason. Unless all of them are loaded or merged, nothing is written, but with --partial; the exit code is
/// 4 then. Messages name lines and object ids, never values.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gwtap selectors import feed.json list.txt --order order.toml --act a-1 --reason 'request 17' --set-version 8 \\
    --and destination-port=443 --warning-list cloudflare.json --own-networks own.txt --out set-8.json

Exit codes: 0 everything is in the set, 3 nothing was written, 4 the set has a part of what was read (--partial).")]
pub struct Args {
    /// Indicator files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What the files are; told by their names and beginnings if left out
    #[arg(long, value_parser = PossibleValuesParser::new(Format::ALL.map(Format::name)))]
    format: Option<String>,
    /// Order that the set is for, signed or a draft
    #[arg(long, value_name = "FILE")]
    order: PathBuf,
    /// Target act; may be left out where the order has one
    #[arg(long, value_name = "ID")]
    act: Option<String>,
    /// Why the rules are needed
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Version of the set
    #[arg(long, value_name = "NUMBER")]
    set_version: u64,
    /// When the rules end, unless a source says an earlier moment; the order's end if left out
    #[arg(long, value_name = "TIME")]
    valid_until: Option<Timestamp>,
    /// Indicators that end on the same day become one rule, which ends when that day begins
    #[arg(long)]
    ends_by_day: bool,
    /// What an address is about where the source does not say
    #[arg(long, value_name = "FIELD", default_value = "address",
          value_parser = PossibleValuesParser::new(["address", "source-address", "destination-address"]))]
    address_field: String,
    /// A condition for each entry that says nothing about its field: destination-port=443,8443 or payload=OFFSET:HEX
    #[arg(long = "and", value_name = "FIELD=VALUES")]
    and: Vec<String>,
    /// Warning list: MISP's JSON, or a plain list (repeatable)
    #[arg(long = "warning-list", value_name = "FILE")]
    warning_lists: Vec<PathBuf>,
    /// Plain list of the own networks: a warning list of that name
    #[arg(long, value_name = "FILE")]
    own_networks: Option<PathBuf>,
    /// JSON list of {entry, list, reason, by}: entries that are wanted although a warning list has them
    #[arg(long, value_name = "FILE")]
    overrides: Option<PathBuf>,
    /// Range CSV: refuse domestic addresses unless the order allows them (repeatable)
    #[arg(long = "country-table", value_name = "FILE")]
    country_tables: Vec<PathBuf>,
    /// Documentation prefixes are no special-purpose addresses (demo and tests)
    #[arg(long)]
    documentation_prefixes: bool,
    /// Write the set although a part of the entries is not in it
    #[arg(long)]
    partial: bool,
    /// Selector set to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// A file that cannot be read or written, or [`Refused`] when nothing can be imported.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let order = order::parse_unsigned(&read(&args.order)?).map_err(|error| refused(&args.order, error))?;
    let act = match (&args.act, order.measure.acts.as_slice()) {
        (Some(act), _) => act.clone(),
        (None, [act]) => act.clone(),
        (None, _) => return Err(Refused::because("--act is needed: the order has several target acts")),
    };
    let terms = Terms {
        version: args.set_version,
        act,
        reason: args.reason.clone(),
        valid_until: args.valid_until.unwrap_or(order.measure.not_after),
        address_field: field(&args.address_field).unwrap_or(Field::Address),
        and: args.and.iter().map(|text| condition(text)).collect::<anyhow::Result<_>>()?,
        ends_by_day: args.ends_by_day,
    };
    let special = if args.documentation_prefixes { Special::DocumentationAllowed } else { Special::TakenOut };
    let mut context = CheckContext::from_order(&order);
    if let Some(table) = super::selectors::country_table(&args.country_tables, special, &order)? {
        context = context.with_country_table(table);
    }
    let mut warnings = warnings(args, special)?;
    let files = args.files.iter().map(|path| Ok((name(path), bytes(path)?))).collect::<anyhow::Result<Vec<_>>>()?;
    let mut inputs = Vec::with_capacity(files.len());
    for (name, bytes) in &files {
        let format = args.format.as_ref().and_then(|name| name.parse().ok());
        inputs.push(Input { name, format: format.unwrap_or_else(|| Format::guess(name, bytes)), bytes });
    }
    let mut progress = Progress::new();
    let imported = import(&inputs, &terms, &context, &mut warnings, Timestamp::now(), &mut |done, total| {
        progress.show(done, total);
    });
    progress.end();
    let imported = imported.map_err(Refused::because)?;
    let partial = imported.report.is_partial();
    let set = imported.set.filter(|_| !partial || args.partial);
    if let Some(set) = &set {
        let out = std::path::absolute(&args.out).with_context(|| args.out.display().to_string())?;
        replace_file(&out, set).with_context(|| args.out.display().to_string())?;
    }
    let digest = set.as_ref().map(|set| hex::encode(crate::keys::sha256(set)));
    if args.json {
        let mut object = imported.report.json();
        if let Some(object) = object.as_object_mut() {
            object.insert("set".to_owned(), json!(digest));
            object.insert("domestic_conditions_checked".to_owned(), json!(!args.country_tables.is_empty()));
        }
        println!("{object}");
    } else {
        print!("{}", imported.report);
        match &digest {
            Some(digest) => {
                println!("{}: set {digest} with {} rules", args.out.display(), imported.report.rules);
                if args.country_tables.is_empty() {
                    println!("  not checked: whether conditions name domestic addresses (give --country-table)");
                }
            }
            None if imported.report.rules == 0 => println!("nothing was written: no entry makes a rule"),
            None => println!("nothing was written: not every entry is in the set (--partial writes what is)"),
        }
    }
    Ok(match set {
        None => ExitCode::from(super::REFUSED),
        Some(_) if partial => ExitCode::from(super::PARTIAL),
        Some(_) => ExitCode::SUCCESS,
    })
}

fn warnings(args: &Args, special: Special) -> anyhow::Result<Warnings> {
    let mut warnings = Warnings::new(special);
    for path in &args.warning_lists {
        warnings.add(&name(path), &bytes(path)?).map_err(|error| refused(path, error))?;
    }
    if let Some(path) = &args.own_networks {
        warnings.add("own networks", &bytes(path)?).map_err(|error| refused(path, error))?;
    }
    if let Some(path) = &args.overrides {
        warnings.add_overrides(&bytes(path)?).map_err(|error| refused(path, error))?;
    }
    Ok(warnings)
}

fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn field(name: &str) -> Option<Field> {
    serde_json::from_value(json!(name)).ok()
}

/// `FIELD=VALUE,VALUE`, or `payload=OFFSET:HEX`.
fn condition(text: &str) -> anyhow::Result<Condition> {
    let wrong = |reason: &str| Refused::because(format!("--and: {reason}"));
    let (name, values) = text.split_once('=').ok_or_else(|| wrong("is not FIELD=VALUES"))?;
    let field = field(name).ok_or_else(|| wrong("names no field of a set"))?;
    let many = || values.split(',').map(str::to_owned).collect();
    match field {
        Field::SourceAddress | Field::DestinationAddress | Field::Address => {
            Ok(Condition::any(Item::FacilityAddress, field, many()))
        }
        Field::SourcePort | Field::DestinationPort | Field::Port | Field::Protocol | Field::Fragment => {
            Ok(Condition::any(Item::Aid, field, many()))
        }
        Field::Payload => {
            let (offset, bytes) = values.split_once(':').ok_or_else(|| wrong("payload is OFFSET:HEX"))?;
            let mut condition = Condition::empty(Item::Command, field);
            condition.offset = Some(offset.parse().map_err(|_number| wrong("payload is OFFSET:HEX"))?);
            condition.bytes = Some(bytes.to_owned());
            Ok(condition)
        }
        Field::TcpFlags | Field::IpLength => Err(wrong("cannot say tcp-flags and ip-length; add them to the set")),
    }
}

/// How far it is, on a terminal, from the second second on.
struct Progress {
    begun: Instant,
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { begun: Instant::now(), shown: false }
    }

    fn show(&mut self, done: usize, total: usize) {
        if self.begun.elapsed().as_secs() >= 1 && std::io::stderr().is_terminal() {
            self.shown = true;
            eprint!("\r{done} of {total} entries");
            std::io::stderr().flush().unwrap_or_default();
        }
    }

    fn end(&self) {
        if self.shown {
            eprintln!();
        }
    }
}
