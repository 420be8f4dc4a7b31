//! `[control.api]`: the control API for people who are not on this host.

use crate::control::api::rights::Role;
use crate::limits::{API_CLIENT_BYTES_MAX, API_CLIENTS_MAX};
use crate::transport::tls::TlsFiles;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `[control.api]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Address and port it listens on: of the management network, never of the mirror port.
    pub listen: SocketAddr,
    /// Certificates (PEM) that may have signed the clients'.
    pub ca_file: PathBuf,
    /// The server's certificate, and those between it and its authority.
    pub certificate_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Revocation lists (PEM) of the authorities of `ca_file`. A list that is out of date refuses everybody.
    pub revocations_file: Option<PathBuf>,
    /// Who may call.
    #[serde(rename = "client")]
    pub clients: Vec<Client>,
}

/// `[[control.api.client]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// A DNS name among the certificate's subject alternative names.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
}

impl Api {
    /// The server's files.
    #[must_use]
    pub fn files(&self) -> TlsFiles {
        TlsFiles {
            ca: self.ca_file.clone(),
            certificate: self.certificate_file.clone(),
            key: self.key_file.clone(),
            revocations: self.revocations_file.clone(),
        }
    }

    /// The clients' roles by name.
    #[must_use]
    pub fn roles(&self) -> BTreeMap<String, Role> {
        self.clients.iter().map(|client| (client.name.to_ascii_lowercase(), client.role)).collect()
    }

    /// Its files, by key.
    pub(super) fn paths(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        [
            ("control.api.ca_file", &self.ca_file),
            ("control.api.certificate_file", &self.certificate_file),
            ("control.api.key_file", &self.key_file),
        ]
        .into_iter()
        .chain(self.revocations_file.as_ref().map(|file| ("control.api.revocations_file", file)))
    }

    pub(super) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.ca_file, &mut self.certificate_file, &mut self.key_file]
            .into_iter()
            .chain(self.revocations_file.as_mut())
    }

    /// First violation found: the key and what to write instead.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        if self.clients.is_empty() || self.clients.len() > API_CLIENTS_MAX {
            let reason = format!("{} tables; write 1 to {API_CLIENTS_MAX}, or no [control.api]", self.clients.len());
            return Err(("control.api.client".into(), reason));
        }
        let key = |index: usize| format!("control.api.client[{index}].name");
        let mut seen = BTreeMap::new();
        for (index, Client { name, .. }) in self.clients.iter().enumerate() {
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
            if name.is_empty() || name.len() > API_CLIENT_BYTES_MAX || !is_name {
                return Err((key(index), format!("`{name}` is no DNS name of a certificate")));
            }
            // One person in two roles could consent to what they wrote themselves.
            if let Some(other) = seen.insert(name.to_ascii_lowercase(), index) {
                return Err((key(index), format!("is that of client[{other}] too; a client has one role")));
            }
        }
        match self.paths().find(|(_, path)| path.as_os_str().is_empty()) {
            Some((key, _)) => Err((key.into(), "is empty; write a path".into())),
            None => Ok(()),
        }
    }
}
