//! One measure of the running agent: its order, its lease, what it looks for, and the way of its records.
//!
//! Nothing in here is shared with another measure but the tap it stands on: a spool, keys, a session and counts of its
//! own.

use super::admit::Admitted;
use super::error::RunError;
use super::lease::Window;
use super::receipts::Told;
use super::sampling::Sample;
use super::sealed::Texts;
use crate::config;
use crate::control::status::SelectorStatus;
use crate::directive::restriction::Restriction;
use crate::ipfix::selection::Totals;
use crate::limits::SPOOL_SEGMENT_BYTES;
use crate::load::{LoadError, cap_policy};
use crate::metrics::share::Shares;
use crate::order::Order;
use crate::path::export::ExportStatus;
use crate::path::pseudonymise::{ClearPolicy, PseudonymMode, Pseudonymiser};
use crate::path::spool::{Spool, SpoolKey, SpoolLimits};
use crate::selectors::CheckedSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use tap_common::abi::policy::{CapPolicy, Lease};
use tap_common::path::sample;

/// A measure, and everything that is its own.
pub(super) struct Measure {
    /// Its slot in the kernel: its place in the configuration.
    pub(super) slot: u8,
    pub(super) config: config::Measure,
    pub(super) admitted: Admitted,
    /// Where its active set is kept, sealed.
    pub(super) directory: PathBuf,
    pub(super) lease: Mutex<LeaseView>,
    pub(super) active: Mutex<Active>,
    /// The order and those that extend it.
    pub(super) chain: Mutex<Vec<Order>>,
    /// What directives and the kill switch left.
    pub(super) restriction: Mutex<Restriction>,
    pub(super) sample: Mutex<Sample>,
    pub(super) share: Mutex<Shares>,
    pub(super) pseudonymiser: Mutex<Pseudonymiser>,
    pub(super) spool: Spool,
    pub(super) export: Arc<ExportStatus>,
    pub(super) records: RecordCounts,
    /// What its steps were given and let through, as its export said last.
    pub(super) declared: Mutex<Option<Totals>>,
    /// Receipts that are in the spool.
    pub(super) told: Mutex<Told>,
}

/// The set that decides.
#[derive(Clone, Debug, Default)]
pub(super) struct Active {
    pub(super) window: Option<Window>,
    pub(super) set: Option<Arc<CheckedSet>>,
    pub(super) status: SelectorStatus,
    pub(super) texts: Option<Arc<Texts>>,
    /// Which addresses its records show.
    pub(super) policy: Arc<ClearPolicy>,
    /// Rules that are over, and out of what decides.
    pub(super) over: usize,
    /// When the next one is over: what decides now must not decide from then on.
    pub(super) rules_end: Option<jiff::Timestamp>,
}

impl Active {
    /// Takes note of what is over at `now`, in the generation that is being made.
    pub(super) fn judge_rules(&mut self, now: jiff::Timestamp) {
        let Some(set) = &self.set else { return };
        self.over = set.over(now);
        self.rules_end = set.next_end(now).or(set.last_end());
    }

    /// When a generation without the next rule is due; nothing if that leaves none: the lease ends with the last one, and
    /// there is nothing to bring back.
    pub(super) fn due(&self) -> Option<jiff::Timestamp> {
        let set = self.set.as_ref()?;
        self.rules_end.filter(|end| set.next_end(*end).is_some())
    }
}

/// The lease as it was last written.
#[derive(Debug, Default)]
pub(super) struct LeaseView {
    pub(super) lease: Lease,
    pub(super) refused: Option<String>,
    pub(super) refused_total: u64,
}

/// Records on their way, since the start.
#[derive(Debug, Default)]
pub(super) struct RecordCounts {
    pub(super) drained: AtomicU64,
    pub(super) spooled: AtomicU64,
    pub(super) refused: AtomicU64,
    /// Records that cannot leave.
    pub(super) invalid: AtomicU64,
}

impl Measure {
    /// Opens the measure's spool and makes its pseudonymiser; touches nothing of the kernel.
    ///
    /// # Errors
    /// The spool or its key.
    pub(super) fn open(
        slot: u8,
        config: config::Measure,
        admitted: Admitted,
        state_directory: &Path,
        boot_to_unix_ns: i64,
    ) -> Result<Self, RunError> {
        let id = &admitted.order.measure.id;
        let what = |error: String| format!("measure {id}: {error}");
        let key = SpoolKey::read(&config.spool.key_file).map_err(|error| RunError::Refused(what(error.to_string())))?;
        let limits = SpoolLimits { bytes_max: config.spool.bytes_max, segment_bytes: SPOOL_SEGMENT_BYTES };
        let spool = Spool::open(&config.spool.directory, &key, limits)
            .map_err(|error| RunError::Failed(what(format!("spool: {error}"))))?;
        let mode = if admitted.order.addresses.prefix_preserving {
            PseudonymMode::PrefixPreserving
        } else {
            PseudonymMode::Deterministic
        };
        let pseudonymiser = Pseudonymiser::new(std::slice::from_ref(&admitted.pseudonym_key), mode, boot_to_unix_ns);
        Ok(Self {
            slot,
            directory: directory(state_directory, id),
            lease: Mutex::default(),
            active: Mutex::default(),
            chain: Mutex::new(admitted.chain.clone()),
            restriction: Mutex::default(),
            sample: Mutex::new(Sample::new(sample::threshold(admitted.order.sampling_ppm_max()))),
            share: Mutex::default(),
            pseudonymiser: Mutex::new(pseudonymiser),
            spool,
            export: Arc::default(),
            records: RecordCounts::default(),
            declared: Mutex::default(),
            told: Mutex::default(),
            config,
            admitted,
        })
    }

    /// The order's name for it.
    pub(super) fn id(&self) -> &str {
        &self.admitted.order.measure.id
    }

    /// This tap's part of the facility's capacity in parts per million, as the order and directives have it.
    pub(super) fn share_ppm(&self) -> u32 {
        let facility_share_ppm = self.admitted.order.facility.share_ppm;
        super::agent::lock(&self.restriction).tap_share_ppm(self.admitted.share_ppm, facility_share_ppm)
    }

    /// Its own bucket.
    ///
    /// # Errors
    /// The share gives no bucket: it is too small for the capacity.
    pub(super) fn cap_policy(&self) -> Result<CapPolicy, LoadError> {
        cap_policy(self.admitted.order.facility.capacity_bits_per_second, self.share_ppm())
    }
}

/// Where a measure's active set is kept. An id has letters, digits, '.', '_' and '-' only.
pub(super) fn directory(state_directory: &Path, measure_id: &str) -> PathBuf {
    state_directory.join(format!("measure-{measure_id}"))
}
