//! Configuration of `gwtap receive`: TOML. Unknown keys are refused, and every error names the file and the key.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::jetstream::config::JetStream;
use crate::keys::parse_sha256;
use crate::privilege::Privilege;
use crate::transport::tls::TlsFiles;

/// What the receiving facility needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiveConfig {
    /// Where exporters connect to; a receiver that takes from a stream may do without.
    pub listen: Option<Listen>,
    /// Certificates.
    pub tls: Tls,
    /// Where messages are stored.
    pub store: StoreSection,
    /// Mirror hosts whose messages are acknowledged.
    #[serde(default, rename = "host")]
    pub hosts: Vec<Host>,
    /// Prometheus.
    #[serde(default)]
    pub metrics: Metrics,
    /// Exceptions that somebody answers for in writing.
    #[serde(default)]
    pub privilege: Privilege,
    /// Notices to the Commission; without it receipts are verified and stored, and nobody is told.
    pub notices: Option<Notices>,
    /// The stream that messages are taken from with `--from-jetstream`; without that word it is not there.
    pub jetstream: Option<JetStream>,
}

/// `[notices]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notices {
    /// The name under which this facility sends; it stands in every notice.
    pub name: String,
    /// The key that signs notices.
    pub key_file: PathBuf,
    /// `address:port` of the Commission's endpoint.
    pub endpoint: SocketAddr,
    /// Name in the endpoint's certificate.
    pub server_name: String,
    /// Certificates (PEM) that may have signed the endpoint's.
    pub ca_file: PathBuf,
    /// The public key that signs acknowledgements.
    pub commission_key_file: PathBuf,
    /// Seconds without an acknowledgement after which a notice counts as late.
    #[serde(default = "late_seconds")]
    pub late_seconds: u32,
}

fn late_seconds() -> u32 {
    crate::limits::NOTICE_LATE_SECONDS
}

/// `[listen]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// `address:port`; port 0 lets the system choose. IPFIX over TLS has 4740.
    pub address: SocketAddr,
}

/// `[tls]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificates (PEM) that may have signed an exporter's.
    pub ca_file: PathBuf,
    /// The facility's certificate (PEM).
    pub certificate_file: PathBuf,
    /// Its key (PEM).
    pub key_file: PathBuf,
    /// Revocation lists (PEM) of the authorities, where there are any.
    pub revocations_file: Option<PathBuf>,
}

impl Tls {
    /// The same for both sides of the transport.
    #[must_use]
    pub fn files(&self) -> TlsFiles {
        TlsFiles {
            ca: self.ca_file.clone(),
            certificate: self.certificate_file.clone(),
            key: self.key_file.clone(),
            revocations: self.revocations_file.clone(),
        }
    }
}

/// `[store]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSection {
    /// The store's directory; it is made if it is not there.
    pub directory: PathBuf,
}

/// `[[host]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The host key id, 64 hex digits.
    pub id: String,
    /// SHA-256 of the certificate it connects with, 64 hex digits (colons may stand between them).
    pub certificate_sha256: String,
    /// The same of the certificate it is to connect with next: both count while it changes over.
    pub next_certificate_sha256: Option<String>,
    /// The measures that its receipts may name; any, where none are listed. A receipt that names another is set aside.
    pub measures: Option<Vec<String>>,
}

/// `[metrics]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Loopback address of the metrics page; none is served without it.
    pub listen: Option<SocketAddr>,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no such TOML.
    #[error("{}: {source}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Line and key.
        source: Box<toml::de::Error>,
    },
    /// A value is refused.
    #[error("{}: {key}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Why.
        reason: String,
    },
}

impl ReceiveConfig {
    /// Reads `path` for a facility that listens; relative paths in it count from its directory.
    ///
    /// # Errors
    /// The file, its TOML, or a value that cannot be meant.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_for(path, false)
    }

    /// The same for one that takes from a stream (too, if it has `[listen]`), where `from_jetstream` says so.
    ///
    /// # Errors
    /// As [`ReceiveConfig::read`].
    pub fn read_for(path: &Path, from_jetstream: bool) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|source| ConfigError::Toml { path: path.to_owned(), source: Box::new(source) })?;
        config.choose(from_jetstream).and_then(|()| config.check()).map_err(|(key, reason)| ConfigError::Value {
            path: path.to_owned(),
            key,
            reason,
        })?;
        let base = path.parent().unwrap_or(Path::new("."));
        let tls = &mut config.tls;
        let files = [&mut tls.ca_file, &mut tls.certificate_file, &mut tls.key_file, &mut config.store.directory];
        for file in files.into_iter().chain(&mut tls.revocations_file) {
            *file = base.join(&*file);
        }
        if let Some(notices) = &mut config.notices {
            for file in [&mut notices.key_file, &mut notices.ca_file, &mut notices.commission_key_file] {
                *file = base.join(&*file);
            }
        }
        if let Some(jetstream) = &mut config.jetstream {
            for file in std::iter::once(&mut jetstream.ca_file).chain(&mut jetstream.revocations_file) {
                *file = base.join(&*file);
            }
        }
        Ok(config)
    }

    /// Where messages come from.
    fn choose(&mut self, from_jetstream: bool) -> Result<(), (String, String)> {
        match (from_jetstream, &self.jetstream, &self.listen) {
            (true, None, _) => Err(("jetstream".into(), "is missing, and --from-jetstream asks for it".into())),
            (false, _, None) => Err((
                "listen.address".into(),
                "is missing; write where exporters connect to, or start with --from-jetstream".into(),
            )),
            (true, Some(_), _) => Ok(()),
            (false, _, Some(_)) => {
                self.jetstream = None;
                Ok(())
            }
        }
    }

    fn check(&self) -> Result<(), (String, String)> {
        let mut ids = BTreeMap::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let key = |name: &str| format!("host[{index}].{name}");
            let Some(id) = parse_sha256(&host.id) else {
                return Err((key("id"), "is not 64 hex digits; `gwtap keygen host` shows it".into()));
            };
            for (name, text) in host.certificates() {
                if fingerprint(text).is_none() {
                    let reason = "is not 64 hex digits; `openssl x509 -noout -fingerprint -sha256` shows it";
                    return Err((key(name), reason.into()));
                }
            }
            if let Some(other) = ids.insert(id, index) {
                return Err((key("id"), format!("is the same as host[{other}].id")));
            }
        }
        if let Some(jetstream) = &self.jetstream {
            jetstream.check(&ids.into_keys().collect())?;
        }
        if let Some(notices) = &self.notices {
            if notices.name.is_empty() || notices.name.len() > crate::limits::ID_BYTES_MAX {
                return Err(("notices.name".into(), "is empty or too long; write the facility's short name".into()));
            }
            if rustls::pki_types::ServerName::try_from(notices.server_name.as_str()).is_err() {
                return Err(("notices.server_name".into(), "is no name that a certificate can have".into()));
            }
        }
        match self.metrics.listen {
            Some(address) if !address.ip().is_loopback() => {
                Err(("metrics.listen".into(), format!("{address} is not loopback; write 127.0.0.1:PORT")))
            }
            _ => Ok(()),
        }
    }

    /// By host key id, the measures that its receipts may name, where the configuration lists them.
    #[must_use]
    pub fn measures(&self) -> BTreeMap<[u8; 32], Vec<String>> {
        let listed = |host: &Host| Some((parse_sha256(&host.id)?, host.measures.clone()?));
        self.hosts.iter().filter_map(listed).collect()
    }

    /// Whether `host` may send under the certificate with this fingerprint; otherwise why not.
    ///
    /// # Errors
    /// The reason, as the exporter is told it.
    pub fn admit(&self, host: &[u8; 32], fingerprint: &[u8; 32]) -> Result<(), &'static str> {
        match self.hosts.iter().find(|listed| parse_sha256(&listed.id).as_ref() == Some(host)) {
            None => Err("the host key id is not listed here"),
            Some(listed)
                if listed.certificates().any(|(_, text)| self::fingerprint(text).as_ref() == Some(fingerprint)) =>
            {
                Ok(())
            }
            Some(_) => Err("the certificate is not the one listed for this host key id"),
        }
    }
}

impl Host {
    /// Keys and values of the certificates that count.
    fn certificates(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let next = self.next_certificate_sha256.iter().map(|text| ("next_certificate_sha256", text.as_str()));
        std::iter::once(("certificate_sha256", self.certificate_sha256.as_str())).chain(next)
    }
}

fn fingerprint(text: &str) -> Option<[u8; 32]> {
    parse_sha256(&text.replace(':', "").to_ascii_lowercase())
}
