//! Sends what waits in the outbox, one notice after the other, until each is acknowledged.
//!
//! In: the outbox. Out: acknowledgements in it. Nothing but the Commission's signed acknowledgement of exactly the notice sent
//! ends an attempt's repetition. Bounds: one attempt at a time, its duration, the answer's size; pauses double up to a minute,
//! half of each random.

use super::Notice;
use super::outbox::{Outbox, OutboxError};
use crate::limits::{NOTICE_BYTES_MAX, NOTICE_INTERVAL, NOTICE_RETRY_MAX, NOTICE_RETRY_MIN, NOTICE_SEND_MAX};
use crate::receive::config::Notices;
use crate::receive::status::ReceiveStatus;
use crate::transport::rotating::Rotating;
use crate::transport::tls::{self, TlsError, TlsFiles};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

/// Why a notice was not acknowledged this time.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the endpoint cannot be reached: {0}")]
    Io(#[from] std::io::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("HTTP: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("the endpoint took too long")]
    Slow,
    #[error("the endpoint answered {0}")]
    Status(StatusCode),
    #[error("the endpoint's answer is too long, broken off or no text")]
    Answer,
    #[error("the answer does not count: {0}")]
    False(#[from] OutboxError),
    #[error("notices.server_name is no name")]
    Name,
    #[error("the disk's thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// What sends the notices of an outbox.
pub struct Sender {
    outbox: Arc<Mutex<Outbox>>,
    endpoint: SocketAddr,
    server_name: String,
    late: SignedDuration,
    credentials: Rotating<rustls::ClientConfig>,
    status: Arc<ReceiveStatus>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Sender {
    /// Reads the certificates.
    ///
    /// # Errors
    /// A file is missing or does not fit.
    pub fn new(
        outbox: Arc<Mutex<Outbox>>,
        config: &Notices,
        files: &TlsFiles,
        status: Arc<ReceiveStatus>,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            outbox,
            endpoint: config.endpoint,
            server_name: config.server_name.clone(),
            late: SignedDuration::from_secs(i64::from(config.late_seconds)),
            credentials: Rotating::new(files.clone(), https)?,
            status,
        })
    }

    /// The outbox it sends from.
    #[must_use]
    pub fn outbox(&self) -> Arc<Mutex<Outbox>> {
        Arc::clone(&self.outbox)
    }

    /// Sends until `shutdown` turns true. What waits then is sent after the next start.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        tokio::select! {
            () = self.forever() => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
        self.show();
    }

    async fn forever(&mut self) {
        let mut failures = 0;
        loop {
            self.conclude().await;
            self.show();
            let next = lock(&self.outbox).next();
            let Some((notice, text)) = next else {
                tokio::time::sleep(NOTICE_INTERVAL).await;
                continue;
            };
            let number = notice.number;
            if let Err(error) = self.credentials.refresh() {
                tracing::warn!(%error, "changed certificates do not fit; the former ones go on");
            }
            match self.once(notice, text).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    self.status.notice_failures.fetch_add(1, Relaxed);
                    tracing::warn!(number, failures, %error, "a notice is not acknowledged; it is sent again");
                    // Late ones show while the endpoint is dead, too.
                    self.show();
                    tokio::time::sleep(pause(failures)).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// Ends that no tap has said while a notice of them would be late.
    async fn conclude(&self) {
        let late = self.late;
        if !lock(&self.outbox).has_unsaid_end(late, Timestamp::now()) {
            return;
        }
        let outbox = Arc::clone(&self.outbox);
        let concluded = tokio::task::spawn_blocking(move || lock(&outbox).conclude(late, Timestamp::now())).await;
        match concluded.map_err(SendError::from).and_then(|concluded| Ok(concluded?)) {
            Ok(numbered) => tracing::warn!(numbered, "a measure has ended and its tap did not say so"),
            Err(error) => tracing::error!(%error, "a measure's end cannot be noticed; it is tried again"),
        }
    }

    async fn once(&self, notice: Notice, text: String) -> Result<(), SendError> {
        let answer =
            tokio::time::timeout(NOTICE_SEND_MAX, self.post(text)).await.map_err(|_late| SendError::Slow)??;
        let outbox = Arc::clone(&self.outbox);
        tokio::task::spawn_blocking(move || lock(&outbox).acknowledge(&notice, &answer)).await??;
        Ok(())
    }

    async fn post(&self, text: String) -> Result<String, SendError> {
        let name = ServerName::try_from(self.server_name.clone()).map_err(|_no_name| SendError::Name)?;
        let connector = TlsConnector::from(self.credentials.current());
        let stream = connector.connect(name, TcpStream::connect(self.endpoint).await?).await?;
        let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::post("/notices")
            .header(header::HOST, &self.server_name)
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .body(Full::new(Bytes::from(text)))?;
        let answer = client.send_request(request).await;
        let answer = async {
            let answer = answer?;
            let status = answer.status();
            if status != StatusCode::OK {
                return Err(SendError::Status(status));
            }
            let bytes_max = usize::try_from(NOTICE_BYTES_MAX).unwrap_or(usize::MAX);
            let body = Limited::new(answer.into_body(), bytes_max).collect().await.map_err(|_cut| SendError::Answer)?;
            String::from_utf8(body.to_bytes().to_vec()).map_err(|_no_text| SendError::Answer)
        }
        .await;
        connection.abort();
        answer
    }

    fn show(&self) {
        let outbox = lock(&self.outbox);
        let late = Timestamp::now().checked_sub(self.late).unwrap_or(Timestamp::MIN);
        let (waiting, late) = outbox.waiting(late);
        self.status.notices_waiting.store(waiting, Relaxed);
        self.status.notices_late.store(late, Relaxed);
        self.status.notices_acknowledged.store(outbox.acknowledged(), Relaxed);
    }
}

/// A client of HTTPS with these files.
fn https(files: &TlsFiles) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let mut client = tls::client(files)?.as_ref().clone();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(client))
}

/// The pause after `failures` attempts in a row.
fn pause(failures: u32) -> Duration {
    let whole = NOTICE_RETRY_MIN.saturating_mul(1 << failures.min(16)).min(NOTICE_RETRY_MAX);
    let mut random = [0; 4];
    // Without random octets the pause is the shortest of its range.
    if getrandom::fill(&mut random).is_err() {
        random = [0; 4];
    }
    let half = whole / 2;
    half + half.mul_f64(f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX))
}

fn lock(outbox: &Mutex<Outbox>) -> MutexGuard<'_, Outbox> {
    outbox.lock().unwrap_or_else(PoisonError::into_inner)
}
