//! What the receiving facility did. Numbers and reasons, never a record.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

/// Counters since the start; readers may load them at any time.
#[derive(Debug, Default)]
pub struct ReceiveStatus {
    /// Connections accepted.
    pub sessions_total: AtomicU64,
    /// Connections open now.
    pub sessions_open: AtomicU64,
    /// Messages stored.
    pub stored_messages: AtomicU64,
    /// Octets of the files stored.
    pub stored_bytes: AtomicU64,
    /// Packet records in them.
    pub stored_records: AtomicU64,
    /// Messages that were there already.
    pub repeated_messages: AtomicU64,
    /// Messages acknowledged.
    pub acknowledgements: AtomicU64,
    /// Notices that are not acknowledged.
    pub notices_waiting: AtomicU64,
    /// Of them, those that are late.
    pub notices_late: AtomicU64,
    /// Notices in the outbox that are acknowledged.
    pub notices_acknowledged: AtomicU64,
    /// Attempts after which a notice was not acknowledged.
    pub notice_failures: AtomicU64,
    /// Receipts that are set aside, as of the last page.
    pub receipts_set_aside: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl ReceiveStatus {
    /// Sessions that ended with an error, by reason.
    #[must_use]
    pub fn refused_sessions(&self) -> BTreeMap<&'static str, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn refused(&self, code: &'static str) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }
}
