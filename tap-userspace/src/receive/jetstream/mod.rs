//! Messages from a JetStream stream: a partition is a mirror host, and has one durable consumer that any number of receivers share.
//!
//! In: what the stream hands out. Out: the same files as of a session ([`super::store`]), and an acknowledgement of each message once
//! its file is durable; the stream then forgets it. A message that cannot be stored is never acknowledged: it is counted, named in
//! the log by its reason, and handed out again. Bounded by [`RECEIVE_QUEUE_MESSAGES_MAX`] messages a partition.
//!
//! Nothing is concluded from the order of messages or from what a message says of its spool: what is missing here may lie in another
//! receiver's hands or store.

pub mod config;
mod payload;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::{AckKind, Message};
use futures_util::StreamExt as _;
use tokio::sync::watch;

use self::config::StreamServer;
use super::config::ReceiveConfig;
use super::session::{Item, SessionError, count, on_disk};
use super::store::StoredMessage;
use super::{ReceiveError, Shared, stopped};
use crate::keys::parse_sha256;
use crate::limits::{
    JETSTREAM_ACK_WAIT, JETSTREAM_HANDED_OUT_MAX, JETSTREAM_HEARTBEAT, JETSTREAM_PULL_EXPIRES, JETSTREAM_REFUSED_AGAIN,
    RECEIVE_QUEUE_MESSAGES_MAX,
};
use crate::notice::intake::Said;
use crate::transport::backoff;
use crate::transport::nats::named::Credentials;
use crate::transport::nats::{self, Link, NatsError, Server, stream};
use crate::transport::rotating::Rotating;
use crate::transport::tls::TlsFiles;

/// One host's messages in the stream.
#[derive(Debug)]
pub(super) struct Partition {
    host: [u8; 32],
    stream: String,
    bytes_max: Option<i64>,
    servers: Vec<Server>,
    credentials: Rotating<Credentials>,
}

/// The partitions that `config` asks for.
pub(super) fn partitions(config: &ReceiveConfig) -> Result<Vec<Partition>, ReceiveError> {
    let Some(jetstream) = &config.jetstream else { return Ok(Vec::new()) };
    let (ca, revocations) = (jetstream.ca_file.clone(), jetstream.revocations_file.clone());
    let files = TlsFiles { ca, revocations, ..config.tls.files() };
    let servers = jetstream.servers.iter().map(StreamServer::server);
    let servers: Vec<_> = servers.collect::<Result<_, _>>()?;
    let hosts = config.hosts.iter().filter_map(|host| parse_sha256(&host.id)).filter(|host| jetstream.takes(host));
    hosts
        .map(|host| {
            Ok(Partition {
                host,
                stream: jetstream.stream.clone(),
                bytes_max: jetstream.bytes_max.and_then(|bytes| i64::try_from(bytes).ok()),
                servers: servers.clone(),
                credentials: Rotating::new(files.clone(), Credentials::read)?,
            })
        })
        .collect()
}

impl Partition {
    /// Takes messages until `stop` turns true; connections that fail are tried again for ever, each with the next server.
    pub(super) async fn take(mut self, shared: &Shared, mut stop: watch::Receiver<bool>) {
        let mut failures: u32 = 0;
        let servers = self.servers.clone();
        for server in servers.iter().cycle() {
            let before = shared.status.acknowledgements.load(Relaxed);
            shared.status.sessions_total.fetch_add(1, Relaxed);
            shared.status.sessions_open.fetch_add(1, Relaxed);
            let ended = self.session(server, shared, stop.clone()).await;
            shared.status.sessions_open.fetch_sub(1, Relaxed);
            if let Err(error) = &ended {
                shared.status.refused(error.code());
                tracing::warn!(code = error.code(), %error, "session with the stream ended");
            }
            let moved = shared.status.acknowledgements.load(Relaxed) > before;
            failures = if moved || ended.is_ok() { 0 } else { failures.saturating_add(1) };
            let rounds = failures / u32::try_from(servers.len()).unwrap_or(u32::MAX).max(1);
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = tokio::time::sleep(backoff::pause(rounds)) => {}
            }
        }
    }

    /// One connection, until it fails, certificates change, or everything is to stop.
    async fn session(
        &mut self,
        server: &Server,
        shared: &Shared,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), SessionError> {
        let credentials = self.credentials.current();
        let inbox = format!("_INBOX.receive.{}", hex::encode(self.host));
        let mut link = tokio::select! {
            () = stopped(&mut stop) => return Ok(()),
            link = Link::open(server, &credentials, &inbox) => link?,
        };
        let messages = tokio::select! {
            () = stopped(&mut stop) => return Ok(()),
            consumer = self.consumer(&link) => self.messages(&consumer?).await?,
        };
        tracing::info!(stream = self.stream, "session with the stream began");
        let mut batches = messages.ready_chunks(RECEIVE_QUEUE_MESSAGES_MAX);
        loop {
            let batch = tokio::select! {
                () = stopped(&mut stop) => return Ok(()),
                () = self.credentials.changed() => return Ok(()),
                ended = link.ended() => return Err(ended.into()),
                batch = batches.next() => batch.ok_or_else(|| NatsError::Ended("no more messages".into()))?,
            };
            let mut messages = Vec::with_capacity(batch.len());
            let mut failed = Ok(());
            for message in batch {
                match message {
                    Ok(message) => messages.push(message),
                    Err(error) => failed = Err(NatsError::answer(&self.stream, "taking messages")(error)),
                }
            }
            self.store(messages, shared).await?;
            link.flush().await?;
            failed?;
        }
    }

    /// The partition's durable consumer; it is made if it is not there.
    async fn consumer(&self, link: &Link) -> Result<PullConsumer, NatsError> {
        let stream = stream::find_or_make(&link.jetstream(), &self.stream, self.bytes_max).await?;
        let name = nats::consumer(&self.host);
        let wanted = pull::Config {
            durable_name: Some(name.clone()),
            filter_subject: nats::subject(&self.stream, &self.host),
            ack_policy: AckPolicy::Explicit,
            ack_wait: JETSTREAM_ACK_WAIT,
            max_ack_pending: JETSTREAM_HANDED_OUT_MAX,
            ..pull::Config::default()
        };
        let consumer = stream.get_or_create_consumer(&name, wanted).await;
        consumer.map_err(NatsError::answer(&self.stream, "finding or making the partition's consumer"))
    }

    async fn messages(&self, consumer: &PullConsumer) -> Result<pull::Stream, NatsError> {
        let wish = consumer
            .stream()
            .max_messages_per_batch(RECEIVE_QUEUE_MESSAGES_MAX)
            .expires(JETSTREAM_PULL_EXPIRES)
            .heartbeat(JETSTREAM_HEARTBEAT);
        wish.messages().await.map_err(NatsError::answer(&self.stream, "asking for messages"))
    }

    /// Stores a batch, then acknowledges it. An error of the store acknowledges nothing: all of it is handed out again.
    async fn store(&self, messages: Vec<Message>, shared: &Shared) -> Result<(), SessionError> {
        let mut spools: BTreeMap<[u8; 16], (Vec<StoredMessage>, Vec<Said>)> = BTreeMap::new();
        let mut stored = Vec::with_capacity(messages.len());
        for message in messages {
            match payload::item(&message.payload, &self.host).await {
                Ok((spool, sequence, Item { contents, records, receipts, .. })) => {
                    let (messages, said) = spools.entry(spool).or_default();
                    messages.push(StoredMessage { sequence, contents, records });
                    said.extend(receipts);
                    stored.push(message);
                }
                Err(error) => self.refuse(&message, &error, shared).await?,
            }
        }
        for (spool, (messages, receipts)) in spools {
            let (place, intake) = (shared.store.spool(&self.host, &spool), Arc::clone(&shared.intake));
            let done = on_disk(move || {
                // Notices come first, as for sessions: what is stored is acknowledged, and does not come again.
                intake.take(&receipts)?;
                Ok(place.store_apart(&messages)?)
            });
            count(&shared.status, &done.await?);
        }
        for message in stored {
            self.answer(&message, AckKind::Ack).await?;
            shared.status.acknowledgements.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// What cannot be stored stays in the stream for somebody to look at.
    async fn refuse(&self, message: &Message, error: &SessionError, shared: &Shared) -> Result<(), SessionError> {
        shared.status.refused(error.code());
        tracing::error!(code = error.code(), %error, "a message of the stream cannot be stored; it stays there");
        self.answer(message, AckKind::Nak(Some(JETSTREAM_REFUSED_AGAIN))).await
    }

    async fn answer(&self, message: &Message, kind: AckKind) -> Result<(), SessionError> {
        Ok(message.ack_with(kind).await.map_err(NatsError::answer(&self.stream, "acknowledging"))?)
    }
}
