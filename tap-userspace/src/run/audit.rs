//! What the agent writes into the audit log, and when.
//!
//! In: acts, as they are about to happen or have happened. Out: leaves. An act that needs the log (an order, an activation, a
//! swap) is written before it happens and does not happen if it cannot be written ([`Audit::must`]); whatever ends or limits
//! selection happens at once and is written after it ([`Audit::tell`]): a full disk never keeps a tap running.

use super::admit::Admitted;
use super::agent::{Agent, lock};
use super::documents::{self, Kind};
use super::error::RunError;
use super::measure::{Active, Measure};
use super::receipts;
use super::state::State;
use crate::audit::leaf::{SwapReason, reason};
use crate::audit::log::Head;
use crate::audit::{Leaf, Log};
use crate::config;
use crate::keys::{HostKeyId, SecretKey, sha256};
use crate::limits::{AUDIT_INTERVAL, LOG_CAP_INTERVAL};
use crate::order::Order;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tap_common::abi::counter::{Counters, Verdict};

/// The log, and what was last said in it.
pub(super) struct Audit {
    log: Log,
    state_directory: PathBuf,
    clock_in_doubt: AtomicBool,
    failing: AtomicBool,
    seen: Mutex<Vec<Seen>>,
}

impl Audit {
    /// Opens the log and says that an agent starts.
    ///
    /// # Errors
    /// The log cannot be written, or is older than the head that the state has of it: nothing starts.
    pub(super) fn open(config: &config::Config, host_key: &HostKeyId, state: &mut State) -> Result<Self, RunError> {
        let key =
            SecretKey::from_file(&config.log.key_file).map_err(|error| RunError::refused("log.key_file", error))?;
        let log = Log::open(&config.log.directory, key).map_err(|error| RunError::refused("log", error))?;
        let (entries, root) = state.log_head(&log.name()).map_err(|error| RunError::Refused(error.to_string()))?;
        if entries > 0 {
            log.continues(entries, &root).map_err(|error| RunError::refused("log", error))?;
        }
        let audit = Self {
            log,
            state_directory: config.state.directory.clone(),
            clock_in_doubt: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            seen: Mutex::default(),
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        audit.must(&Leaf::Start {
            version,
            host_key: host_key.to_string(),
            machine_sha256: machine(),
            boot: boot(),
        })?;
        audit.keep_head(state)?;
        Ok(audit)
    }

    /// Keeps the log's head with the state, which lies elsewhere: a log that is set back to before it is noticed.
    ///
    /// # Errors
    /// The state cannot be written.
    pub(super) fn keep_head(&self, state: &mut State) -> Result<(), RunError> {
        let head = self.log.head();
        state.keep_log(&self.log.name(), head.entries, &head.root).map_err(|error| RunError::Refused(error.to_string()))
    }

    /// The latest wall time that the log shows, nanoseconds since 1970.
    pub(super) fn last_time(&self) -> Option<u64> {
        self.log.last_time()
    }

    /// Entries, root, latest time.
    pub(super) fn head(&self) -> Head {
        self.log.head()
    }

    /// Writes an act that may not happen without.
    ///
    /// # Errors
    /// It is not on disk.
    pub(super) fn must(&self, leaf: &Leaf) -> Result<(), RunError> {
        self.log.append(leaf).map(drop).map_err(|error| {
            RunError::Refused(format!("the audit log cannot be written, so this does not happen: {error}"))
        })
    }

    /// Writes an act that happened.
    pub(super) fn tell(&self, leaf: &Leaf) {
        match self.log.append(leaf) {
            Ok(_) => self.failing.store(false, Ordering::Relaxed),
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::error!(act = leaf.name(), %error, "an act is missing in the audit log");
            }
            Err(_) => {}
        }
    }

    /// Keeps a document that an act goes by.
    ///
    /// # Errors
    /// It is not on disk.
    pub(super) fn document(&self, kind: Kind, note: &str) -> Result<(), RunError> {
        documents::keep(&self.state_directory, kind, note).map(drop).map_err(|error| {
            RunError::Refused(format!("the {} cannot be kept, so this does not happen: {error}", kind.name()))
        })
    }

    /// An order: the document and its leaf.
    ///
    /// # Errors
    /// As [`Audit::must`].
    pub(super) fn order(&self, order: &Order, note: &str, share_ppm: u32) -> Result<(), RunError> {
        self.document(Kind::Order, note)?;
        let measure = &order.measure;
        self.must(&Leaf::OrderLoaded {
            measure: measure.id.clone(),
            order_sha256: hex::encode(order.sha256),
            basis: measure.basis.name().to_owned(),
            share_ppm,
            not_before: measure.not_before,
            not_after: measure.not_after,
        })
    }

    /// What an order and those that extend it allow, before anything is attached.
    ///
    /// # Errors
    /// As [`Audit::must`].
    pub(super) fn admitted(&self, admitted: &Admitted) -> Result<(), RunError> {
        let measure = &admitted.order.measure;
        for (order, note) in admitted.chain.iter().zip(&admitted.notes) {
            self.order(order, note, admitted.share_ppm)?;
        }
        let key = &admitted.pseudonym_key;
        self.must(&Leaf::KeyEpoch {
            measure: measure.id.clone(),
            epoch: key.epoch,
            not_before: key.not_before,
            not_after: key.not_after,
        })
    }

    /// An activation and the end it was given.
    ///
    /// # Errors
    /// As [`Audit::must`].
    pub(super) fn activation(&self, measure: &Measure, next: &Active) -> Result<(), RunError> {
        if let Some(texts) = &next.texts {
            self.document(Kind::Activation, &texts.activation)?;
        }
        let status = &next.status;
        let valid_until = jiff::Timestamp::from_second(status.valid_until_seconds)
            .map_err(|error| RunError::failed("activation", error))?;
        self.must(&Leaf::Activation {
            measure: measure.id().to_owned(),
            number: status.generation,
            set_sha256: status.set_sha256.clone(),
            rules: status.rules as u64,
            valid_until,
        })
    }

    /// A withdrawal, which is in force whatever the disk takes.
    pub(super) fn withdrawal(&self, measure: &Measure, number: u64, note: &str) {
        if let Err(error) = self.document(Kind::Withdrawal, note) {
            tracing::error!(%error, "a withdrawal is missing among the documents");
        }
        let (measure, sha256) = (measure.id().to_owned(), hex::encode(sha256(note.as_bytes())));
        self.tell(&Leaf::Withdrawn { measure, number, sha256 });
    }

    /// Rules that the generation which is about to decide has no more, because they are over. `before` is activation and
    /// rules over of each measure in the one before.
    ///
    /// # Errors
    /// As [`Audit::must`].
    pub(super) fn rules_over(
        &self,
        measures: &[Measure],
        actives: &[Active],
        before: &[(u64, usize)],
    ) -> Result<(), RunError> {
        for ((measure, active), before) in measures.iter().zip(actives).zip(before) {
            if active.over > 0 && *before != (active.status.generation, active.over) {
                self.must(&Leaf::RulesOver {
                    measure: measure.id().to_owned(),
                    number: active.status.generation,
                    over: active.over as u64,
                    left: active.status.rules.saturating_sub(active.over) as u64,
                })?;
            }
        }
        Ok(())
    }

    /// A generation that is about to decide.
    ///
    /// # Errors
    /// As [`Audit::must`].
    pub(super) fn swap(&self, generation: u64, why: SwapReason, actives: &[Active]) -> Result<(), RunError> {
        let activations = actives.iter().map(|active| active.status.generation).collect();
        self.must(&Leaf::Swap { generation, why, activations })
    }

    /// Whether the clock is in doubt, and why; said when it changes.
    pub(super) fn clock(&self, doubt: Option<&str>) {
        if self.clock_in_doubt.swap(doubt.is_some(), Ordering::Relaxed) != doubt.is_some() {
            self.tell(&doubt.map_or(Leaf::ClockTrusted, |why| Leaf::ClockDoubt { reason: reason(why) }));
        }
    }

    /// Whether a measure has a lease; called when that changes.
    pub(super) fn lease(&self, measure: &str, refused: Option<&str>) {
        let measure = measure.to_owned();
        self.tell(&match refused {
            None => Leaf::LeaseGiven { measure },
            Some(why) => Leaf::LeaseLost { measure, reason: reason(why) },
        });
    }
}

/// A digest of the machine's id; the id itself is for the machine alone (machine-id(5)).
fn machine() -> String {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    if id.trim().is_empty() { String::new() } else { hex::encode(sha256(format!("gwtap\n{}", id.trim()).as_bytes())) }
}

/// The kernel's name for the time since it was started.
fn boot() -> String {
    let id = std::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"));
    id.unwrap_or_default().trim().to_owned()
}

/// What is held against the host key before the rest is read: the log says whose host it is.
pub(super) fn host_key(config: &config::Config) -> Result<HostKeyId, RunError> {
    let key = SecretKey::from_file(&config.host.key_file).map_err(|error| RunError::refused("host.key_file", error))?;
    Ok(HostKeyId::of(&key.public()))
}

/// What the watch saw last of one measure.
#[derive(Clone, Copy, Default)]
struct Seen {
    sessions: u64,
    connected: bool,
    over_cap: Cap,
}

/// What was last said of a cap.
#[derive(Clone, Copy, Default)]
struct Cap {
    packets: u64,
    told: Option<Instant>,
}

/// Watches what happens by itself (sessions, caps) until the agent stops.
pub(super) fn run(agent: &Agent) {
    let mut seen = vec![Seen::default(); agent.measures.len()];
    // The counters outlive the agent that left them: what they show now was said by whoever was here then.
    if let Ok(counters) = agent.with_tap(|tap| tap.counters()) {
        for (seen, packets) in seen.iter_mut().zip(over_cap(&counters)) {
            seen.over_cap.packets = packets;
        }
    }
    *lock(&agent.audit.seen) = seen;
    while !agent.stopping() {
        watch(agent, &mut lock(&agent.audit.seen));
        receipts::watch(agent);
        std::thread::park_timeout(AUDIT_INTERVAL);
    }
    watch(agent, &mut lock(&agent.audit.seen));
}

/// The export tasks have ended: so has every session that was open.
pub(super) fn sessions_over(agent: &Agent) {
    for (measure, seen) in agent.measures.iter().zip(lock(&agent.audit.seen).iter()) {
        if seen.connected {
            agent.audit.tell(&Leaf::ExportClosed { measure: measure.id().to_owned(), session: seen.sessions });
        }
    }
}

fn watch(agent: &Agent, seen: &mut [Seen]) {
    for (measure, seen) in agent.measures.iter().zip(seen.iter_mut()) {
        session(agent, measure, seen);
    }
    let Ok(counters) = agent.with_tap(|tap| tap.counters()) else { return };
    for ((measure, seen), packets) in agent.measures.iter().zip(seen).zip(over_cap(&counters)) {
        let due = seen.over_cap.told.is_none_or(|told| told.elapsed() >= LOG_CAP_INTERVAL);
        if packets > seen.over_cap.packets && due {
            let new = packets - seen.over_cap.packets;
            agent.audit.tell(&Leaf::CapReached { measure: measure.id().to_owned(), packets: new });
            seen.over_cap = Cap { packets, told: Some(Instant::now()) };
        }
    }
}

/// Packets that a cap refused, by measure.
fn over_cap(counters: &Counters) -> impl Iterator<Item = u64> {
    counters.measures.iter().map(|counted| counted.verdicts.get(Verdict::OverCap as usize).copied().unwrap_or_default())
}

/// Says which sessions of a measure began and ended since the last look.
fn session(agent: &Agent, measure: &Measure, seen: &mut Seen) {
    let status = &measure.export;
    let sessions = status.sessions.load(Ordering::Acquire);
    let connected = status.connected.load(Ordering::Acquire);
    let id = || measure.id().to_owned();
    let is_new = sessions > seen.sessions;
    if seen.connected && (is_new || !connected) {
        agent.audit.tell(&Leaf::ExportClosed { measure: id(), session: seen.sessions });
    }
    if is_new {
        agent.audit.tell(&Leaf::ExportOpened { measure: id(), session: sessions });
        if !connected {
            agent.audit.tell(&Leaf::ExportClosed { measure: id(), session: sessions });
        }
    }
    (seen.sessions, seen.connected) = (sessions, connected);
}

/// The program that decides from now on, by the digest that the kernel's own reading gave.
pub(super) fn program(agent: &Agent, generation: u64) {
    let info = lock(&agent.tap).as_ref().and_then(|tap| tap.program_info().map(|info| hex::encode(info.digest)));
    agent.audit.tell(&Leaf::Program { generation, program_sha256: info.unwrap_or_default() });
}
