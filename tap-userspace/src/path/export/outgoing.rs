//! What goes out in a session, whatever way it goes: the spool's messages in order, each with its identity, until they are
//! acknowledged and forgotten. It reads nothing but the spool.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use super::window::Window;
use super::{ExportError, ExportStatus};
use crate::ipfix::decode::{self, Templates, count_records};
use crate::ipfix::encode::{self, Anonymisation};
use crate::ipfix::message::{OBSERVATION_DOMAIN, message};
use crate::ipfix::typed::Identity;
use crate::keys::HostKeyId;
use crate::path::spool::{Spool, SpoolError};

/// One session's place in the spool.
pub(super) struct Outgoing<'a> {
    pub(super) host: HostKeyId,
    pub(super) spool: &'a Spool,
    status: &'a ExportStatus,
    window: &'a mut Window,
    /// The templates that the peer knows.
    templates: Templates,
    /// The next spool sequence to send.
    pub(super) next: u64,
}

/// What the spool gave.
pub(super) enum Batch {
    /// Messages from a sequence on.
    Messages(u64, Vec<Vec<u8>>),
    /// The first message wanted is damaged.
    Damaged,
}

/// A message of the spool as it goes out.
pub(super) struct Framed {
    pub(super) bytes: Vec<u8>,
    /// Data records in it, options records among them.
    pub(super) records: u32,
    /// Packet records in it.
    packets: u32,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(host: HostKeyId, spool: &'a Spool, status: &'a ExportStatus, window: &'a mut Window) -> Self {
        Self { host, spool, status, window, templates: Templates::default(), next: spool.first_sequence() }
    }

    /// Messages of this session that are not acknowledged.
    pub(super) fn owed(&self) -> usize {
        usize::try_from(self.next.saturating_sub(self.spool.first_sequence())).unwrap_or(usize::MAX)
    }

    /// Templates, elements and anonymisation, in a message of their own, and the number of its data records.
    pub(super) fn opening(&mut self, anonymisation: Anonymisation) -> Result<(Vec<u8>, u32), ExportError> {
        let sets = encode::session_sets(anonymisation);
        let sets: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
        let bytes = message(export_time(), 0, OBSERVATION_DOMAIN, &sets).ok_or_else(|| too_long(0))?;
        let records = decode::message(&bytes, &mut self.templates)?.record_count();
        Ok((bytes, u32::try_from(records).unwrap_or_default()))
    }

    pub(super) async fn read(&self, count: usize) -> Result<Batch, ExportError> {
        let first = self.next;
        blocking(self.spool, move |spool| {
            let mut messages = Vec::with_capacity(count);
            for sequence in (first..).take(count) {
                match spool.read(sequence) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(SpoolError::Damaged { .. }) if messages.is_empty() => return Ok(Batch::Damaged),
                    Err(SpoolError::Damaged { .. }) => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(Batch::Messages(first, messages))
        })
        .await
    }

    /// Message `sequence`, whose sets are `body`, as the one that follows `before` data records of its session.
    pub(super) fn framed(&self, sequence: u64, body: &[u8], before: u32) -> Result<Framed, ExportError> {
        let first_sequence = self.spool.first_sequence();
        let identity = Identity { host: self.host.0, spool: self.spool.uuid(), sequence, first_sequence };
        let identity = encode::identity_set(&identity);
        let counts = count_records(body, OBSERVATION_DOMAIN, &self.templates)
            .map_err(|error| ExportError::Message { sequence, reason: error.to_string() })?;
        let bytes =
            message(export_time(), before, OBSERVATION_DOMAIN, &[&identity, body]).ok_or_else(|| too_long(sequence))?;
        Ok(Framed { bytes, records: counts.all + 1, packets: counts.packets })
    }

    /// Notes that a message leaves, before it does: also of a write that fails everything may have arrived.
    pub(super) fn leaves(&mut self, sequence: u64, framed: &Framed) {
        self.next = sequence + 1;
        if self.window.sent(sequence, framed.packets) {
            self.status.sent_messages.fetch_add(1, Relaxed);
            self.status.sent_records.fetch_add(u64::from(framed.packets), Relaxed);
        } else {
            self.status.resent_messages.fetch_add(1, Relaxed);
        }
    }

    /// Every message through `through` is stored: the spool may forget it. Whether that moved anything.
    pub(super) async fn forget(&mut self, through: u64) -> Result<bool, ExportError> {
        if !self.window.may_be_stored(through) {
            return Err(ExportError::Acknowledgement("a message that was never sent"));
        }
        let moves = through >= self.spool.first_sequence();
        if moves {
            blocking(self.spool, move |spool| spool.trim(through)).await?;
        }
        let records = self.window.acknowledged(through);
        self.status.acknowledged_records.fetch_add(records, Relaxed);
        self.status.acknowledged_sequence.fetch_max(through + 1, Relaxed);
        // The peer may have stored more in an earlier session than its acknowledgements could tell.
        self.next = self.next.max(through + 1);
        Ok(moves)
    }

    /// The oldest message of the spool is damaged and nothing before it is owed: it is given up, and counted.
    pub(super) async fn skip_damaged(&mut self) -> Result<(), ExportError> {
        let sequence = self.next;
        tracing::error!(sequence, "a damaged message of the spool is given up");
        self.status.damaged_messages.fetch_add(1, Relaxed);
        blocking(self.spool, move |spool| spool.trim(sequence)).await?;
        self.next = sequence + 1;
        Ok(())
    }
}

/// Runs `work` where it may wait for the disk.
async fn blocking<T: Send + 'static>(
    spool: &Spool,
    work: impl FnOnce(&Spool) -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, ExportError> {
    let spool = spool.clone();
    match tokio::task::spawn_blocking(move || work(&spool)).await {
        Ok(result) => result.map_err(ExportError::Spool),
        Err(error) => Err(ExportError::Io { step: "reading the spool", source: std::io::Error::other(error) }),
    }
}

fn too_long(sequence: u64) -> ExportError {
    ExportError::Message { sequence, reason: "it is longer than an IPFIX message can be".into() }
}

/// Seconds since 1970; the field ends in 2106 (RFC 7011, section 3.1).
fn export_time() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
