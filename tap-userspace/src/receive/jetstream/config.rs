//! `[jetstream]`: where `gwtap receive --from-jetstream` takes messages from.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::keys::parse_sha256;
use crate::limits::JETSTREAM_STREAM_DEFAULT;
use crate::transport::nats::{NatsError, Server, is_stream_name};

/// `[jetstream]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JetStream {
    /// Servers of the cluster, the preferred one first.
    #[serde(rename = "server")]
    pub servers: Vec<StreamServer>,
    /// The stream; it is made if it is not there.
    #[serde(default = "default_stream")]
    pub stream: String,
    /// Certificates (PEM) that may have signed the servers'; this side's own is that of `[tls]`.
    pub ca_file: PathBuf,
    /// Revocation lists (PEM) of their authorities, where there are any.
    pub revocations_file: Option<PathBuf>,
    /// Host key ids of those `[[host]]` whose messages are taken here; all of them without it.
    pub hosts: Option<Vec<String>>,
    /// Octets that a stream which is made here may take on each server's disk; as much as the servers allow without it.
    pub bytes_max: Option<u64>,
}

/// `[[jetstream.server]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamServer {
    /// `address:port`: this process looks no names up.
    pub endpoint: SocketAddr,
    /// Name that its certificate must carry.
    pub server_name: String,
}

impl StreamServer {
    /// The same for connections.
    pub(super) fn server(&self) -> Result<Server, NatsError> {
        Server::new(&self.endpoint.to_string(), &self.server_name)
    }
}

fn default_stream() -> String {
    JETSTREAM_STREAM_DEFAULT.to_owned()
}

impl JetStream {
    /// The files that it names.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.ca_file).chain(&self.revocations_file).map(PathBuf::as_path)
    }

    /// The first key whose value cannot be meant, and what to write; `listed` are the hosts of the file.
    pub(in crate::receive) fn check(&self, listed: &BTreeSet<[u8; 32]>) -> Result<(), (String, String)> {
        let refuse = |key: &str, reason: String| Err((format!("jetstream.{key}"), reason));
        if !is_stream_name(&self.stream) {
            return refuse(
                "stream",
                format!("`{}` is no name of a stream; write letters, digits, '-' or '_'", self.stream),
            );
        }
        if self.servers.is_empty() {
            return refuse("server", "is missing; write a table [[jetstream.server]] for each server".into());
        }
        for (index, server) in self.servers.iter().enumerate() {
            if let Err(error) = server.server() {
                return refuse(&format!("server[{index}]"), error.to_string());
            }
        }
        if self.bytes_max.is_some_and(|bytes| i64::try_from(bytes).is_err()) {
            return refuse("bytes_max", "is more than a stream can have".into());
        }
        let known = |id: &String| parse_sha256(id).is_some_and(|id| listed.contains(&id));
        match self.hosts.iter().flatten().find(|id| !known(id)) {
            Some(id) => refuse("hosts", format!("{id} is the id of no [[host]]")),
            None if listed.is_empty() => refuse("hosts", "there is no [[host]] whose messages could be taken".into()),
            None => Ok(()),
        }
    }

    /// Whether messages of `host` are taken here.
    pub(in crate::receive) fn takes(&self, host: &[u8; 32]) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(|id| parse_sha256(id).as_ref() == Some(host)))
    }
}
