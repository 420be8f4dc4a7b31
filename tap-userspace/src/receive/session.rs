//! One exporter's session. In: a TCP connection. Out: its messages in the store, acknowledged where they are a listed
//! host's, and why it ended. Reading and storing run beside each other with a bounded queue between them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::file::{self, Context};
use super::status::ReceiveStatus;
use super::store::{Place, StoreError, Stored, StoredMessage};
use super::{Shared, stopped};
use crate::ipfix::decode::{self, DecodeError, Templates};
use crate::ipfix::message::{OBSERVATION_DOMAIN, message};
use crate::ipfix::typed::{self, Acknowledgement, Identity};
use crate::ipfix::{encode, template};
use crate::limits::{CONNECT_MAX, EXPORT_STALL_MAX, RECEIVE_QUEUE_MESSAGES_MAX};
use crate::notice::intake::{Intake, Said};
use crate::notice::outbox::OutboxError;
use crate::transport::nats::NatsError;
use crate::transport::{ALPN, alive, frame, tls};

/// Why a session ended before its time. No variant can carry a record.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    #[error("the TLS handshake took too long")]
    Slow,
    #[error("the peer has no certificate")]
    Certificate,
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("message {number} of the session: {error}")]
    Decode { number: u64, error: DecodeError },
    #[error("message {number} of the session: {reason}")]
    Identity { number: u64, reason: &'static str },
    #[error("refused: {0}")]
    Host(&'static str),
    #[error("message {0} of the session needs more templates than a message can carry")]
    Templates(u64),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error("the exporter does not take its acknowledgements")]
    Stalled,
    #[error(transparent)]
    Stream(#[from] NatsError),
}

impl SessionError {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Tls(_) => "tls",
            Self::Slow => "handshake",
            Self::Certificate => "certificate",
            Self::Io(_) => "connection",
            Self::Decode { .. } => "decode",
            Self::Identity { .. } => "identity",
            Self::Host(_) => "host",
            Self::Templates(_) => "templates",
            Self::Store(_) => "store",
            Self::Outbox(_) => "outbox",
            Self::Stalled => "stalled",
            Self::Stream(error) => error.code(),
        }
    }

    /// What the exporter is told; what concerns this machine alone stays here.
    fn told(&self) -> Option<String> {
        match self {
            Self::Decode { .. } | Self::Identity { .. } | Self::Templates(_) => Some(self.to_string()),
            Self::Host(reason) => Some((*reason).to_owned()),
            Self::Store(_) | Self::Outbox(_) => Some("it cannot store at present".to_owned()),
            Self::Tls(_) | Self::Slow | Self::Certificate | Self::Io(_) | Self::Stalled | Self::Stream(_) => None,
        }
    }
}

/// A message that waits to be stored.
pub(super) struct Item {
    /// `None`: another exporter's.
    pub(super) identity: Option<Identity>,
    pub(super) contents: Vec<u8>,
    /// Packet records in it.
    pub(super) records: u64,
    /// Receipts in it, of which nothing is verified.
    pub(super) receipts: Vec<Said>,
}

pub(super) async fn run(
    shared: &Shared,
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    mut stop: watch::Receiver<bool>,
) -> Result<(), SessionError> {
    stream.set_nodelay(true)?;
    alive::watched(&stream)?;
    let stream = tokio::select! {
        () = stopped(&mut stop) => return Ok(()),
        accepted = timeout(CONNECT_MAX, acceptor.accept(stream)) => {
            accepted.map_err(|_elapsed| SessionError::Slow)?.map_err(SessionError::Tls)?
        }
    };
    let connection = stream.get_ref().1;
    let certificate =
        connection.peer_certificates().and_then(|chain| chain.first()).ok_or(SessionError::Certificate)?;
    let fingerprint = tls::fingerprint(certificate);
    let acknowledges = connection.alpn_protocol() == Some(ALPN);
    tracing::info!(certificate_sha256 = %hex::encode(fingerprint), acknowledges, "session began");

    let (reader, writer) = split(stream);
    let (queue, items) = mpsc::channel(RECEIVE_QUEUE_MESSAGES_MAX);
    let reading = async {
        // The queue closes when reading ends; what is in it is stored first.
        let queue = queue;
        tokio::select! {
            () = stopped(&mut stop) => Ok(()),
            ended = read(reader, shared, &fingerprint, &queue) => ended,
        }
    };
    let mut answers = Answers { writer, sequence: 0, acknowledges };
    let storing = store(items, shared, fingerprint, &mut answers);
    let (read, stored) = tokio::join!(reading, storing);
    // An error of storing closes the queue, so that reading ends too: the store's is the reason.
    let ended = stored.and(read);
    if let Some(reason) = ended.as_ref().err().and_then(SessionError::told) {
        // Best effort: the connection may be gone, and the reason stands in the log.
        drop(answers.send(&[encode::refusal_set(&reason)], 1).await);
    }
    drop(timeout(CONNECT_MAX, answers.writer.shutdown()).await);
    ended
}

/// Messages from the connection into the queue, until the exporter ends the session or makes a mistake.
async fn read<R: AsyncRead + Unpin>(
    mut stream: R,
    shared: &Shared,
    fingerprint: &[u8; 32],
    queue: &mpsc::Sender<Item>,
) -> Result<(), SessionError> {
    let mut templates = Templates::default();
    let mut context = Context::default();
    let mut admitted = None;
    let mut number = 0;
    loop {
        let bytes = match frame::read(&mut stream).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(()),
            // A process that ends does not say goodbye; a message cut short would not be acknowledged anyway.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        number += 1;
        let Some(item) = take(&bytes, number, &mut templates, &mut context)? else { continue };
        if let Some(identity) = &item.identity
            && admitted != Some(identity.host)
        {
            shared.config.admit(&identity.host, fingerprint).map_err(SessionError::Host)?;
            admitted = Some(identity.host);
        }
        if queue.send(item).await.is_err() {
            return Ok(());
        }
    }
}

/// One message taken apart; `None` when it says nothing but what its templates mean.
pub(super) fn take(
    bytes: &[u8],
    number: u64,
    templates: &mut Templates,
    context: &mut Context,
) -> Result<Option<Item>, SessionError> {
    let wrong = |error| SessionError::Decode { number, error };
    let decoded = decode::message(bytes, templates).map_err(wrong)?;
    let nothing_else = context.learn(&decoded);
    let mut identity: Option<Identity> = None;
    let mut records = 0;
    let mut notes = Vec::new();
    for (template, record) in decoded.records() {
        records += u64::from(template.scope == 0);
        // Also the values of our own records are looked at here: what could not be read back is not acknowledged.
        typed::record(template, record).map_err(wrong)?;
        notes.extend(typed::receipt(template, record).map_err(wrong)?);
        if let Some(found) = typed::identity(template, record).map_err(wrong)? {
            if found.first_sequence > found.sequence {
                let reason = "its number is below the first one that the spool holds";
                return Err(SessionError::Identity { number, reason });
            }
            if identity.replace(found).is_some() {
                return Err(SessionError::Identity { number, reason: "it has two identities" });
            }
        }
    }
    if nothing_else && identity.is_none() {
        return Ok(None);
    }
    // Another exporter's are octets like any other's.
    let receipts = identity.iter().flat_map(|own| notes.iter().map(|note| (own.host, note.clone()))).collect();
    let contents = file::contents(bytes, &decoded, templates, context).ok_or(SessionError::Templates(number))?;
    Ok(Some(Item { identity, contents, records, receipts }))
}

/// Messages for one directory of the store: of a host's spool, or (`None`) of another exporter's session.
type Groups = BTreeMap<Option<([u8; 32], [u8; 16])>, Group>;

#[derive(Default)]
struct Group {
    first: u64,
    messages: Vec<StoredMessage>,
    receipts: Vec<Said>,
}

/// From the queue into the store, a batch at a time, and one acknowledgement a batch and spool.
async fn store<W: AsyncWrite + Unpin>(
    mut items: mpsc::Receiver<Item>,
    shared: &Shared,
    fingerprint: [u8; 32],
    answers: &mut Answers<W>,
) -> Result<(), SessionError> {
    if answers.acknowledges {
        answers.send(&encode::template_sets(&template::receiver()), 0).await?;
    }
    let mut peer = None;
    let mut peer_messages = 0;
    let mut batch = Vec::with_capacity(RECEIVE_QUEUE_MESSAGES_MAX);
    while items.recv_many(&mut batch, RECEIVE_QUEUE_MESSAGES_MAX).await > 0 {
        for (of, group) in groups(batch.drain(..), &mut peer_messages) {
            let place = match (&of, &peer) {
                (Some((host, spool)), _) => shared.store.spool(host, spool),
                (None, Some(place)) => Arc::clone(place),
                (None, None) => Arc::clone(peer.insert(Arc::new(shared.store.peer_session(&fingerprint)?))),
            };
            let stored = blocking(place, group, Arc::clone(&shared.intake)).await?;
            count(&shared.status, &stored);
            if let (Some((host, spool)), Some(through), true) = (of, stored.through, answers.acknowledges) {
                let acknowledgement = Acknowledgement { host, spool, through };
                answers.send(&[encode::acknowledgement_set(&[acknowledgement])], 1).await?;
                shared.status.acknowledgements.fetch_add(1, Relaxed);
            }
        }
    }
    Ok(())
}

/// Sorts a batch by directory. Messages without identity are numbered as they come.
fn groups(items: impl Iterator<Item = Item>, peer_messages: &mut u64) -> Groups {
    let mut groups = Groups::new();
    for Item { identity, contents, records, receipts } in items {
        let (of, sequence, first) = match identity {
            Some(identity) => (Some((identity.host, identity.spool)), identity.sequence, identity.first_sequence),
            None => {
                *peer_messages += 1;
                (None, *peer_messages - 1, 0)
            }
        };
        let group = groups.entry(of).or_default();
        group.first = group.first.max(first);
        group.messages.push(StoredMessage { sequence, contents, records });
        group.receipts.extend(receipts);
    }
    groups
}

pub(super) fn count(status: &ReceiveStatus, stored: &Stored) {
    status.stored_messages.fetch_add(stored.messages, Relaxed);
    status.stored_records.fetch_add(stored.records, Relaxed);
    status.stored_bytes.fetch_add(stored.bytes, Relaxed);
    status.repeated_messages.fetch_add(stored.repeated, Relaxed);
}

/// Waits for the disk where waiting is allowed. Notices come first: what is stored may be acknowledged by any later batch.
async fn blocking(place: Arc<Place>, group: Group, intake: Arc<Intake>) -> Result<Stored, SessionError> {
    on_disk(move || {
        intake.take(&group.receipts)?;
        Ok(place.store(group.first, &group.messages)?)
    })
    .await
}

/// Runs `work` where it may wait for the disk.
pub(super) async fn on_disk(
    work: impl FnOnce() -> Result<Stored, SessionError> + Send + 'static,
) -> Result<Stored, SessionError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(stored) => stored,
        Err(error) => Err(SessionError::Io(std::io::Error::other(error))),
    }
}

/// Our side of the session.
struct Answers<W> {
    writer: W,
    /// Data records sent, modulo 2^32.
    sequence: u32,
    /// The exporter negotiated acknowledgements; another one gets no answer, since it would not read it.
    acknowledges: bool,
}

impl<W: AsyncWrite + Unpin> Answers<W> {
    /// Sends `sets` with `records` data records in them.
    async fn send(&mut self, sets: &[Vec<u8>], records: u32) -> Result<(), SessionError> {
        let sets: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
        let bytes = message(now(), self.sequence, OBSERVATION_DOMAIN, &sets);
        let (Some(bytes), true) = (bytes, self.acknowledges) else { return Ok(()) };
        self.sequence = self.sequence.wrapping_add(records);
        let written = async {
            self.writer.write_all(&bytes).await?;
            self.writer.flush().await
        };
        Ok(timeout(EXPORT_STALL_MAX, written).await.map_err(|_elapsed| SessionError::Stalled)??)
    }
}

/// Seconds since 1970; the field ends in 2106 (RFC 7011, section 3.1).
fn now() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
