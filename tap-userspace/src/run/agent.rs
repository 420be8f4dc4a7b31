//! The running agent: what its loops share, and the locks between them.
//!
//! Locks are taken in this order and never the other way round: `versions`, `loading`, `permission`, `clock`, `tap`; all others are
//! taken last, and alone or in the order of the measures.

use super::admit::Host;
use super::audit::Audit;
use super::error::RunError;
use super::generations::Generations;
use super::measure::Measure;
use super::sampling::ChangeLog;
use super::stage::Staged;
use super::state::State;
use crate::clock::Watch;
use crate::config::Config;
use crate::control::status::ApiStatus;
use crate::keys::SecretKey;
use crate::load::LoadError;
use crate::loader::{Compiler, Tap};
use crate::metrics::share::Shares;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the loops share.
pub(super) struct Agent {
    pub(super) config: Config,
    pub(super) host: Host,
    /// By slot.
    pub(super) measures: Vec<Measure>,
    /// Instance of the maps, read once: it does not change while they live.
    pub(super) instance: [u8; 16],
    /// One load at a time; holds the seed of the flow sample, which is secret.
    pub(super) loading: Mutex<Seed>,
    pub(super) permission: Mutex<Permission>,
    pub(super) clock: Mutex<ClockView>,
    /// `None` once it is detached.
    pub(super) tap: Mutex<Option<Tap>>,
    /// Has generations verified and compiled in the loader, beside what the tap does.
    pub(super) compiler: Compiler,
    /// The set that waits in the loader for its activation.
    pub(super) staged: Mutex<Option<Staged>>,
    /// Calls of the control API.
    pub(super) api: Mutex<ApiStatus>,
    /// Kept versions of the measures' sets: one change at a time. Taken before `loading`.
    pub(super) versions: Mutex<()>,
    pub(super) state: Mutex<State>,
    pub(super) generations: Mutex<Generations>,
    /// The facility's: all measures together.
    pub(super) share: Mutex<Shares>,
    pub(super) changes: Mutex<ChangeLog>,
    pub(super) audit: Arc<Audit>,
    /// The host's key: it signs receipts.
    pub(super) receipt_key: SecretKey,
    pub(super) seeds_total: AtomicU64,
    /// Records of no measure, and ring entries that are no records.
    pub(super) invalid: AtomicU64,
    pub(super) entries: AtomicU64,
    /// The loops end: the drain when its rings are empty, the others at once.
    pub(super) stopping: AtomicBool,
}

/// The seed of the flow hash. Its debug form shows nothing.
pub(super) struct Seed(pub(super) u64);

/// What all measures together may do.
#[derive(Debug, Default)]
pub(super) struct Permission {
    /// Share of the facility's bucket, as it was last written.
    pub(super) facility_share_ppm: u32,
    /// The agent stops: no renewal any more.
    pub(super) revoked: bool,
}

/// The clock as it was last read.
#[derive(Debug)]
pub(super) struct ClockView {
    pub(super) watch: Watch,
    pub(super) synchronised: bool,
    pub(super) error_ns: u64,
    /// Why it is in doubt, one of `clock::DOUBTS`.
    pub(super) doubt: Option<&'static str>,
    pub(super) steps_back_total: u64,
    pub(super) steps_forward_total: u64,
    pub(super) kept_unix_ns: u64,
}

impl Seed {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(super) fn random() -> Result<Self, RunError> {
        let mut seed = [0_u8; 8];
        getrandom::fill(&mut seed).map_err(|error| RunError::failed("random numbers", error))?;
        Ok(Self(u64::from_le_bytes(seed)))
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(redacted)")
    }
}

impl Agent {
    /// Does something with the tap.
    ///
    /// # Errors
    /// What the kernel's side says, or that the agent has detached.
    pub(super) fn with_tap<T>(&self, act: impl FnOnce(&mut Tap) -> Result<T, LoadError>) -> Result<T, RunError> {
        let mut tap = lock(&self.tap);
        let tap = tap.as_mut().ok_or_else(|| RunError::Failed("the program is detached".into()))?;
        act(tap).and_then(|done| tap.settled().map(|()| done)).map_err(|error| RunError::failed("kernel", error))
    }

    /// Whether the loader is gone: nothing can be told to the kernel any more.
    pub(super) fn loader_is_gone(&self) -> bool {
        lock(&self.tap).as_ref().is_some_and(Tap::is_gone)
    }

    /// Takes the program off the mirror port, once.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub(super) fn detach(&self) -> Result<(), RunError> {
        match lock(&self.tap).take() {
            Some(tap) => tap.detach().map_err(|error| RunError::failed("detach", error)),
            None => Ok(()),
        }
    }

    /// The measure of this id; without an id the only one.
    ///
    /// # Errors
    /// There is none, or there are several; their ids are named.
    pub(super) fn measure(&self, id: Option<&str>) -> Result<&Measure, RunError> {
        let ids = || self.measures.iter().map(Measure::id).collect::<Vec<_>>().join(", ");
        match (id, self.measures.as_slice()) {
            (None, [only]) => Ok(only),
            (None, _) => Err(RunError::Refused(format!("several measures run here; name one: --measure ({})", ids()))),
            (Some(id), measures) => measures
                .iter()
                .find(|measure| measure.id() == id)
                .ok_or_else(|| RunError::Refused(format!("measure {id} does not run here; these do: {}", ids()))),
        }
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// Locks; a loop that panicked while it held the lock ends the agent anyway, and what it left is not worse than before.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
