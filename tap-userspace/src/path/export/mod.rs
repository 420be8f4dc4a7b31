//! Export: from the spool to the receiving facility, over TLS with both sides authenticated, as IPFIX; or to a JetStream stream, from
//! which the facility takes it.
//!
//! In: the spool's messages. Out: the same messages with header and identity on the wire, and what the peer's
//! acknowledgements let the spool forget. It must never see a clear address that the order does not clear: it reads
//! nothing but the spool, and logs nothing but codes and counts. Bounded by [`EXPORT_WINDOW_MESSAGES_MAX`] messages on
//! their way.
//!
//! There may be several receiving facilities: what one has acknowledged is not sent to another, so that what was stored is stored by
//! all of them together. Changed certificates end a session; the next one begins with them.
//!
//! A message is forgotten when the peer has stored it durably. A session that ends begins anew at the first message
//! that is not acknowledged; the peer stores what it already has once (its identity names the file).
//!
//! [`EXPORT_WINDOW_MESSAGES_MAX`]: crate::limits::EXPORT_WINDOW_MESSAGES_MAX

mod connect;
mod error;
mod jetstream;
mod outgoing;
mod session;
mod status;
mod window;

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

pub use error::ExportError;
pub use status::ExportStatus;

use crate::ipfix::encode::Anonymisation;
use crate::keys::HostKeyId;
use crate::path::spool::Spool;
use crate::transport::backoff;
use crate::transport::nats::Server;
use crate::transport::nats::named::Credentials;
use crate::transport::rotating::Rotating;
use crate::transport::tls::TlsFiles;
use outgoing::Outgoing;
use window::Window;

/// What trims the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledgement {
    /// The peer's acknowledgement of durable storage; a peer that offers none is refused.
    #[default]
    Required,
    /// A plain IPFIX collector: a message counts as delivered once it is written to the connection. A peer that does
    /// acknowledge is still waited for.
    None,
}

/// One receiving facility.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// `host:port`.
    pub endpoint: String,
    /// Name that its certificate must carry.
    pub server_name: String,
}

/// Where to, as whom, and how.
#[derive(Clone, Debug)]
pub struct ExportConfig {
    /// Receiving facilities, the preferred one first: each search begins with it.
    pub receivers: Vec<Receiver>,
    /// Authority, certificate and key.
    pub tls: TlsFiles,
    /// What trims the spool.
    pub acknowledgement: Acknowledgement,
    /// How addresses are pseudonymised, as the session declares it (RFC 6235).
    pub anonymisation: Anonymisation,
    /// The JetStream stream that takes the messages; `None`: the receivers speak IPFIX themselves.
    pub stream: Option<String>,
}

/// A receiver as this process connects to it.
enum Target {
    Ipfix(connect::Receiver),
    Stream(Server, String),
}

impl Target {
    fn new(receiver: &Receiver, stream: Option<&String>) -> Result<Self, ExportError> {
        match stream {
            None => Ok(Self::Ipfix(connect::Receiver::new(receiver)?)),
            Some(stream) => Ok(Self::Stream(Server::new(&receiver.endpoint, &receiver.server_name)?, stream.clone())),
        }
    }
}

/// Exports until `shutdown` turns true (or its sender is gone). Connections that fail are tried again for ever; every
/// failure is counted in `status`.
///
/// # Errors
/// Files or a name in `config` that no connection can be made with.
pub async fn run(
    config: ExportConfig,
    host: HostKeyId,
    spool: Spool,
    status: Arc<ExportStatus>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), ExportError> {
    let target = |receiver| Target::new(receiver, config.stream.as_ref());
    let receivers: Vec<_> = config.receivers.iter().map(target).collect::<Result<_, _>>()?;
    let mut credentials = Rotating::new(config.tls.clone(), Credentials::read)?;
    let mut window = Window::new(spool.recovered_sequence());
    let mut failures: u32 = 0;
    let mut turns = receivers.iter().cycle();
    while let Some(receiver) = turns.next() {
        let began = Instant::now();
        let sent_before = status.progress();
        let current = credentials.current();
        let outgoing = Outgoing::new(host, &spool, &status, &mut window);
        let ended = tokio::select! {
            () = stopped(&mut shutdown) => return Ok(()),
            () = credentials.changed() => None,
            ended = session(receiver, &current, &config, outgoing, &status) => Some(ended),
        };
        status.ended(ended.as_ref());
        let seconds = began.elapsed().as_secs();
        tracing::warn!(
            code = ended.as_ref().map_or("certificates", ExportError::code),
            seconds,
            "export session ended"
        );
        if ended.is_none() || status.progress() > sent_before {
            // A session that moved something begins the pauses anew, and the search with the preferred facility.
            failures = 0;
            turns = receivers.iter().cycle();
        } else {
            failures = failures.saturating_add(1);
        }
        // Once round all of them without a pause that grows: another one may be there at once.
        let rounds = failures / u32::try_from(receivers.len()).unwrap_or(u32::MAX).max(1);
        tokio::select! {
            () = stopped(&mut shutdown) => return Ok(()),
            () = tokio::time::sleep(backoff::pause(rounds)) => {}
        }
    }
    Err(ExportError::NoReceiver)
}

/// One connection from beginning to end; there is always a reason why it ends.
async fn session(
    receiver: &Target,
    credentials: &Credentials,
    config: &ExportConfig,
    outgoing: Outgoing<'_>,
    status: &ExportStatus,
) -> ExportError {
    let ended = match receiver {
        Target::Ipfix(receiver) => ipfix(receiver, credentials, config, outgoing, status).await,
        Target::Stream(server, stream) => published(server, stream, credentials, config, outgoing, status).await,
    };
    match ended {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn ipfix(
    receiver: &connect::Receiver,
    credentials: &Credentials,
    config: &ExportConfig,
    outgoing: Outgoing<'_>,
    status: &ExportStatus,
) -> Result<Infallible, ExportError> {
    let connector = TlsConnector::from(Arc::clone(&credentials.plain));
    let connection = receiver.connect(&connector, config.acknowledgement).await?;
    status.connected(connection.acknowledges);
    tracing::info!(acknowledges = connection.acknowledges, "export session began");
    session::run(connection, config, outgoing).await
}

async fn published(
    server: &Server,
    stream: &str,
    credentials: &Credentials,
    config: &ExportConfig,
    outgoing: Outgoing<'_>,
    status: &ExportStatus,
) -> Result<Infallible, ExportError> {
    let link = jetstream::connect(server, credentials, outgoing.host, stream).await?;
    status.connected(true);
    tracing::info!(stream, "export session began");
    jetstream::run(link, stream, config, outgoing).await
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: nobody could stop us any more.
    drop(shutdown.wait_for(|stop| *stop).await);
}
