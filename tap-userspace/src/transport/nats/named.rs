//! TLS towards a server whose certificate carries a configured name, whatever address it is reached at. In: the files of this side.
//! Out: configurations of the connecting side: TLS 1.3, our certificate, revocation lists.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::transport::tls::{self, TlsError, TlsFiles};

/// What this side connects with.
#[derive(Debug)]
pub struct Credentials {
    /// For connections that say themselves which name they expect.
    pub plain: Arc<ClientConfig>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl Credentials {
    /// Reads `files`.
    ///
    /// # Errors
    /// A file that is missing or does not fit.
    pub fn read(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self { plain: tls::client(files)?, verifier: tls::server_verifier(files)? }))
    }

    /// A configuration under which a server is `name` or nobody.
    #[must_use]
    pub fn for_name(&self, name: ServerName<'static>) -> ClientConfig {
        let mut config = ClientConfig::clone(&self.plain);
        // Another protocol than the one whose name this is.
        config.alpn_protocols.clear();
        // No more than a name is exchanged: everything is verified as it is for connections of our own.
        config.dangerous().set_certificate_verifier(Arc::new(Named { name, inner: Arc::clone(&self.verifier) }));
        config
    }
}

/// Verifies a server's certificate for one name.
struct Named {
    name: ServerName<'static>,
    inner: Arc<WebPkiServerVerifier>,
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Named({:?})", self.name)
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _reached_as: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, Issuer, KeyPair};

    #[test]
    fn the_configured_name_counts_and_not_the_address() {
        let directory = tempfile::tempdir().unwrap();
        let [ca, certificate, key] = ["ca.pem", "own.pem", "own.key"].map(|name| directory.path().join(name));
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        std::fs::write(&ca, params.self_signed(&authority_key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, authority_key);
        let own_key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["nats.example".into()]).unwrap().signed_by(&own_key, &issuer).unwrap();
        std::fs::write(&certificate, own.pem()).unwrap();
        std::fs::write(&key, own_key.serialize_pem()).unwrap();
        let files = TlsFiles { ca, certificate, key, revocations: None };
        let credentials = Credentials::read(&files).unwrap();
        let judged = |name: &str, reached_as: &str| {
            let named = Named {
                name: ServerName::try_from(name.to_owned()).unwrap(),
                inner: Arc::clone(&credentials.verifier),
            };
            let reached_as = ServerName::try_from(reached_as).unwrap();
            named.verify_server_cert(own.der(), &[], &reached_as, &[], UnixTime::now()).is_ok()
        };
        assert!(judged("nats.example", "192.0.2.1"));
        assert!(!judged("other.example", "nats.example"), "the name it was reached by does not count");
        assert!(credentials.for_name(ServerName::try_from("nats.example").unwrap()).alpn_protocols.is_empty());
    }
}
