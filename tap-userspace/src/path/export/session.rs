//! One session: templates, then the spool's messages in order, while acknowledgements come back beside them.

use std::convert::Infallible;

use tokio::io::{AsyncWriteExt, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::client::TlsStream;

use super::connect::Connection;
use super::outgoing::{Batch, Outgoing};
use super::{ExportConfig, ExportError};
use crate::limits::{EXPORT_BATCH_MESSAGES_MAX, EXPORT_STALL_MAX, EXPORT_WINDOW_MESSAGES_MAX, PLAIN_SETTLE};
use crate::path::ack;

/// Sends until something ends it.
pub(super) async fn run(
    connection: Connection,
    config: &ExportConfig,
    outgoing: Outgoing<'_>,
) -> Result<Infallible, ExportError> {
    let (reader, writer) = split(connection.stream);
    let (acknowledge, mut acknowledged) = watch::channel(None);
    let answers = ack::follow(reader, outgoing.host, outgoing.spool.uuid(), acknowledge);
    let mut session =
        Session { writer, sequence: 0, moved: Instant::now(), acknowledges: connection.acknowledges, outgoing };
    tokio::select! {
        ended = answers => Err(ended),
        ended = session.run(config, &mut acknowledged) => ended,
    }
}

struct Session<'a> {
    writer: WriteHalf<TlsStream<TcpStream>>,
    /// Data records sent in this session, modulo 2^32.
    sequence: u32,
    /// When something was last acknowledged, or became owed.
    moved: Instant,
    acknowledges: bool,
    outgoing: Outgoing<'a>,
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
        let mut appended = self.outgoing.spool.subscribe();
        loop {
            let available = *appended.borrow_and_update();
            let through = *acknowledged.borrow_and_update();
            if let Some(through) = through {
                self.forget(through).await?;
            }
            let room = EXPORT_WINDOW_MESSAGES_MAX.saturating_sub(self.outgoing.owed());
            if self.outgoing.next < available && room > 0 {
                match self.outgoing.read(room.min(EXPORT_BATCH_MESSAGES_MAX)).await? {
                    Batch::Messages(first, messages) if !messages.is_empty() => {
                        self.send(first, &messages).await?;
                        continue;
                    }
                    Batch::Messages(..) => {}
                    Batch::Damaged if self.outgoing.owed() == 0 => {
                        self.outgoing.skip_damaged().await?;
                        continue;
                    }
                    // What is before it is on its way: its acknowledgement comes first.
                    Batch::Damaged => {}
                }
            }
            let stalled = async {
                match self.outgoing.owed() {
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

    /// Templates, elements and anonymisation, in a message of their own.
    async fn open(&mut self, config: &ExportConfig) -> Result<(), ExportError> {
        let (bytes, records) = self.outgoing.opening(config.anonymisation)?;
        self.sequence = records;
        self.write(&bytes).await?;
        self.flush().await
    }

    async fn send(&mut self, first: u64, bodies: &[Vec<u8>]) -> Result<(), ExportError> {
        if self.outgoing.owed() == 0 {
            self.moved = Instant::now();
        }
        for (sequence, body) in (first..).zip(bodies) {
            let framed = self.outgoing.framed(sequence, body, self.sequence)?;
            self.outgoing.leaves(sequence, &framed);
            self.write(&framed.bytes).await?;
            self.sequence = self.sequence.wrapping_add(framed.records);
        }
        self.flush().await?;
        // Nobody will say that it is stored; the configuration accepted that.
        match self.outgoing.next.checked_sub(1) {
            Some(through) if !self.acknowledges => self.forget(through).await,
            _ => Ok(()),
        }
    }

    async fn forget(&mut self, through: u64) -> Result<(), ExportError> {
        if self.outgoing.forget(through).await? {
            self.moved = Instant::now();
        }
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
