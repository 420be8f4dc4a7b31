//! One session: templates, then the spool's messages in order, while acknowledgements come back beside them.

use std::convert::Infallible;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncWriteExt, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::client::TlsStream;

use super::connect::Connection;
use super::window::Window;
use super::{ExportConfig, ExportError, ExportStatus};
use crate::ipfix::decode::{Templates, count_records};
use crate::ipfix::message::{OBSERVATION_DOMAIN, message};
use crate::ipfix::typed::Identity;
use crate::ipfix::{decode, encode};
use crate::keys::HostKeyId;
use crate::limits::{EXPORT_BATCH_MESSAGES_MAX, EXPORT_STALL_MAX, EXPORT_WINDOW_MESSAGES_MAX, PLAIN_SETTLE};
use crate::path::ack;
use crate::path::spool::{Spool, SpoolError};

/// Sends until something ends it.
pub(super) async fn run(
    connection: Connection,
    config: &ExportConfig,
    host: HostKeyId,
    spool: &Spool,
    status: &ExportStatus,
    window: &mut Window,
) -> Result<Infallible, ExportError> {
    let (reader, writer) = split(connection.stream);
    let (acknowledge, mut acknowledged) = watch::channel(None);
    let mut session = Session {
        writer,
        templates: Templates::default(),
        sequence: 0,
        next: spool.first_sequence(),
        moved: Instant::now(),
        acknowledges: connection.acknowledges,
        host,
        spool,
        status,
        window,
    };
    let answers = ack::follow(reader, host, spool.uuid(), acknowledge);
    tokio::select! {
        ended = answers => Err(ended),
        ended = session.run(config, &mut acknowledged) => ended,
    }
}

struct Session<'a> {
    writer: WriteHalf<TlsStream<TcpStream>>,
    /// The templates that the peer knows.
    templates: Templates,
    /// Data records sent in this session, modulo 2^32.
    sequence: u32,
    /// The next spool sequence to send.
    next: u64,
    /// When something was last acknowledged, or became owed.
    moved: Instant,
    acknowledges: bool,
    host: HostKeyId,
    spool: &'a Spool,
    status: &'a ExportStatus,
    window: &'a mut Window,
}

/// What the spool gave.
enum Batch {
    /// Messages from a sequence on.
    Messages(u64, Vec<Vec<u8>>),
    /// The first message wanted is damaged.
    Damaged,
}

impl Session<'_> {
    async fn run(
        &mut self,
        config: &ExportConfig,
        acknowledged: &mut watch::Receiver<Option<u64>>,
    ) -> Result<Infallible, ExportError> {
        if !self.acknowledges {
            sleep(PLAIN_SETTLE).await;
        }
        self.open(config).await?;
        let mut appended = self.spool.subscribe();
        loop {
            let available = *appended.borrow_and_update();
            let through = *acknowledged.borrow_and_update();
            if let Some(through) = through {
                self.forget(through).await?;
            }
            let room = EXPORT_WINDOW_MESSAGES_MAX.saturating_sub(self.owed());
            if self.next < available && room > 0 {
                match self.read(room.min(EXPORT_BATCH_MESSAGES_MAX)).await? {
                    Batch::Messages(first, messages) if !messages.is_empty() => {
                        self.send(first, &messages).await?;
                        continue;
                    }
                    Batch::Messages(..) => {}
                    Batch::Damaged if self.next == self.spool.first_sequence() => {
                        self.skip_damaged().await?;
                        continue;
                    }
                    // What is before it is on its way: its acknowledgement comes first.
                    Batch::Damaged => {}
                }
            }
            let stalled = async {
                match self.owed() {
                    0 => std::future::pending().await,
                    _ => sleep_until(self.moved + EXPORT_STALL_MAX).await,
                }
            };
            tokio::select! {
                changed = appended.changed() => changed.map_err(|_closed| ExportError::Closed)?,
                changed = acknowledged.changed() => changed.map_err(|_closed| ExportError::Closed)?,
                () = stalled => return Err(ExportError::Stalled("acknowledgement")),
            }
        }
    }

    /// Messages of this session that are not acknowledged.
    fn owed(&self) -> usize {
        usize::try_from(self.next.saturating_sub(self.spool.first_sequence())).unwrap_or(usize::MAX)
    }

    /// Templates, elements and anonymisation, in a message of their own.
    async fn open(&mut self, config: &ExportConfig) -> Result<(), ExportError> {
        let sets = encode::session_sets(config.anonymisation);
        let sets: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
        let bytes = message(export_time(), 0, OBSERVATION_DOMAIN, &sets).ok_or_else(|| too_long(0))?;
        let opening = decode::message(&bytes, &mut self.templates)?;
        self.sequence = u32::try_from(opening.record_count()).unwrap_or_default();
        self.write(&bytes).await?;
        self.flush().await
    }

    async fn read(&self, count: usize) -> Result<Batch, ExportError> {
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

    async fn send(&mut self, first: u64, bodies: &[Vec<u8>]) -> Result<(), ExportError> {
        let first_sequence = self.spool.first_sequence();
        if self.owed() == 0 {
            self.moved = Instant::now();
        }
        for (sequence, body) in (first..).zip(bodies) {
            let identity = Identity { host: self.host.0, spool: self.spool.uuid(), sequence, first_sequence };
            let identity = encode::identity_set(&identity);
            let counts = count_records(body, OBSERVATION_DOMAIN, &self.templates)
                .map_err(|error| ExportError::Message { sequence, reason: error.to_string() })?;
            let bytes = message(export_time(), self.sequence, OBSERVATION_DOMAIN, &[&identity, body])
                .ok_or_else(|| too_long(sequence))?;
            // Noted before it leaves: also of a write that fails everything may have arrived.
            let first_time = self.window.sent(sequence, counts.packets);
            self.write(&bytes).await?;
            self.sequence = self.sequence.wrapping_add(counts.all + 1);
            self.next = sequence + 1;
            if first_time {
                self.status.sent_messages.fetch_add(1, Relaxed);
                self.status.sent_records.fetch_add(u64::from(counts.packets), Relaxed);
            } else {
                self.status.resent_messages.fetch_add(1, Relaxed);
            }
        }
        self.flush().await?;
        // Nobody will say that it is stored; the configuration accepted that.
        if !self.acknowledges && self.next > 0 { self.forget(self.next - 1).await } else { Ok(()) }
    }

    /// Every message through `through` is stored: the spool may forget it.
    async fn forget(&mut self, through: u64) -> Result<(), ExportError> {
        if !self.window.may_be_stored(through) {
            return Err(ExportError::Acknowledgement("a message that was never sent"));
        }
        if through >= self.spool.first_sequence() {
            blocking(self.spool, move |spool| spool.trim(through)).await?;
            self.moved = Instant::now();
        }
        let records = self.window.acknowledged(through);
        self.status.acknowledged_records.fetch_add(records, Relaxed);
        self.status.acknowledged_sequence.fetch_max(through + 1, Relaxed);
        // The peer may have stored more in an earlier session than its acknowledgements could tell.
        self.next = self.next.max(through + 1);
        Ok(())
    }

    /// The oldest message of the spool is damaged and nothing before it is owed: it is given up, and counted.
    async fn skip_damaged(&mut self) -> Result<(), ExportError> {
        let sequence = self.next;
        tracing::error!(sequence, "a damaged message of the spool is given up");
        self.status.damaged_messages.fetch_add(1, Relaxed);
        blocking(self.spool, move |spool| spool.trim(sequence)).await?;
        self.next = sequence + 1;
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        timeout(EXPORT_STALL_MAX, self.writer.write_all(bytes))
            .await
            .map_err(|_elapsed| ExportError::Stalled("sending"))?
            .map_err(ExportError::io("sending"))
    }

    async fn flush(&mut self) -> Result<(), ExportError> {
        timeout(EXPORT_STALL_MAX, self.writer.flush())
            .await
            .map_err(|_elapsed| ExportError::Stalled("sending"))?
            .map_err(ExportError::io("sending"))
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
