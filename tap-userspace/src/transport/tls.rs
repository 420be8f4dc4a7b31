//! TLS 1.3 with both sides authenticated. In: PEM files that the configuration names. Out: rustls configurations. Older
//! versions of TLS are not offered, a peer without a certificate is not served.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::ALPN;

/// Why no TLS can be spoken; each says which file is meant.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{}: {source}; a PEM file with {what} is needed", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it must hold.
        what: &'static str,
        /// What reading it said.
        source: rustls::pki_types::pem::Error,
    },
    /// A file has no certificate.
    #[error("{}: holds no certificate (PEM, `BEGIN CERTIFICATE`)", .0.display())]
    Empty(PathBuf),
    /// A file has no revocation list.
    #[error("{}: holds no revocation list (PEM, `BEGIN X509 CRL`)", .0.display())]
    NoList(PathBuf),
    /// Certificate and key do not fit, or are not of a kind that is spoken.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// The files of one side.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificates (PEM) that may have signed the other side's.
    pub ca: PathBuf,
    /// This side's certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Revocation lists (PEM) of the authorities, where there are any. A list that is out of date refuses everybody.
    pub revocations: Option<PathBuf>,
}

/// Configuration of the connecting side.
///
/// # Errors
/// A file that is missing or does not fit.
pub fn client(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let (chain, key) = identity(files)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused(&files.certificate))?
        .with_webpki_verifier(server_verifier(files)?)
        .with_client_auth_cert(chain, key)
        .map_err(refused(&files.key))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Configuration of the listening side: clients without a certificate of `files.ca` are refused in the handshake.
///
/// # Errors
/// A file that is missing or does not fit.
pub fn server(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = identity(files)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(&files.ca)?), provider());
    let verifier = match &files.revocations {
        None => verifier,
        Some(path) => {
            verifier.with_crls(revocations(path)?).only_check_end_entity_revocation().enforce_revocation_expiration()
        }
    };
    let verifier = verifier.build().map_err(refused(&files.ca))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused(&files.certificate))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(refused(&files.key))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // No resumption: a session without a fresh look at the certificate would outlive its withdrawal.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// SHA-256 over a certificate's DER octets, as `openssl x509 -fingerprint -sha256` computes it.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    crate::keys::sha256(certificate.as_ref())
}

/// Who may have signed the listening side's certificate, and which are revoked.
pub(super) fn server_verifier(files: &TlsFiles) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities(&files.ca)?), provider());
    let verifier = match &files.revocations {
        None => verifier,
        Some(path) => {
            verifier.with_crls(revocations(path)?).only_check_end_entity_revocation().enforce_revocation_expiration()
        }
    };
    verifier.build().map_err(refused(&files.ca))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn identity(files: &TlsFiles) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unreadable(&files.key, "a private key"))?;
    Ok((certificates(&files.certificate)?, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(unreadable(path, "certificates"))?
        .collect::<Result<_, _>>()
        .map_err(unreadable(path, "certificates"))?;
    if certificates.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(certificates) }
}

fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    const WHAT: &str = "revocation lists";
    let lists: Vec<_> = CertificateRevocationListDer::pem_file_iter(path)
        .map_err(unreadable(path, WHAT))?
        .collect::<Result<_, _>>()
        .map_err(unreadable(path, WHAT))?;
    if lists.is_empty() { Err(TlsError::NoList(path.to_owned())) } else { Ok(lists) }
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(refused(path))?;
    }
    Ok(store)
}

fn unreadable(path: &Path, what: &'static str) -> impl Fn(rustls::pki_types::pem::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::File { path: path.clone(), what, source }
}

fn refused<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> TlsError {
    let path = path.to_owned();
    move |error| TlsError::Refused { path: path.clone(), reason: error.to_string() }
}
