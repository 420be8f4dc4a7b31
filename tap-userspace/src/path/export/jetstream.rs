//! One session with a JetStream stream: each message of the spool published as a session of its own, in order, while the server's
//! acknowledgements come back.
//!
//! In: a connection and the spool's messages. Out: what a majority of the stream's servers keeps, and the spool may therefore forget:
//! the highest number below which everything is acknowledged. Bounded by [`JETSTREAM_WINDOW_MESSAGES_MAX`] messages on their way.

use std::convert::Infallible;
use std::future::IntoFuture as _;

use async_nats::jetstream::context::{Context, PublishAckFuture};
use async_nats::jetstream::message::PublishMessage;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};

use super::outgoing::{Batch, Outgoing};
use super::{ExportConfig, ExportError};
use crate::keys::HostKeyId;
use crate::limits::{EXPORT_BATCH_MESSAGES_MAX, JETSTREAM_WINDOW_MESSAGES_MAX};
use crate::transport::nats::named::Credentials;
use crate::transport::nats::{self, Link, NatsError, Server, stream};

/// Opens a connection to `server`; the stream behind it keeps what it acknowledges, by what it says of itself.
pub(super) async fn connect(
    server: &Server,
    credentials: &Credentials,
    host: HostKeyId,
    stream: &str,
) -> Result<Link, ExportError> {
    let link = Link::open(server, credentials, &format!("_INBOX.{host}")).await?;
    stream::find(&link.jetstream(), stream).await?;
    Ok(link)
}

/// Publishes until something ends it.
pub(super) async fn run(
    mut link: Link,
    stream: &str,
    config: &ExportConfig,
    mut outgoing: Outgoing<'_>,
) -> Result<Infallible, ExportError> {
    let (opening, records) = outgoing.opening(config.anonymisation)?;
    let mut session = Session {
        context: link.jetstream(),
        stream,
        subject: nats::subject(stream, &outgoing.host.0),
        opening,
        records,
        answers: FuturesOrdered::new(),
        outgoing,
    };
    tokio::select! {
        ended = link.ended() => Err(ended.into()),
        ended = session.run() => ended,
    }
}

/// What came back for a message: its number, or why it is not acknowledged.
type Answer = Result<u64, ExportError>;

/// What came back for several of them, from the oldest on.
#[derive(Default)]
struct Answered {
    through: Option<u64>,
    failed: Option<ExportError>,
}

struct Session<'a> {
    context: Context,
    stream: &'a str,
    subject: String,
    /// What stands in front of each message, so that it can be read alone: the first message of a session.
    opening: Vec<u8>,
    /// Data records in it.
    records: u32,
    /// Of the messages on their way, in their order.
    answers: FuturesOrdered<futures_util::future::BoxFuture<'a, Answer>>,
    outgoing: Outgoing<'a>,
}

impl<'a> Session<'a> {
    async fn run(&mut self) -> Result<Infallible, ExportError> {
        let mut appended = self.outgoing.spool.subscribe();
        loop {
            let available = *appended.borrow_and_update();
            let room = JETSTREAM_WINDOW_MESSAGES_MAX.saturating_sub(self.answers.len());
            let mut batch = Batch::Messages(0, Vec::new());
            if self.outgoing.next < available && room > 0 {
                batch = self.outgoing.read(room.min(EXPORT_BATCH_MESSAGES_MAX)).await?;
            }
            let answered = match batch {
                Batch::Messages(first, messages) if !messages.is_empty() => {
                    self.publish(first, &messages).await?;
                    self.answers().now_or_never().unwrap_or_default()
                }
                Batch::Damaged if self.answers.is_empty() => {
                    self.outgoing.skip_damaged().await?;
                    Answered::default()
                }
                // What is before it is on its way: its acknowledgement comes first.
                Batch::Damaged => self.answers().await,
                Batch::Messages(..) => tokio::select! {
                    changed = appended.changed() => {
                        changed.map_err(|_closed| ExportError::Closed)?;
                        Answered::default()
                    }
                    answered = self.answers(), if !self.answers.is_empty() => answered,
                },
            };
            if let Some(through) = answered.through {
                self.outgoing.forget(through).await?;
            }
            if let Some(error) = answered.failed {
                return Err(error);
            }
        }
    }

    async fn publish(&mut self, first: u64, bodies: &[Vec<u8>]) -> Result<(), ExportError> {
        for (sequence, body) in (first..).zip(bodies) {
            let framed = self.outgoing.framed(sequence, body, self.records)?;
            let id = nats::message_id(&self.outgoing.host.0, &self.outgoing.spool.uuid(), sequence);
            let message = PublishMessage::build()
                .message_id(id)
                .expected_stream(self.stream)
                .payload([self.opening.as_slice(), &framed.bytes].concat().into());
            self.outgoing.leaves(sequence, &framed);
            let answer = self.context.send_publish(self.subject.clone(), message).await;
            let answer = answer.map_err(NatsError::answer(self.stream, "publishing"))?;
            self.answers.push_back(Box::pin(answered(answer, sequence, self.stream)));
        }
        Ok(())
    }

    /// Waits for the answer to the oldest message on its way, and takes those behind it that are there, up to a failure. Safe to
    /// cancel: it waits before it takes anything.
    async fn answers(&mut self) -> Answered {
        let mut answered = Answered::default();
        let mut next = self.answers.next().await;
        while let Some(answer) = next {
            match answer {
                Ok(sequence) => answered.through = Some(sequence),
                Err(error) => {
                    answered.failed = Some(error);
                    break;
                }
            }
            next = self.answers.next().now_or_never().flatten();
        }
        answered
    }
}

/// The acknowledgement of message `sequence`: the stream's own, with a place in it. A repeat that the server dropped is there.
async fn answered(answer: PublishAckFuture, sequence: u64, stream: &str) -> Answer {
    let acknowledgement =
        answer.into_future().await.map_err(NatsError::answer(stream, "waiting for an acknowledgement"))?;
    if acknowledgement.stream != stream {
        return Err(ExportError::Acknowledgement("a message of another stream"));
    }
    // A leader that has seen a message and not agreed on it with the others yet may call its repeat one, without a place.
    if acknowledgement.sequence == 0 {
        return Err(ExportError::Acknowledgement("a message that has no place in the stream"));
    }
    Ok(sequence)
}
