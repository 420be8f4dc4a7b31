//! Export: from the spool to the receiving facility, over TLS with both sides authenticated, as IPFIX.
//!
//! In: the spool's messages. Out: the same messages with header and identity on the wire, and what the peer's
//! acknowledgements let the spool forget. It must never see a clear address that the order does not clear: it reads
//! nothing but the spool, and logs nothing but codes and counts. Bounded by [`EXPORT_WINDOW_MESSAGES_MAX`] messages on
//! their way.
//!
//! A message is forgotten when the peer has stored it durably. A session that ends begins anew at the first message
//! that is not acknowledged; the peer stores what it already has once (its identity names the file).
//!
//! [`EXPORT_WINDOW_MESSAGES_MAX`]: crate::limits::EXPORT_WINDOW_MESSAGES_MAX

mod backoff;
mod connect;
mod error;
mod session;
mod status;
mod window;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

pub use error::ExportError;
pub use status::ExportStatus;

use crate::ipfix::encode::Anonymisation;
use crate::keys::HostKeyId;
use crate::path::spool::Spool;
use crate::transport::tls::{self, TlsFiles};
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

/// Where to, as whom, and how.
#[derive(Clone, Debug)]
pub struct ExportConfig {
    /// `host:port` of the receiving facility.
    pub endpoint: String,
    /// Name that its certificate must carry.
    pub server_name: String,
    /// Authority, certificate and key.
    pub tls: TlsFiles,
    /// What trims the spool.
    pub acknowledgement: Acknowledgement,
    /// How addresses are pseudonymised, as the session declares it (RFC 6235).
    pub anonymisation: Anonymisation,
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
    let connector = connect::Connector::new(&config, tls::client(&config.tls)?)?;
    let mut window = Window::default();
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let sent_before = status.progress();
        let ended = tokio::select! {
            () = stopped(&mut shutdown) => return Ok(()),
            ended = session(&connector, &config, host, &spool, &status, &mut window) => ended,
        };
        status.failed(&ended);
        tracing::warn!(code = ended.code(), seconds = began.elapsed().as_secs(), "export session ended");
        // A session that moved something begins the pauses anew.
        failures = if status.progress() > sent_before { 0 } else { failures + 1 };
        tokio::select! {
            () = stopped(&mut shutdown) => return Ok(()),
            () = tokio::time::sleep(backoff::pause(failures)) => {}
        }
    }
}

/// One connection from beginning to end; there is always a reason why it ends.
async fn session(
    connector: &connect::Connector,
    config: &ExportConfig,
    host: HostKeyId,
    spool: &Spool,
    status: &ExportStatus,
    window: &mut Window,
) -> ExportError {
    let connection = match connector.connect(config.acknowledgement).await {
        Ok(connection) => connection,
        Err(error) => return error,
    };
    status.connected(connection.acknowledges);
    tracing::info!(acknowledges = connection.acknowledges, "export session began");
    match session::run(connection, config, host, spool, status, window).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: nobody could stop us any more.
    drop(shutdown.wait_for(|stop| *stop).await);
}
