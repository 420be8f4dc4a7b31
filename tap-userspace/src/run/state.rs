//! What must outlive a restart: per measure the highest activation, what directives and the kill switch left, and its
//! orders; the last wall time; the head of the audit log, which lies elsewhere; what slots and generations mean.
//!
//! In: a directory that only the agent writes. Out: refusals of anything lower or earlier. It holds digests and numbers,
//! never what a set contains. Bound: the file is replaced whole (written beside, flushed, renamed, directory flushed),
//! so a crash leaves the old or the new one.

use super::generations::Generations;
use crate::directive::restriction::Restriction;
use crate::limits::{ORDERS_KEPT_MAX, STATE_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "state.json";
const VERSION: u32 = 1;

/// Why the state refuses, or cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory or file cannot be read or written.
    #[error("{}: {source}; [state] directory must exist on a local disk and be writable for the agent", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what the agent writes.
    #[error(
        "{}: {reason}; restore it from a backup: without it the agent cannot know which activation was the last", path.display()
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The activation is older than one already seen.
    #[error(
        "activation: number {number} is below {highest}, the last one accepted for measure {measure}; going back to an \
         older set takes a new activation with number {next}"
    )]
    Lower {
        /// Measure.
        measure: String,
        /// Number offered.
        number: u64,
        /// Highest accepted.
        highest: u64,
        /// What a new activation must carry.
        next: u64,
    },
    /// The same number for another set.
    #[error(
        "activation: number {number} of measure {measure} was already used for another selector set; number {next} is next"
    )]
    Reused {
        /// Measure.
        measure: String,
        /// Number offered.
        number: u64,
        /// What a new activation must carry.
        next: u64,
    },
    /// The maps that an agent left behind are other measures'.
    #[error(
        "[[measure]]: the maps that an agent left behind count for the measures {before}, the configuration names {now}; \
         start once with the former list and stop in order (SIGTERM), or remove the pins: records not yet spooled are lost then"
    )]
    Slots {
        /// Measures by slot, as they were.
        before: String,
        /// As they are to be.
        now: String,
    },
    /// The order was replaced by a later one.
    #[error(
        "order: {order} of measure {measure} is an older one: {latest} followed it; configure that one, or the order \
         together with those that extend it"
    )]
    OlderOrder {
        /// Measure.
        measure: String,
        /// Order offered.
        order: String,
        /// The last one admitted.
        latest: String,
    },
    /// A runtime change must be the very next number.
    #[error("activation: number {number} of measure {measure} is not the next one, {next}; sign it with that number")]
    NotNext {
        /// Measure.
        measure: String,
        /// Number offered.
        number: u64,
        /// What it must be.
        next: u64,
    },
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    last_unix_ns: u64,
    activations: BTreeMap<String, Highest>,
    #[serde(default)]
    slots: Slots,
    #[serde(default)]
    generations: Generations,
    #[serde(default)]
    restrictions: BTreeMap<String, Restriction>,
    /// SHA-256 of a measure's orders, in the order of their admission.
    #[serde(default)]
    orders: BTreeMap<String, Vec<String>>,
    /// The highest head that was seen of an audit log, by the log's name.
    #[serde(default)]
    logs: BTreeMap<String, LogHead>,
}

/// What was seen of an audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogHead {
    entries: u64,
    /// Root over them, in hex.
    root: String,
}

/// Whose slot is whose, as long as the kernel's maps live: their counters and records count by slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Slots {
    /// Instance of the maps, in hex.
    instance: String,
    /// Measures by slot.
    measures: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Highest {
    number: u64,
    set_sha256: String,
}

/// The state, in memory as it is on disk.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    stored: Stored,
}

impl State {
    /// Reads the state; a directory without one is a first start. The directory is made if it is not there.
    ///
    /// # Errors
    /// Not readable, or not what the agent wrote.
    pub fn open(directory: &Path) -> Result<Self, StateError> {
        let path = directory.join(FILE_NAME);
        std::fs::create_dir_all(directory).map_err(|source| io(directory, source))?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { path, stored: Stored { version: VERSION, ..Stored::default() } });
            }
            Err(source) => return Err(io(&path, source)),
        };
        let mut text = String::new();
        file.take(STATE_BYTES_MAX).read_to_string(&mut text).map_err(|source| io(&path, source))?;
        let stored: Stored = serde_json::from_str(&text)
            .map_err(|error| StateError::Invalid { path: path.clone(), reason: error.to_string() })?;
        if stored.version != VERSION {
            let reason = format!("version {} is not {VERSION}", stored.version);
            return Err(StateError::Invalid { path, reason });
        }
        Ok(Self { path, stored })
    }

    /// Last wall time that was written down, nanoseconds since 1970; 0 at a first start.
    #[must_use]
    pub fn last_unix_ns(&self) -> u64 {
        self.stored.last_unix_ns
    }

    /// The number the next activation of `measure` carries.
    #[must_use]
    pub fn next_number(&self, measure: &str) -> u64 {
        self.stored.activations.get(measure).map_or(1, |highest| highest.number.saturating_add(1))
    }

    /// Whether an agent that starts may take this activation: the last one again, or a later one.
    ///
    /// # Errors
    /// The number is lower, or was another set's.
    pub fn admit_start(&self, measure: &str, number: u64, set_sha256: &[u8; 32]) -> Result<(), StateError> {
        let Some(highest) = self.stored.activations.get(measure) else { return Ok(()) };
        let next = self.next_number(measure);
        let measure = measure.to_owned();
        if number < highest.number {
            return Err(StateError::Lower { measure, number, highest: highest.number, next });
        }
        if number == highest.number && hex::encode(set_sha256) != highest.set_sha256 {
            return Err(StateError::Reused { measure, number, next });
        }
        Ok(())
    }

    /// Whether a running agent may take this activation: the very next number.
    ///
    /// # Errors
    /// It is another one.
    pub fn admit_next(&self, measure: &str, number: u64) -> Result<(), StateError> {
        let next = self.next_number(measure);
        if number == next {
            return Ok(());
        }
        Err(StateError::NotNext { measure: measure.to_owned(), number, next })
    }

    /// Keeps an activation as the highest of its measure; on disk when it returns.
    ///
    /// # Errors
    /// It cannot be written; nothing is changed then.
    pub fn keep_activation(&mut self, measure: &str, number: u64, set_sha256: &[u8; 32]) -> Result<(), StateError> {
        let mut changed = self.stored.clone();
        changed.activations.insert(measure.to_owned(), Highest { number, set_sha256: hex::encode(set_sha256) });
        self.write(changed)
    }

    /// Keeps the wall time, if it is later than the one kept; on disk when it returns.
    ///
    /// # Errors
    /// It cannot be written; nothing is changed then.
    pub fn keep_time(&mut self, unix_ns: u64) -> Result<(), StateError> {
        if unix_ns <= self.stored.last_unix_ns {
            return Ok(());
        }
        let mut changed = self.stored.clone();
        changed.last_unix_ns = unix_ns;
        self.write(changed)
    }

    /// Entries and root of the highest head that was kept of the log `name`; 0 without one.
    ///
    /// # Errors
    /// The file has a root that is none.
    pub fn log_head(&self, name: &str) -> Result<(u64, [u8; 32]), StateError> {
        let Some(head) = self.stored.logs.get(name) else { return Ok((0, [0; 32])) };
        let mut root = [0; 32];
        hex::decode_to_slice(&head.root, &mut root).map_err(|error| StateError::Invalid {
            path: self.path.clone(),
            reason: format!("logs.{name}.root: {error}"),
        })?;
        Ok((head.entries, root))
    }

    /// Keeps a log's head, if it is higher than the one kept; on disk when it returns.
    ///
    /// # Errors
    /// It cannot be written; nothing is changed then.
    pub fn keep_log(&mut self, name: &str, entries: u64, root: &[u8; 32]) -> Result<(), StateError> {
        if self.stored.logs.get(name).is_some_and(|kept| kept.entries >= entries) {
            return Ok(());
        }
        let mut changed = self.stored.clone();
        changed.logs.insert(name.to_owned(), LogHead { entries, root: hex::encode(root) });
        self.write(changed)
    }

    /// Keeps whose slot is whose; on disk when it returns.
    ///
    /// # Errors
    /// The same maps were other measures'; or it cannot be written.
    pub fn take_slots(&mut self, instance: &[u8; 16], measures: &[String]) -> Result<(), StateError> {
        let slots = Slots { instance: hex::encode(instance), measures: measures.to_vec() };
        if slots == self.stored.slots {
            return Ok(());
        }
        if slots.instance == self.stored.slots.instance {
            let [before, now] = [&self.stored.slots.measures, &slots.measures].map(|measures| measures.join(", "));
            return Err(StateError::Slots { before, now });
        }
        let mut changed = self.stored.clone();
        changed.slots = slots;
        self.write(changed)
    }

    /// What binds the measure beyond its order.
    #[must_use]
    pub fn restriction(&self, measure: &str) -> Restriction {
        self.stored.restrictions.get(measure).cloned().unwrap_or_default()
    }

    /// Keeps what binds a measure from now on; on disk when it returns without an error. A disk that does not take it keeps
    /// nothing running: in memory it counts either way.
    ///
    /// # Errors
    /// It cannot be written now; it is written with whatever is written next.
    pub fn narrow(&mut self, measure: &str, restriction: &Restriction) -> Result<(), StateError> {
        self.stored.restrictions.insert(measure.to_owned(), restriction.clone());
        self.write(self.stored.clone())
    }

    /// Keeps what binds a measure where that is less than before; on disk when it returns.
    ///
    /// # Errors
    /// It cannot be written; nothing is changed then.
    pub fn widen(&mut self, measure: &str, restriction: &Restriction) -> Result<(), StateError> {
        let mut changed = self.stored.clone();
        changed.restrictions.insert(measure.to_owned(), restriction.clone());
        self.write(changed)
    }

    /// Whether these orders of a measure, each extending the one before, hold the last one that was admitted, extend it
    /// (`previous` of the first), or are new.
    ///
    /// # Errors
    /// The last of them was replaced by a later order.
    pub fn admit_orders(
        &self,
        measure: &str,
        previous: Option<[u8; 32]>,
        chain: &[[u8; 32]],
    ) -> Result<(), StateError> {
        let Some((latest, known)) = self.stored.orders.get(measure).and_then(|known| Some((known.last()?, known)))
        else {
            return Ok(());
        };
        let chain: Vec<String> = chain.iter().map(hex::encode).collect();
        if chain.contains(latest) || previous.is_some_and(|previous| hex::encode(previous) == *latest) {
            return Ok(());
        }
        match chain.last() {
            Some(order) if known.contains(order) => Err(StateError::OlderOrder {
                measure: measure.to_owned(),
                order: order.clone(),
                latest: latest.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Keeps a measure's orders; on disk when it returns.
    ///
    /// # Errors
    /// It cannot be written; nothing is changed then.
    pub fn keep_orders(&mut self, measure: &str, chain: &[[u8; 32]]) -> Result<(), StateError> {
        let mut changed = self.stored.clone();
        let known = changed.orders.entry(measure.to_owned()).or_default();
        known.extend(chain.iter().map(hex::encode).filter(|order| !known.contains(order)).collect::<Vec<_>>());
        known.drain(..known.len().saturating_sub(ORDERS_KEPT_MAX));
        if changed.orders == self.stored.orders {
            return Ok(());
        }
        self.write(changed)
    }

    /// The generations whose records may still come.
    pub(super) fn generations(&self) -> &Generations {
        &self.stored.generations
    }

    /// Keeps what generations mean; on disk when it returns.
    ///
    /// # Errors
    /// It cannot be written; nothing is changed then.
    pub(super) fn keep_generations(&mut self, generations: &Generations) -> Result<(), StateError> {
        let mut changed = self.stored.clone();
        changed.generations = generations.clone();
        self.write(changed)
    }

    fn write(&mut self, changed: Stored) -> Result<(), StateError> {
        let text = serde_json::to_vec_pretty(&changed)
            .map_err(|error| StateError::Invalid { path: self.path.clone(), reason: error.to_string() })?;
        replace_file(&self.path, &text).map_err(|source| io(&self.path, source))?;
        self.stored = changed;
        Ok(())
    }
}

/// Replaces a file whole, mode 0600: after a crash the old or the new content is there.
///
/// # Errors
/// Any of write, flush or rename failed.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = directory.join(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(directory)?.sync_all()
}

fn io(path: &Path, source: std::io::Error) -> StateError {
    StateError::Io { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests;
