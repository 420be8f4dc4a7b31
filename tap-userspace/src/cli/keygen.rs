//! `gwtap keygen`: makes keys. Secret files are readable by their owner alone and are never overwritten.

use super::Refused;
use crate::keys::pseudonym::{PseudonymKey, SealingPublic};
use crate::keys::{HostKeyId, Role, generate};
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use std::path::PathBuf;
use std::process::ExitCode;

/// Makes keys: for signing in a role, for a mirror host, for a spool.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  gwtap keygen government --name ministry-1 --out keys/
  gwtap keygen host --name mirror-1 --out /etc/gwtap/
  gwtap keygen spool --name spool --out /etc/gwtap/
  gwtap keygen log --name mirror-1.log --out /etc/gwtap/
  gwtap keygen witness --name commission-witness --out keys/
  gwtap keygen pseudonym --measure m-1 --epoch 1 --not-before 2027-12-01T00:00:00Z \\
      --not-after 2027-12-31T00:00:00Z --seal-to mirror-1.seal.pub --out m-1-epoch-1.toml

NAME.key is secret (mode 0600), NAME.pub goes into the trust roots of those who verify:
  [[key]]
  name = \"ministry-1\"
  role = \"government\"
  public = \"ministry-1+…\"")]
pub struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Key of the government, which signs every order
    Government(Place),
    /// Key of the oversight Commission, which approves orders under Arts 17, 32 and 33
    Commission(Place),
    /// Key of the party to an agreement
    Party(Place),
    /// Key of the carrier, which signs agreements that its mirror host carries out
    Carrier(Place),
    /// Key of a person who writes selector sets
    SelectorAuthor(Place),
    /// Key of a person who approves selector sets
    SelectorApprover(Place),
    /// Key of a mirror host, with the pair that pseudonym keys are sealed to
    Host(Place),
    /// Key that a host's spool is encrypted with
    Spool(SpoolPlace),
    /// Key that signs the checkpoints of a host's audit log; its name is the log's identity
    Log(Place),
    /// Key of an independent witness, which cosigns the checkpoints of audit logs and nothing else
    Witness(Place),
    /// Key of an epoch that addresses are pseudonymised with, sealed to hosts
    Pseudonym(Epoch),
}

#[derive(Debug, clap::Args)]
struct Place {
    /// Name of the key: stands in file names and signature lines; no white space, no '+', no '/'
    #[arg(long)]
    name: String,
    /// Folder for the files; made if it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct SpoolPlace {
    /// Name of the file, without .key
    #[arg(long, default_value = "spool")]
    name: String,
    /// Folder for the file; made if it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Epoch {
    /// Id of the measure, as the order has it
    #[arg(long)]
    measure: String,
    /// Number of the epoch; records carry it
    #[arg(long)]
    epoch: u32,
    /// Begin of the epoch, for instance 2027-12-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    not_before: Timestamp,
    /// End of the epoch; the order says how long one may be
    #[arg(long, value_name = "TIME")]
    not_after: Timestamp,
    /// Public sealing key of whoever is to open it (NAME.seal.pub): the host, and whoever is to re-identify; repeatable
    #[arg(long, value_name = "FILE", required = true)]
    seal_to: Vec<PathBuf>,
    /// File to write; never overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// When a file exists or cannot be written, or the name cannot be a key's.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.kind {
        Kind::Government(place) => role(Role::Government, &place),
        Kind::Commission(place) => role(Role::Commission, &place),
        Kind::Party(place) => role(Role::Party, &place),
        Kind::Carrier(place) => role(Role::Carrier, &place),
        Kind::SelectorAuthor(place) => role(Role::SelectorAuthor, &place),
        Kind::SelectorApprover(place) => role(Role::SelectorApprover, &place),
        Kind::Host(place) => host(&place),
        Kind::Spool(place) => {
            let path = generate::spool_key(&place.name, &place.out)?;
            println!("{}", path.display());
            Ok(ExitCode::SUCCESS)
        }
        Kind::Log(place) | Kind::Witness(place) => signing(&place),
        Kind::Pseudonym(epoch) => pseudonym(&epoch),
    }
}

/// A key that stands in no trust roots: those who verify are given its public half.
fn signing(place: &Place) -> anyhow::Result<ExitCode> {
    let (key, [secret, public]) = generate::note_pair(&place.name, &place.out)?;
    println!("{} (secret)\n{}\n\n{}", secret.display(), public.display(), key.public());
    Ok(ExitCode::SUCCESS)
}

fn pseudonym(epoch: &Epoch) -> anyhow::Result<ExitCode> {
    let recipients = epoch.seal_to.iter().map(|path| SealingPublic::read(path));
    let recipients = recipients.collect::<Result<Vec<_>, _>>().map_err(Refused::because)?;
    let key = PseudonymKey::generate(&epoch.measure, epoch.epoch, epoch.not_before, epoch.not_after);
    let sealed = key.and_then(|key| key.seal(&recipients)).map_err(Refused::because)?;
    generate::write_new(&epoch.out, &sealed, generate::SECRET_MODE)?;
    println!("{}", epoch.out.display());
    Ok(ExitCode::SUCCESS)
}

fn role(role: Role, place: &Place) -> anyhow::Result<ExitCode> {
    let (key, [secret, public]) = generate::note_pair(&place.name, &place.out)?;
    println!("{} (secret)\n{}", secret.display(), public.display());
    println!("\n[[key]]\nname = \"{}\"\nrole = \"{role}\"\npublic = \"{}\"", place.name, key.public());
    Ok(ExitCode::SUCCESS)
}

fn host(place: &Place) -> anyhow::Result<ExitCode> {
    let (key, [secret, public]) = generate::note_pair(&place.name, &place.out)?;
    let [seal_secret, seal_public] = generate::sealing_pair(&place.name, &place.out)?;
    println!("{} (secret)\n{}", secret.display(), public.display());
    println!("{} (secret)\n{}", seal_secret.display(), seal_public.display());
    println!("\nhost_key = \"{}\"", HostKeyId::of(&key.public()));
    Ok(ExitCode::SUCCESS)
}
