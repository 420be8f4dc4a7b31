//! `[[measure]]`: what belongs to one measure. Everything else in the file is the host's.

use crate::ipfix::template::RecordTemplate;
use crate::limits;
use crate::transport::tls::TlsFiles;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// `[[measure]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// The signed order.
    pub order_file: PathBuf,
    /// Orders that extend it (Art. 19), in their order.
    #[serde(default)]
    pub extension_files: Vec<PathBuf>,
    /// The selector set.
    pub set_file: PathBuf,
    /// Its activation, signed by two persons.
    pub activation_file: PathBuf,
    /// The current epoch's pseudonym keys, sealed to this host.
    pub pseudonym_key_file: PathBuf,
    /// Records that are not acknowledged yet.
    pub spool: SpoolSection,
    /// The receiving facility.
    pub export: Export,
}

/// `[measure.spool]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpoolSection {
    /// Directory of the spool, for the agent and this measure alone.
    pub directory: PathBuf,
    /// The spool's key: a credential file, not on the spool's disk.
    pub key_file: PathBuf,
    /// When what is spooled survives a power cut.
    #[serde(default)]
    pub sync: SpoolSync,
    /// Bytes the spool may take on disk; a full spool refuses the newest message and says so.
    #[serde(default = "default_spool_bytes")]
    pub bytes_max: u64,
}

/// When a spooled record survives a power cut; a killed process loses none either way.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum SpoolSync {
    /// Within 50 ms (group commit), and in any case before it leaves the host. With the wait for its batch a power cut takes the
    /// records of the last 100 ms.
    #[default]
    Group,
    /// Before its place in the ring is given back: a power cut takes only what is still in the rings.
    Each,
}

/// `[measure.export]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// How messages go there.
    #[serde(default)]
    pub kind: Kind,
    /// The stream that takes them; with `kind = "jetstream"` alone.
    pub stream: Option<String>,
    /// `host:port` of the receiving facility, or of the first of its NATS servers.
    pub endpoint: String,
    /// Name its certificate must carry.
    pub server_name: String,
    /// Certificates (PEM) that may have signed it.
    pub ca_file: PathBuf,
    /// This host's certificate (PEM).
    pub certificate_file: PathBuf,
    /// Its key (PEM).
    pub key_file: PathBuf,
    /// Revocation lists (PEM) of the authorities, where there are any.
    pub revocations_file: Option<PathBuf>,
    /// Facilities (or servers of the same cluster) that take over while the first one cannot be reached, in their order.
    #[serde(default)]
    pub further: Vec<FurtherReceiver>,
    /// Which template the records follow.
    #[serde(default)]
    pub template: RecordTemplate,
    /// Whether the peer acknowledges durable storage.
    #[serde(default)]
    pub acknowledgement: Acknowledgement,
}

/// `[[measure.export.further]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FurtherReceiver {
    /// `host:port`; the order names it among its receiving facility's further endpoints.
    pub endpoint: String,
    /// Name its certificate must carry.
    pub server_name: String,
}

impl Export {
    /// The stream, where messages go to one.
    #[must_use]
    pub fn stream(&self) -> Option<&str> {
        (self.kind == Kind::Jetstream).then(|| self.stream.as_deref().unwrap_or(limits::JETSTREAM_STREAM_DEFAULT))
    }

    /// The files of this side of a connection.
    #[must_use]
    pub fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            ca: self.ca_file.clone(),
            certificate: self.certificate_file.clone(),
            key: self.key_file.clone(),
            revocations: self.revocations_file.clone(),
        }
    }

    /// Endpoint and name of every receiving facility, the preferred one first.
    pub fn receivers(&self) -> impl Iterator<Item = (&str, &str)> {
        let further = self.further.iter().map(|further| (further.endpoint.as_str(), further.server_name.as_str()));
        std::iter::once((self.endpoint.as_str(), self.server_name.as_str())).chain(further)
    }
}

/// How messages go to the receiving facility.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// IPFIX over TLS, answered by the facility itself (`docs/export.md`).
    #[default]
    Ipfix,
    /// Published to a replicated NATS JetStream stream, from which the facility takes them (`docs/jetstream.md`).
    Jetstream,
}

/// What trims the spool.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Acknowledgement {
    /// The peer's acknowledgement of durable storage; a peer that offers none is refused.
    #[default]
    Required,
    /// A plain IPFIX collector: a message counts as delivered once it is written to the connection.
    None,
}

impl Measure {
    /// Every path of the table, by its key.
    pub(super) fn paths(&self) -> [(&'static str, &Path); 9] {
        [
            ("order_file", &self.order_file),
            ("set_file", &self.set_file),
            ("activation_file", &self.activation_file),
            ("pseudonym_key_file", &self.pseudonym_key_file),
            ("spool.directory", &self.spool.directory),
            ("spool.key_file", &self.spool.key_file),
            ("export.ca_file", &self.export.ca_file),
            ("export.certificate_file", &self.export.certificate_file),
            ("export.key_file", &self.export.key_file),
        ]
    }

    /// The same, to be resolved.
    pub(super) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let single = [
            &mut self.order_file,
            &mut self.set_file,
            &mut self.activation_file,
            &mut self.pseudonym_key_file,
            &mut self.spool.directory,
            &mut self.spool.key_file,
            &mut self.export.ca_file,
            &mut self.export.certificate_file,
            &mut self.export.key_file,
        ];
        single.into_iter().chain(&mut self.export.revocations_file).chain(&mut self.extension_files)
    }
}

fn default_spool_bytes() -> u64 {
    limits::SPOOL_BYTES_DEFAULT
}
