//! What the export did, for metrics and `gwtap status`. Numbers and reasons, never a record.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::ExportError;

/// Counters of the export task; readers may load them at any time.
#[derive(Debug, Default)]
pub struct ExportStatus {
    /// Messages sent for the first time since the start.
    pub sent_messages: AtomicU64,
    /// Packet records in them.
    pub sent_records: AtomicU64,
    /// Messages sent again, because a session ended before they were acknowledged.
    pub resent_messages: AtomicU64,
    /// Every spool sequence below is acknowledged; 0 when none is.
    pub acknowledged_sequence: AtomicU64,
    /// Packet records in messages that were sent and acknowledged since the start.
    pub acknowledged_records: AtomicU64,
    /// Messages that the spool could not give back, and that are lost.
    pub damaged_messages: AtomicU64,
    /// A session is open.
    pub connected: AtomicBool,
    /// The open session's peer acknowledges.
    pub acknowledging: AtomicBool,
    /// Sessions opened since the start.
    pub sessions: AtomicU64,
    /// Sessions or attempts that ended.
    pub reconnects: AtomicU64,
    last_error: Mutex<Option<(&'static str, String)>>,
}

impl ExportStatus {
    /// Code and text of the last failure.
    #[must_use]
    pub fn last_error(&self) -> Option<(&'static str, String)> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn connected(&self, acknowledges: bool) {
        self.sessions.fetch_add(1, Relaxed);
        self.acknowledging.store(acknowledges, Relaxed);
        self.connected.store(true, Relaxed);
    }

    /// A session or an attempt ended: by `error`, or because the certificates changed.
    pub(super) fn ended(&self, error: Option<&ExportError>) {
        self.connected.store(false, Relaxed);
        self.reconnects.fetch_add(1, Relaxed);
        let Some(error) = error else { return };
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some((error.code(), error.to_string()));
    }

    /// Grows whenever something is delivered.
    pub(super) fn progress(&self) -> u64 {
        self.acknowledged_sequence.load(Relaxed)
    }
}
