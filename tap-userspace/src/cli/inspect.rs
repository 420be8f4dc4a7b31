//! `gwtap inspect`: one file for an inspector, and its verification with public keys alone.

use super::Refused;
use crate::config::{Config, DEFAULT_FILE};
use crate::inspect::collect::{self, Sources};
use crate::inspect::{Finding, Keys, verify};
use crate::keys::{PublicKey, TrustRoots};
use crate::limits::BUNDLE_BYTES_MAX;
use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bundles what an inspector needs into one file, and verifies such a file offline.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  gwtap inspect bundle --config /etc/gwtap/gwtap.toml --out mirror-1.tar
  gwtap inspect verify mirror-1.tar --keys public/
  gwtap inspect verify mirror-1.tar --keys roots.toml host.pub log.pub witness.pub --earlier last-year.tar

Exit code 3: the bundle does not hold; each entry that was removed, added, altered or is another's is named.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write the bundle of this mirror host; the agent may run meanwhile
    Bundle(Bundle),
    /// Verify a bundle; print what it proves and what it cannot
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
struct Bundle {
    /// Configuration of the agent
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// File to write; one that is there is never replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Directory of the notices that the receiving facility sent (*.note)
    #[arg(long, value_name = "DIRECTORY")]
    notices: Option<PathBuf>,
    /// An earlier checkpoint that a witness cosigned (repeatable)
    #[arg(long, value_name = "FILE")]
    cosigned: Vec<PathBuf>,
    /// A selector set, if the inspector may see what it contains; without it there is its digest (repeatable)
    #[arg(long = "set", value_name = "FILE")]
    sets: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// The bundle
    bundle: PathBuf,
    /// Trust roots (.toml) and public keys (.pub) of the host, its log, witnesses and receiving facilities, or directories of them
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    keys: Vec<PathBuf>,
    /// An earlier bundle of the host, or an earlier checkpoint of its log: it must be the beginning of this one (repeatable)
    #[arg(long, value_name = "FILE")]
    earlier: Vec<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// A file that cannot be read or written, or [`Refused`] when the bundle does not hold.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Bundle(args) => bundle(args),
        Verb::Verify(args) => check(&args),
    }
}

fn bundle(args: Bundle) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config)?;
    let sources = Sources { notices: args.notices, cosigned: args.cosigned, sets: args.sets, ..Sources::of(&config)? };
    let bytes = collect::collect(&sources)?;
    collect::write(&args.out, &bytes)?;
    let digest = hex::encode(crate::keys::sha256(&bytes));
    println!("{}: {} bytes, SHA-256 {digest}", args.out.display(), bytes.len());
    Ok(ExitCode::SUCCESS)
}

fn check(args: &Verify) -> anyhow::Result<ExitCode> {
    let keys = keys(&args.keys)?;
    let bytes = read(&args.bundle)?;
    let mut earlier = Vec::new();
    for path in &args.earlier {
        let bytes = read(path)?;
        let note = verify::checkpoint(&bytes).or_else(|| String::from_utf8(bytes).ok());
        earlier.push((path.display().to_string(), note.with_context(|| path.display().to_string())?));
    }
    let report = verify::verify(&bytes, &keys, &earlier);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    match report.findings.as_slice() {
        [] => Ok(ExitCode::SUCCESS),
        [first, rest @ ..] => Err(Refused::because(refusal(first, rest.len()))),
    }
}

fn refusal(first: &Finding, more: usize) -> String {
    if more == 0 { first.to_string() } else { format!("{first} (and {more} more)") }
}

/// Trust roots and keys: files, or directories of them.
fn keys(paths: &[PathBuf]) -> anyhow::Result<Keys> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
            let mut found = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
            found.sort();
            files.extend(found.into_iter().filter(|file| kind(file).is_some()));
        } else {
            files.push(path.clone());
        }
    }
    let (mut keys, mut roots) = (Keys::default(), None);
    for file in files {
        match kind(&file) {
            Some("toml") => {
                let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                let read =
                    TrustRoots::from_toml(&text).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
                if roots.replace(read).is_some() {
                    bail!("{}: more than one file of trust roots; name the one that counts", file.display());
                }
            }
            Some("pub") => keys.public.push(PublicKey::from_file(&file)?),
            _ => bail!("{}: is neither trust roots (.toml) nor a public key (.pub)", file.display()),
        }
    }
    keys.roots = roots.context("--keys: no trust roots (.toml) among them: who may sign what cannot be said")?;
    Ok(keys)
}

fn kind(file: &Path) -> Option<&'static str> {
    // A sealing key has the same ending and signs nothing.
    let name = file.file_name()?.to_str()?;
    if name.ends_with(".seal.pub") {
        return None;
    }
    ["toml", "pub"].into_iter().find(|kind| file.extension().is_some_and(|extension| extension == *kind))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    file.take(2 * BUNDLE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    Ok(bytes)
}
