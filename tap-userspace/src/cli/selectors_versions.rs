//! `gwtap selectors list|diff|rollback`: an office's set files beside each other.

use super::Refused;
use super::selectors::{ActivateArgs, activate, read_set};
use crate::selectors::SelectorSet;
use crate::selectors::versions::{count, difference};
use anyhow::Context as _;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Fewest digits of a digest that name a set: a slip must not name another one.
const DIGITS_MIN: usize = 8;

/// List the selector sets of a folder: digest, version, rules, indicators, when the first and the last rule end.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gwtap selectors list sets/")]
pub struct ListArgs {
    /// Folder with set files (*.json)
    folder: PathBuf,
    /// One JSON object a set
    #[arg(long)]
    json: bool,
}

/// Say what one set selects and another does not: counts, unless values are asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gwtap selectors diff set-7.json set-8.json")]
pub struct DiffArgs {
    /// Selector set before
    first: PathBuf,
    /// Selector set after
    second: PathBuf,
    /// Print each indicator that only one has: on the author's screen, never into a log
    #[arg(long)]
    values: bool,
    /// One JSON object of counts
    #[arg(long, conflicts_with = "values")]
    json: bool,
}

/// Activate an earlier set again: a new activation, with the next number, of an old digest.
///
/// It takes two persons like any other: the second call adds the other one's signature.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gwtap selectors rollback sets/ --to 51f6c94d --order order.toml --number 9 --key author.key --out activation-9.note")]
pub struct RollbackArgs {
    /// Folder with set files (*.json)
    folder: PathBuf,
    /// Digest of the set, or its first 8 digits or more
    #[arg(long, value_name = "SHA256")]
    to: String,
    #[command(flatten)]
    activate: RollbackActivation,
}

/// What an activation says beside the set.
#[derive(Debug, clap::Args)]
struct RollbackActivation {
    /// Order, signed or a draft
    #[arg(long, value_name = "FILE")]
    order: PathBuf,
    /// Number of the activation: the last one's plus 1. Needed for the first signature
    #[arg(long)]
    number: Option<u64>,
    /// First moment at which the activation is over; the order's end if left out
    #[arg(long, value_name = "TIME")]
    valid_until: Option<jiff::Timestamp>,
    /// Secret key of the author or the approver (given twice: both sign at once)
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// The activation; a signature is added if it exists
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Set files of a folder, by name. What is no set is told, not passed over.
fn sets(folder: &Path) -> anyhow::Result<Vec<(PathBuf, Result<SelectorSet, anyhow::Error>)>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths.into_iter().map(|path| (path.clone(), read_set(&path))).collect())
}

/// Runs `list`.
///
/// # Errors
/// The folder cannot be read.
pub fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for (path, set) in sets(&args.folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let set = match set {
            Ok(set) => set,
            Err(error) => {
                eprintln!("gwtap: {error:#}");
                code = ExitCode::from(super::REFUSED);
                continue;
            }
        };
        let content = &set.content;
        let ends = content.rules.iter().filter_map(|rule| rule.valid_until.parse::<jiff::Timestamp>().ok());
        let (first, last) = (ends.clone().min(), ends.max());
        let (digest, indicators) = (hex::encode(set.sha256), count(content));
        if args.json {
            let object = json!({
                "file": name, "set": digest, "measure": content.measure, "version": content.version,
                "rules": content.rules.len(), "indicators": indicators, "first_end": first, "last_end": last,
                "sources": content.provenance.as_ref().map(|provenance| &provenance.sources),
            });
            println!("{object}");
            continue;
        }
        let show = |end: Option<jiff::Timestamp>| end.map_or("-".to_owned(), crate::order::window::in_jst);
        println!(
            "{name}: set {digest}, version {} for measure {}: {} rules, {indicators} indicators, ends {} to {}",
            content.version,
            content.measure,
            content.rules.len(),
            show(first),
            show(last)
        );
    }
    Ok(code)
}

/// Runs `diff`.
///
/// # Errors
/// A file is no selector set.
pub fn diff(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let (first, second) = (read_set(&args.first)?, read_set(&args.second)?);
    let found = difference(&first.content, &second.content, &mut |added, rule, address| {
        if args.values {
            let sign = if added { '+' } else { '-' };
            let address = address.map_or_else(String::new, |address| format!("{address} "));
            println!("{sign} {address}{rule}");
        }
    });
    let digests = [&first, &second].map(|set| hex::encode(set.sha256));
    if args.json {
        let object = json!({
            "first": digests[0], "second": digests[1], "added": found.added, "removed": found.removed, "kept": found.kept,
        });
        println!("{object}");
    } else {
        println!("{} added, {} removed, {} kept", found.added, found.removed, found.kept);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `rollback`.
///
/// # Errors
/// [`Refused`] when no set, or more than one, has the digest; else as `activate`.
pub fn rollback(args: RollbackArgs) -> anyhow::Result<ExitCode> {
    let digits = args.to.to_ascii_lowercase();
    if digits.len() < DIGITS_MIN || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Refused::because(format!("--to: at least {DIGITS_MIN} hex digits of a set's digest")));
    }
    let mut found: Vec<(PathBuf, [u8; 32])> = Vec::new();
    for (path, set) in sets(&args.folder)? {
        if let Ok(set) = set
            && hex::encode(set.sha256).starts_with(&digits)
            && found.iter().all(|(_, digest)| *digest != set.sha256)
        {
            found.push((path, set.sha256));
        }
    }
    let [(set, _)] = found.as_slice() else {
        return Err(Refused::because(format!("--to: {} sets of the folder have this digest, not one", found.len())));
    };
    let RollbackActivation { order, number, valid_until, keys, out } = args.activate;
    activate(&ActivateArgs { set: set.clone(), order, number, valid_until, keys, out })
}
