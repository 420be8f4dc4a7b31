//! Who calls: connections, handshakes, the client that a certificate names.

use super::limit::{Rates, Sums};
use super::rights::Role;
use super::{Agent, answer};
use crate::audit::Leaf;
use crate::limits::{
    API_CLIENT_CONNECTIONS_MAX, API_CLOSE_MAX, API_CONNECTION_MAX, API_HANDSHAKES_MAX, API_HEADERS_BYTES_MAX,
    API_STREAMS_MAX, CONNECT_MAX, CONTROL_READ_MAX,
};
use crate::transport::rotating::Rotating;
use crate::transport::tls::{self, TlsError, TlsFiles};
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::{CertificateError, ServerConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    credentials: Rotating<ServerConfig>,
    shared: Arc<Shared>,
}

/// What all calls share.
pub(super) struct Shared {
    pub(super) agent: Arc<dyn Agent>,
    clients: BTreeMap<String, Role>,
    /// Connections by client; none is whoever is no client.
    places: BTreeMap<Option<String>, Semaphore>,
    pub(super) rates: Mutex<Rates>,
    /// By client (none before one is known) and kind.
    sums: Mutex<Sums<(Option<String>, &'static str)>>,
    /// One call at a time that holds a whole selector set.
    pub(super) with_set: Semaphore,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Its name, and its role if the configuration has it.
    pub(super) client: Option<(String, Role)>,
    /// SHA-256 over its certificate (DER), in hex.
    pub(super) certificate_sha256: String,
}

/// What the server shows and believes, followed while the files change.
pub struct Credentials(Rotating<ServerConfig>);

/// Reads the server's files.
///
/// # Errors
/// A certificate, key or list is missing or does not fit.
pub fn credentials(files: TlsFiles) -> Result<Credentials, TlsError> {
    Rotating::new(files, https).map(Credentials)
}

impl Server {
    /// A server on a socket that listens already.
    #[must_use]
    pub fn new(
        listener: TcpListener,
        Credentials(credentials): Credentials,
        clients: BTreeMap<String, Role>,
        agent: Arc<dyn Agent>,
    ) -> Self {
        let names = clients.keys().cloned().map(Some).chain([None]);
        let shared = Shared {
            agent,
            places: names.map(|name| (name, Semaphore::new(API_CLIENT_CONNECTIONS_MAX))).collect(),
            clients,
            rates: Mutex::default(),
            sums: Mutex::new(Sums::new()),
            with_set: Semaphore::new(1),
        };
        Self { listener, credentials, shared: Arc::new(shared) }
    }

    /// Serves until the future is dropped.
    pub async fn serve(mut self) {
        let router = answer::router(&self.shared);
        let handshakes = Arc::new(Semaphore::new(API_HANDSHAKES_MAX));
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            let stream = tokio::select! {
                _ = tick.tick() => {
                    self.shared.tell_sums();
                    continue;
                }
                // Connections that are open go on as they began, up to their longest time.
                () = self.credentials.changed() => continue,
                // Where it fails there are no descriptors: others have to end first, and the next tick comes.
                Ok((stream, _)) = self.listener.accept() => stream,
            };
            let Ok(handshake) = Arc::clone(&handshakes).try_acquire_owned() else {
                self.shared.turned_away(None, "too-many");
                continue;
            };
            let acceptor = TlsAcceptor::from(self.credentials.current());
            let (shared, router) = (Arc::clone(&self.shared), router.clone());
            tokio::spawn(async move {
                let stream = match tokio::time::timeout(CONNECT_MAX, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => return shared.turned_away(None, why(&error)),
                    Err(_elapsed) => return shared.turned_away(None, "slow"),
                };
                drop(handshake);
                let peer = shared.peer(&stream);
                let name = peer.client.as_ref().map(|(name, _)| name.clone());
                let Some(Ok(_place)) = shared.places.get(&name).map(Semaphore::try_acquire) else {
                    return shared.turned_away(name, "too-many");
                };
                converse(stream, router.layer(Extension(peer))).await;
            });
        }
    }
}

impl Shared {
    /// The one client of the configuration that the certificate names.
    fn peer(&self, stream: &TlsStream<TcpStream>) -> Peer {
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let names = certificate.map(|certificate| domain_names(certificate)).unwrap_or_default();
        let mut known = names.iter().filter_map(|name| Some((name.clone(), *self.clients.get(name)?)));
        // A certificate for two clients would have two roles.
        let client = match (known.next(), known.next()) {
            (Some(client), None) => Some(client),
            _ => None,
        };
        let certificate_sha256 = certificate.map(|certificate| hex::encode(tls::fingerprint(certificate)));
        Peer { client, certificate_sha256: certificate_sha256.unwrap_or_default() }
    }

    /// Counts what is turned away unread, and tells it when it is time.
    pub(super) fn turned_away(self: &Arc<Self>, client: Option<String>, kind: &'static str) {
        let now = Instant::now();
        let key = (client, kind);
        if let Some(calls) = lock(&self.sums).count(key.clone(), now) {
            self.tell_sum(key, calls);
        }
    }

    fn tell_sums(self: &Arc<Self>) {
        let due = lock(&self.sums).due(Instant::now());
        due.into_iter().for_each(|(key, calls)| self.tell_sum(key, calls));
    }

    fn tell_sum(self: &Arc<Self>, (client, kind): (Option<String>, &'static str), calls: u64) {
        tracing::warn!(kind, calls, "the control API turned somebody away");
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let leaf = Leaf::ApiTurnedAway { client, kind: kind.to_owned(), calls };
            if let Err(error) = shared.agent.tell(&leaf) {
                tracing::error!(error, "an entry of the control API is missing in the audit log");
            }
        });
    }
}

/// One connection, up to its longest time.
async fn converse(stream: TlsStream<TcpStream>, router: Router) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(CONTROL_READ_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(API_STREAMS_MAX)
        .max_header_list_size(API_HEADERS_BYTES_MAX)
        .keep_alive_interval(CONTROL_READ_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tokio::time::sleep(API_CONNECTION_MAX) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(API_CLOSE_MAX, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection of the control API");
    }
}

/// HTTP/2, and HTTP/1.1 for tools that have nothing newer.
fn https(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = tls::server(files)?.as_ref().clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Domain names among a certificate's subject alternative names.
fn domain_names(certificate: &[u8]) -> BTreeSet<String> {
    use x509_parser::extensions::GeneralName;
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return BTreeSet::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return BTreeSet::new() };
    let name = |name: &GeneralName<'_>| {
        if let GeneralName::DNSName(name) = name { Some(name.to_ascii_lowercase()) } else { None }
    };
    names.value.general_names.iter().filter_map(name).collect()
}

/// Why a handshake failed, as the log says it.
#[allow(clippy::wildcard_enum_match_arm, reason = "what has no name here has that of its class")]
fn why(error: &std::io::Error) -> &'static str {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::NoCertificatesPresented) => "no-certificate",
        Some(rustls::Error::InvalidCertificate(error)) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "not-valid-yet",
            CertificateError::Revoked => "revoked",
            CertificateError::UnknownIssuer | CertificateError::BadSignature => "wrong-authority",
            CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
                "revocation-list-over"
            }
            CertificateError::UnknownRevocationStatus => "no-revocation-list",
            _ => "certificate",
        },
        Some(_) => "tls",
        None => "broken-off",
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
