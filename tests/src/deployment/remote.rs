//! Clients of the control API: an authority of their own, a certificate and a file for each role, and the tap's configuration with
//! all of them. In: a deployment whose agent has not started. Out: files, and calls from another host of the laboratory.

use anyhow::{Context as _, Result, bail};
use rcgen::date_time_ymd;
use serde_json::Value;
use tap_userspace::control::api::client::{Answered, Call, CallError, Client};
use tap_userspace::control::api::rights::Role;

use super::{Authority, Deployment, HOST_NAME, write};
use crate::lab::{Host, MIRROR};

/// Port of the control API.
pub const API_PORT: u16 = 8443;

/// The control API's clients.
pub struct Remote<'a> {
    deployment: &'a Deployment,
    authority: Authority,
}

impl<'a> Remote<'a> {
    /// Adds the control API to the agent's configuration: a client for each role, of that name; `stranger` is none.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn new(deployment: &'a Deployment) -> Result<Self> {
        let tls = deployment.file("tls");
        let remote = Self { deployment, authority: Authority::new("clients of the control API")? };
        remote.authority.write(&tls.join("clients.pem"))?;
        for role in Role::ALL {
            remote.authority.issue(role.name(), &tls)?;
        }
        remote.authority.issue("stranger", &tls)?;
        remote.authority.issue("revoked", &tls)?;
        remote.authority.issue_until("expired", &tls, date_time_ymd(2026, 1, 1))?;
        Authority::new("somebody's")?.issue("foreign", &tls)?;
        remote.authority.revoke(&["revoked"], date_time_ymd(4096, 1, 1), &tls.join("clients.crl"))?;
        for name in Role::ALL.map(Role::name).into_iter().chain(["stranger", "revoked", "expired", "foreign"]) {
            write(&remote.file(name), &client(name))?;
        }
        let mut text = std::fs::read_to_string(deployment.file("gwtap.toml"))?;
        text += &format!(
            "\n[control.api]\nlisten = \"{MIRROR}:{API_PORT}\"\nca_file = \"tls/clients.pem\"\n\
             certificate_file = \"tls/{HOST_NAME}.pem\"\nkey_file = \"tls/{HOST_NAME}.key\"\n\
             revocations_file = \"tls/clients.crl\"\n"
        );
        for role in Role::ALL.map(Role::name).into_iter().chain(["revoked", "expired", "foreign"]) {
            let known = Role::ALL.into_iter().find(|known| known.name() == role).unwrap_or(Role::SelectorAuthor);
            text += &format!("\n[[control.api.client]]\nname = \"{role}\"\nrole = \"{}\"\n", known.name());
        }
        write(&deployment.file("gwtap.toml"), &text)?;
        Ok(remote)
    }

    /// The authority that signs clients' certificates.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A client's file.
    #[must_use]
    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.deployment.file(&format!("client-{name}.toml"))
    }

    /// A call of the client `name` from `host`.
    ///
    /// # Errors
    /// The tap's own, or none was reached.
    pub fn call(&self, host: &Host, name: &str, call: &Call<'_>) -> Result<Result<Answered, CallError>> {
        let client = Client::load(&self.file(name))?;
        host.enter(|| client.call(call))
    }

    /// What becomes of a call: `done`, the problem's kind, or `no-connection`.
    ///
    /// # Errors
    /// No call could be made at all.
    pub fn outcome(&self, host: &Host, name: &str, call: &Call<'_>) -> Result<String> {
        Ok(match self.call(host, name, call)? {
            Ok(_) => "done".into(),
            Err(CallError::Problem(problem)) => problem.name().to_owned(),
            Err(CallError::Connection { .. }) => "no-connection".into(),
            Err(other) => bail!("{other}"),
        })
    }

    /// Runs `gwtap api` as the client `name` on `host`; gives what it printed.
    ///
    /// # Errors
    /// Where it fails: its own message is the error.
    pub fn run(&self, host: &Host, name: &str, words: &[&str]) -> Result<String> {
        let mut command = host.command(crate::gwtap::binary()?);
        command.args(["api", "--client"]).arg(self.file(name)).args(words).current_dir(self.deployment.path());
        let output = command.output().context("gwtap api")?;
        if !output.status.success() {
            bail!("gwtap api {words:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The state of the first measure's versions, as the auditor sees it, and its ETag.
    ///
    /// # Errors
    /// Where the tap does not answer.
    pub fn versions(&self, host: &Host) -> Result<(Value, String)> {
        let path = format!("/v1/measures/{}/selectors", super::MEASURE);
        let answered = self.call(host, "auditor", &Call { method: "GET", path: &path, etag: None, body: None })??;
        let etag = answered.etag.clone().context("an ETag")?;
        Ok((answered.as_json()?, etag))
    }
}

fn client(name: &str) -> String {
    format!(
        "endpoint = \"{MIRROR}:{API_PORT}\"\nserver_name = \"{HOST_NAME}\"\nca_file = \"tls/ca.pem\"\n\
         certificate_file = \"tls/{name}.pem\"\nkey_file = \"tls/{name}.key\"\n"
    )
}
