//! The receiving facility: IPFIX in over TLS 1.3, stored durably, then acknowledged.
//!
//! In: messages of authenticated exporters. Out: one self-contained RFC 5655 file a message, and acknowledgements of
//! what a power cut cannot take any more. It must never acknowledge anything else. Bounded by
//! [`RECEIVE_CONNECTIONS_MAX`] connections with [`RECEIVE_QUEUE_MESSAGES_MAX`] messages each.
//!
//! Receipts of taps become notices to the Commission ([`crate::notice`]) before their message is stored; one that does not count
//! is set aside, and what comes after it goes on.
//!
//! Messages may also be taken from a JetStream stream ([`jetstream`]), into the same store.
//!
//! A connection: [`session`] takes messages apart as far as its templates and identity ask, [`file`] makes the file's
//! octets, [`store`] writes them. [`read`] reads the store back.
//!
//! [`RECEIVE_QUEUE_MESSAGES_MAX`]: crate::limits::RECEIVE_QUEUE_MESSAGES_MAX

pub mod config;
pub mod file;
pub mod jetstream;
pub mod metrics;
pub mod read;
mod session;
pub mod statistics;
pub mod status;
pub mod store;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::keys::{KeyError, PublicKey, SecretKey};
use crate::limits::RECEIVE_CONNECTIONS_MAX;
use crate::notice::intake::Intake;
use crate::notice::outbox::{Outbox, OutboxError};
use crate::notice::send::Sender;
use crate::transport::nats::NatsError;
use crate::transport::rotating::Rotating;
use crate::transport::tls::{self, TlsError, TlsFiles};
use config::ReceiveConfig;
use jetstream::Partition;
use read::ReadError;
use status::ReceiveStatus;
use store::{Store, StoreError};

/// Why the receiving facility cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Certificates or keys.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A server of a stream.
    #[error("jetstream: {0}")]
    Stream(#[from] NatsError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The outbox.
    #[error(transparent)]
    Notices(#[from] OutboxError),
    /// The receipts in the store.
    #[error("notices: the receipts in the store: {0}; restore the file, or move it out of the store")]
    Stored(#[from] ReadError),
    /// A key of `[notices]`.
    #[error("notices: {0}")]
    Key(#[from] KeyError),
    /// A thread.
    #[error("notices: the thread that reads the store ended: {0}")]
    Thread(String),
    /// An address that cannot be listened on.
    #[error("{key} = \"{address}\": {source}; choose a free address of this machine")]
    Listen {
        /// The key in the configuration.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A receiving facility that listens.
#[derive(Debug)]
pub struct Receiver {
    listener: Option<TcpListener>,
    metrics: Option<TcpListener>,
    shared: Arc<Shared>,
    credentials: Rotating<rustls::ServerConfig>,
    sender: Option<Sender>,
    partitions: Vec<Partition>,
}

/// What all sessions share.
#[derive(Debug)]
struct Shared {
    config: ReceiveConfig,
    store: Store,
    status: Arc<ReceiveStatus>,
    intake: Arc<Intake>,
}

impl Receiver {
    /// Opens the store, reads the certificates and listens.
    ///
    /// # Errors
    /// The store, a file or an address that `config` names cannot be used.
    pub async fn bind(config: ReceiveConfig) -> Result<Self, ReceiveError> {
        let credentials = Rotating::new(config.tls.files(), tls::server)?;
        let store = Store::open(&config.store.directory)?;
        let listener = match &config.listen {
            Some(at) => Some(listen("listen.address", at.address).await?),
            None => None,
        };
        let partitions = jetstream::partitions(&config)?;
        let metrics = match config.metrics.listen {
            Some(address) => Some(listen("metrics.listen", address).await?),
            None => None,
        };
        let status: Arc<ReceiveStatus> = Arc::default();
        let sender = match &config.notices {
            Some(notices) => {
                let key = SecretKey::from_file(&notices.key_file)?;
                let commission = PublicKey::from_file(&notices.commission_key_file)?;
                let outbox = Outbox::open(&config.store.directory, &notices.name, key, commission)?;
                let files = TlsFiles { ca: notices.ca_file.clone(), revocations: None, ..config.tls.files() };
                Some(Sender::new(Arc::new(Mutex::new(outbox)), notices, &files, Arc::clone(&status))?)
            }
            None => None,
        };
        let outbox = sender.as_ref().map(Sender::outbox);
        let listed = config.measures();
        let measures = Box::new(move |host: &[u8; 32], measure: &str| {
            listed.get(host).is_none_or(|listed| listed.iter().any(|one| one == measure))
        });
        let intake = Arc::new(Intake::new(&config.store.directory, outbox, measures));
        let (catching, root) = (Arc::clone(&intake), config.store.directory.clone());
        tokio::task::spawn_blocking(move || catching.catch_up(|| read::receipts(&root).map_err(ReceiveError::from)))
            .await
            .map_err(|error| ReceiveError::Thread(error.to_string()))??;
        let shared = Arc::new(Shared { config, store, status, intake });
        Ok(Self { listener, metrics, shared, credentials, sender, partitions })
    }

    /// Where it listens (with the port that the system chose for port 0), if it does.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// The stream that it takes from, and the number of hosts whose messages it takes.
    #[must_use]
    pub fn stream(&self) -> Option<(&str, usize)> {
        let jetstream = self.shared.config.jetstream.as_ref()?;
        Some((&jetstream.stream, self.partitions.len()))
    }

    /// Where its metrics page is.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Its counters.
    #[must_use]
    pub fn status(&self) -> Arc<ReceiveStatus> {
        Arc::clone(&self.shared.status)
    }

    /// Serves until `shutdown` turns true (or its sender is gone): then what has arrived is stored and acknowledged, and
    /// every session is closed.
    pub async fn serve(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut sessions = JoinSet::new();
        let places = Arc::new(Semaphore::new(RECEIVE_CONNECTIONS_MAX));
        if let Some(listener) = self.metrics.take() {
            sessions.spawn(metrics::serve(listener, self.status(), Arc::clone(&self.shared.intake), shutdown.clone()));
        }
        if let Some(sender) = self.sender.take() {
            sessions.spawn(sender.run(shutdown.clone()));
        }
        for partition in std::mem::take(&mut self.partitions) {
            let (shared, stop) = (Arc::clone(&self.shared), shutdown.clone());
            sessions.spawn(async move { partition.take(&shared, stop).await });
        }
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut shutdown) => break,
                Some(_ended) = sessions.join_next(), if !sessions.is_empty() => continue,
                // Sessions that are open go on as they began.
                () = self.credentials.changed() => continue,
                accepted = accept(self.listener.as_ref()) => accepted,
            };
            let (Ok((stream, _peer)), Ok(place)) = (accepted, Arc::clone(&places).try_acquire_owned()) else {
                self.shared.status.refused("too_many");
                // The system has no descriptors left, or every place is taken: others have to end first.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let acceptor = TlsAcceptor::from(self.credentials.current());
            let (shared, stop) = (Arc::clone(&self.shared), shutdown.clone());
            sessions.spawn(async move {
                serve_one(&shared, &acceptor, stream, stop).await;
                drop(place);
            });
        }
        drop(self.listener);
        while sessions.join_next().await.is_some() {}
    }
}

/// One connection, counted.
async fn serve_one(shared: &Shared, acceptor: &TlsAcceptor, stream: TcpStream, stop: watch::Receiver<bool>) {
    let status = &shared.status;
    status.sessions_total.fetch_add(1, Relaxed);
    status.sessions_open.fetch_add(1, Relaxed);
    let ended = session::run(shared, acceptor, stream, stop).await;
    status.sessions_open.fetch_sub(1, Relaxed);
    match ended {
        Ok(()) => tracing::info!("session ended"),
        Err(error) => {
            status.refused(error.code());
            tracing::warn!(code = error.code(), %error, "session ended");
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, ReceiveError> {
    TcpListener::bind(address).await.map_err(|source| ReceiveError::Listen { key, address, source })
}

/// Returns when everything is to stop.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: nobody could stop us any more.
    drop(shutdown.wait_for(|stop| *stop).await);
}
