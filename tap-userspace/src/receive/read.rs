//! The store read back: records with the names of their rules.
//!
//! In: a store's directory. Out: every record of ours, and every declaration of totals, in order of host, spool and sequence. Files of other exporters are
//! counted. Nothing is written, so that it may be read while `gwtap receive` runs. Bounded by one file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::store::{EXTENSION, PEERS, StoreError, sorted};
use crate::ipfix::decode::{self, DecodeError, Templates};
use crate::ipfix::message::{HEADER_BYTES, Header};
use crate::ipfix::selection::{self, Totals};
use crate::ipfix::typed::{self, Rule};
use crate::keys::parse_sha256;
use crate::limits::STORED_FILE_BYTES_MAX;
use crate::notice::intake::Said;
use crate::path::PseudonymisedRecord;

/// Why a store cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is none that `gwtap receive` wrote.
    #[error("{}: message {message} (at octet {offset} of the file): {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the message in it, from 1.
        message: usize,
        /// Where the message begins.
        offset: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// A record as it lies in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// The record.
    pub record: PseudonymisedRecord,
    /// The host that sent it, 64 hex digits.
    pub host: String,
    /// The spool it came from, 32 hex digits.
    pub spool: String,
    /// Number of its message in the spool.
    pub spool_sequence: u64,
    /// Instance of the kernel's maps that numbered it.
    pub instance: [u8; 16],
    /// Ids of the rules that fired; `#` and the index where the store has no rule table of the generation.
    pub rules: Vec<String>,
    /// Id of the measure, where the store has the generation's rule table.
    pub measure_id: Option<String>,
}

/// Totals of a measure's steps, as its host declared them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The totals.
    pub totals: Totals,
    /// The host that declared them, 64 hex digits.
    pub host: String,
    /// The spool they came from, 32 hex digits.
    pub spool: String,
    /// Instance of the kernel's maps that they are of.
    pub instance: [u8; 16],
    /// Id of the measure, where the store has a rule table of it.
    pub measure_id: Option<String>,
}

/// What lies in a store, in the order of its spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A record.
    Record(StoredRecord),
    /// Totals.
    Declared(Declared),
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records given out.
    pub records: u64,
    /// Files of hosts.
    pub files: u64,
    /// Files of other exporters, which are not shown.
    pub peer_files: u64,
}

/// Rules of the generations of one spool, by (measure slot, generation) and index.
type Rules = BTreeMap<(u8, u64), BTreeMap<u16, Rule>>;

/// Gives every record of the store in `root` to `each`, until that returns `false`.
///
/// # Errors
/// A file that cannot be read, or is damaged: the error names it and the octet.
pub fn records(root: &Path, each: impl FnMut(&StoredRecord) -> bool) -> Result<Summary, ReadError> {
    records_with(root, each, |_| ())
}

/// The same; `progress` is told how far it is, once a message.
///
/// # Errors
/// As [`records`].
pub fn records_with(
    root: &Path,
    mut each: impl FnMut(&StoredRecord) -> bool,
    progress: impl FnMut(&Summary),
) -> Result<Summary, ReadError> {
    let each = |entry: &Entry| match entry {
        Entry::Record(record) => each(record),
        Entry::Declared(_) => true,
    };
    entries_with(root, each, progress)
}

/// The same with the totals that were declared, each where it stands.
///
/// # Errors
/// As [`records`].
pub fn entries_with(
    root: &Path,
    mut each: impl FnMut(&Entry) -> bool,
    mut progress: impl FnMut(&Summary),
) -> Result<Summary, ReadError> {
    let mut summary = Summary::default();
    for host in directories(root)? {
        if host == PEERS {
            summary.peer_files += count_peer_files(&root.join(PEERS))?;
            continue;
        }
        for spool in directories(&root.join(&host))? {
            let directory = root.join(&host).join(&spool);
            let mut rules = Rules::new();
            for name in sorted(&directory)?.iter().filter(|name| is_message(name)) {
                summary.files += 1;
                progress(&summary);
                let path = directory.join(name);
                for entry in file(&path, &host, &spool, &mut rules)? {
                    summary.records += u64::from(matches!(entry, Entry::Record(_)));
                    if !each(&entry) {
                        return Ok(summary);
                    }
                }
            }
        }
    }
    Ok(summary)
}

/// Messages of hosts in the store.
///
/// # Errors
/// A directory that cannot be read.
pub fn count(root: &Path) -> Result<u64, ReadError> {
    let mut files = 0;
    for host in directories(root)?.iter().filter(|host| *host != PEERS) {
        for spool in directories(&root.join(host))? {
            files += sorted(&root.join(host).join(spool))?.iter().filter(|name| is_message(name)).count() as u64;
        }
    }
    Ok(files)
}

/// Every receipt in the store in `root`, with the host in whose stream it was. Nothing of them is verified.
///
/// # Errors
/// As [`records`].
pub fn receipts(root: &Path) -> Result<Vec<Said>, ReadError> {
    let mut receipts = Vec::new();
    for host in directories(root)? {
        let Some(id) = parse_sha256(&host) else { continue };
        for spool in directories(&root.join(&host))? {
            let directory = root.join(&host).join(&spool);
            for name in sorted(&directory)?.iter().filter(|name| is_message(name)) {
                let path = directory.join(name);
                let bytes = read(&path)?;
                let mut templates = Templates::default();
                for (number, (offset, message)) in (1..).zip(messages(&path, &bytes)?) {
                    let damaged = |error: DecodeError| damaged(&path, number, offset, error);
                    let decoded = decode::message(message, &mut templates).map_err(damaged)?;
                    for (template, data) in decoded.records() {
                        receipts.extend(typed::receipt(template, data).map_err(damaged)?.map(|note| (id, note)));
                    }
                }
            }
        }
    }
    Ok(receipts)
}

fn file(path: &Path, host: &str, spool: &str, rules: &mut Rules) -> Result<Vec<Entry>, ReadError> {
    let bytes = read(path)?;
    let mut templates = Templates::default();
    let mut entries = Vec::new();
    let (mut sequence, mut instance) = (0, [0; 16]);
    for (number, (offset, message)) in (1..).zip(messages(path, &bytes)?) {
        let damaged = |error: DecodeError| damaged(path, number, offset, error);
        let decoded = decode::message(message, &mut templates).map_err(damaged)?;
        for (template, data) in decoded.records() {
            if let Some(identity) = typed::identity(template, data).map_err(damaged)? {
                sequence = identity.sequence;
            } else if let Some(found) = typed::instance(template, data).map_err(damaged)? {
                instance = found;
            } else if let Some(rule) = typed::rule(template, data).map_err(damaged)? {
                rules.entry((rule.measure, rule.generation)).or_default().insert(rule.index, rule);
            } else if let Some(record) = typed::record(template, data).map_err(damaged)? {
                let table = rules.get(&(record.measure, record.generation));
                entries.push(Entry::Record(StoredRecord {
                    record,
                    host: host.to_owned(),
                    spool: spool.to_owned(),
                    spool_sequence: sequence,
                    instance,
                    rules: rule_ids(&record.rules, table),
                    measure_id: table.and_then(measure_id),
                }));
            } else if let Some(totals) = selection::totals(template, data) {
                let tables = rules.range((totals.measure, 0)..=(totals.measure, u64::MAX));
                entries.push(Entry::Declared(Declared {
                    totals,
                    host: host.to_owned(),
                    spool: spool.to_owned(),
                    instance,
                    measure_id: tables.map(|(_, table)| table).next_back().and_then(measure_id),
                }));
            }
        }
    }
    Ok(entries)
}

fn measure_id(table: &BTreeMap<u16, Rule>) -> Option<String> {
    table.values().next().map(|rule| rule.measure_id.clone())
}

fn rule_ids(mask: &[u64; 4], table: Option<&BTreeMap<u16, Rule>>) -> Vec<String> {
    let mut ids: Vec<String> = (0u16..256)
        .filter(|index| {
            let (word, bit) = (usize::from(index / 64), index % 64);
            mask.get(word).is_some_and(|word| word & (1 << bit) != 0)
        })
        .map(|index| match table.and_then(|table| table.get(&index)) {
            Some(rule) => rule.id.clone(),
            None => format!("#{index}"),
        })
        .collect();
    ids.sort_unstable();
    ids
}

/// The messages of a file, each with the octet where it begins.
fn messages<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<(usize, &'a [u8])>, ReadError> {
    let mut messages = Vec::new();
    let mut offset = 0;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let header = rest.first_chunk::<HEADER_BYTES>().and_then(Header::read);
        let message = header.and_then(|header| rest.get(..usize::from(header.length)));
        let Some(message) = message else {
            let reason = "no whole IPFIX message stands there";
            return Err(damaged(path, messages.len() + 1, offset, reason));
        };
        messages.push((offset, message));
        offset += message.len();
    }
    Ok(messages)
}

fn damaged(path: &Path, message: usize, offset: usize, reason: impl std::fmt::Display) -> ReadError {
    ReadError::Damaged { path: path.to_owned(), message, offset, reason: reason.to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(STORED_FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    Ok(bytes)
}

fn is_message(name: &str) -> bool {
    !name.starts_with('.') && Path::new(name).extension().is_some_and(|extension| extension == EXTENSION)
}

fn directories(directory: &Path) -> Result<Vec<String>, ReadError> {
    Ok(sorted(directory)?.into_iter().filter(|name| directory.join(name).is_dir()).collect())
}

fn count_peer_files(peers: &Path) -> Result<u64, ReadError> {
    let mut count = 0;
    for peer in directories(peers)? {
        for session in directories(&peers.join(&peer))? {
            count += sorted(&peers.join(&peer).join(session))?.iter().filter(|name| is_message(name)).count() as u64;
        }
    }
    Ok(count)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::path::{AddressKind, ExportedAddress, UnixNs};

    /// A record as it may lie in a store.
    pub(crate) fn stored() -> StoredRecord {
        StoredRecord {
            record: PseudonymisedRecord {
                time: UnixNs(1_800_000_000_000_000_007),
                source: ExportedAddress {
                    bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 203, 0, 113, 5],
                    kind: AddressKind::Clear,
                },
                destination: ExportedAddress { bytes: [0xab; 16], kind: AddressKind::Deterministic },
                source_port: Some(443),
                destination_port: Some(50_000),
                protocol: 6,
                tcp_flags: Some(0x12),
                ip_version: 4,
                direction: 2,
                line_bytes: 98,
                ip_length: 60,
                fragment: 0,
                sliced: false,
                measure: 0,
                generation: 3,
                rules: [1, 0, 0, 0],
                cpu: 1,
                sequence: 9,
                key_epoch: 2,
            },
            host: "aa".repeat(32),
            spool: "bb".repeat(16),
            spool_sequence: 4,
            instance: [0xcc; 16],
            rules: vec!["r1".into()],
            measure_id: Some("m-1".into()),
        }
    }
}
