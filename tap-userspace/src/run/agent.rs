//! The running agent: what its loops share, and the locks between them.
//!
//! Locks are taken in this order and never the other way round: `loading`, `lease`, `clock`, `active`, `tap`; `state`,
//! `share` and `pseudonymiser` are taken last and alone.

use super::admit::Admitted;
use super::error::RunError;
use super::lease::Window;
use super::sealed::Texts;
use super::state::State;
use crate::clock::Watch;
use crate::config::Config;
use crate::control::status::SelectorStatus;
use crate::load::{LoadError, Tap};
use crate::metrics::share::SlidingShare;
use crate::path::export::ExportStatus;
use crate::path::pseudonymise::Pseudonymiser;
use crate::path::spool::Spool;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tap_common::abi::policy::Lease;

/// Measure slot that this agent uses.
pub(super) const SLOT: u32 = 0;

/// What the loops share.
pub(super) struct Agent {
    pub(super) config: Config,
    pub(super) admitted: Admitted,
    /// Instance of the maps, read once: it does not change while they live.
    pub(super) instance: [u8; 16],
    /// Seed of the flow sample: secret, the same for all generations of a run, so that whole flows stay whole.
    pub(super) sampling_seed: u64,
    /// One load at a time.
    pub(super) loading: Mutex<()>,
    pub(super) lease: Mutex<LeaseView>,
    pub(super) clock: Mutex<ClockView>,
    pub(super) active: Mutex<Active>,
    /// `None` once it is detached.
    pub(super) tap: Mutex<Option<Tap>>,
    pub(super) state: Mutex<State>,
    pub(super) share: Mutex<SlidingShare>,
    pub(super) pseudonymiser: Mutex<Pseudonymiser>,
    pub(super) spool: Spool,
    pub(super) export: Arc<ExportStatus>,
    pub(super) records: RecordCounts,
    /// The loops end: the drain when its rings are empty, the others at once.
    pub(super) stopping: AtomicBool,
}

/// The set that decides.
#[derive(Clone, Debug, Default)]
pub(super) struct Active {
    pub(super) window: Option<Window>,
    pub(super) status: SelectorStatus,
    pub(super) texts: Option<Texts>,
}

/// The lease as it was last written.
#[derive(Debug, Default)]
pub(super) struct LeaseView {
    pub(super) lease: Lease,
    pub(super) refused: Option<String>,
    pub(super) refused_total: u64,
    /// The agent stops: no renewal any more.
    pub(super) revoked: bool,
}

/// The clock as it was last read.
#[derive(Debug)]
pub(super) struct ClockView {
    pub(super) watch: Watch,
    pub(super) synchronised: bool,
    pub(super) set_back: bool,
    pub(super) steps_back_total: u64,
    pub(super) steps_forward_total: u64,
    pub(super) kept_unix_ns: u64,
}

/// Records on their way, since the start.
#[derive(Debug, Default)]
pub(super) struct RecordCounts {
    pub(super) drained: AtomicU64,
    pub(super) spooled: AtomicU64,
    pub(super) refused: AtomicU64,
    /// Records that cannot leave.
    pub(super) invalid: AtomicU64,
    /// Ring entries that are no records.
    pub(super) entries: AtomicU64,
}

impl Agent {
    /// Does something with the tap.
    ///
    /// # Errors
    /// What the kernel's side says, or that the agent has detached.
    pub(super) fn with_tap<T>(&self, act: impl FnOnce(&mut Tap) -> Result<T, LoadError>) -> Result<T, RunError> {
        let mut tap = lock(&self.tap);
        let tap = tap.as_mut().ok_or_else(|| RunError::Failed("the program is detached".into()))?;
        act(tap).map_err(|error| RunError::failed("kernel", error))
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

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// Locks; a loop that panicked while it held the lock ends the agent anyway, and what it left is not worse than before.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
