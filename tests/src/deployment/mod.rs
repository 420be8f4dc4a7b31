//! A whole deployment in one directory, made by the program's own verbs: keys and roles, a signed order, a country table of
//! documentation prefixes, activated selector sets, certificates, configurations of both ends. In: a [`Plan`]. Out: files
//! that `gwtap run` and `gwtap receive` start from. It ends with its handle.

mod books;
mod certificates;
mod documents;
mod identities;
mod inspection;
mod measure;
mod remote;
mod running;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tap_userspace::keys::{HostKeyId, PublicKey};

use crate::gwtap;

pub use books::{Books, lost, missing, selected};
pub use certificates::Authority;
pub use identities::{Identities, identities};
pub use measure::{MeasurePlan, rule, rule_on, with_payload};
pub use remote::{API_PORT, Remote};
pub use running::{KernelCounters, METRICS_PORT};

/// The measure of every laboratory order.
pub const MEASURE: &str = "m-1";
/// The one target act.
pub const ACT: &str = "a-1";
/// The selection standard.
pub const STANDARD: &str = "s-1";
/// Name in the receiving facility's certificate.
pub const SERVER_NAME: &str = "receive.example";
/// Name of the mirror host, in its keys and its certificate.
pub const HOST_NAME: &str = "mirror-1";
/// Name of the host's audit log and its key.
pub const LOG_NAME: &str = "mirror-1.log";

/// What a deployment is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Transmission capacity of the facility.
    pub capacity_bits_per_second: u64,
    /// Part of it that may be admitted, in parts per million.
    pub share_ppm: u32,
    /// Part of the flows that is looked at, in parts per million.
    pub sampling_ppm: u32,
    /// Rules of each selector set, in order of their versions from 1; see [`rule`].
    pub sets: Vec<Vec<Value>>,
    /// Whether the agent passes frames on instead of dropping copies.
    pub inline: bool,
    /// The agent's interface.
    pub interface: &'static str,
    /// Measures beside the first, each with a receiving side of its own.
    pub beside: Vec<MeasurePlan>,
    /// Japan's times of day at which the flow hash takes a new seed; the default's if there are none.
    pub new_seed_at: Vec<String>,
}

impl Default for Plan {
    /// A gigabit facility, 30 % of it, every flow, on the laboratory's mirror port; no set yet.
    fn default() -> Self {
        Self {
            capacity_bits_per_second: 1_000_000_000,
            share_ppm: 300_000,
            sampling_ppm: 1_000_000,
            sets: Vec::new(),
            inline: false,
            interface: crate::lab::MIRROR_PORT,
            beside: Vec::new(),
            new_seed_at: Vec::new(),
        }
    }
}

/// The files of a deployment.
#[derive(Debug)]
pub struct Deployment {
    directory: tempfile::TempDir,
    plan: Plan,
    measures: Vec<MeasurePlan>,
}

impl Deployment {
    /// Makes everything that `plan` asks for.
    ///
    /// # Errors
    /// What the program's own verbs refuse.
    pub fn new(plan: Plan) -> Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("gwtap-").tempdir().context("a directory for the deployment")?;
        let measures = std::iter::once(MeasurePlan::first(&plan)).chain(plan.beside.iter().cloned()).collect();
        let deployment = Self { directory, plan, measures };
        deployment.keys()?;
        deployment.certificates()?;
        deployment.documents()?;
        deployment.configurations()?;
        Ok(deployment)
    }

    /// Its directory; everything lies in it.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What was asked for.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The measures, by slot.
    #[must_use]
    pub fn measures(&self) -> &[MeasurePlan] {
        &self.measures
    }

    /// A file of the deployment.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The selector set of `version` (from 1) and its activation.
    #[must_use]
    pub fn set(&self, version: usize) -> [PathBuf; 2] {
        [self.file(&format!("selectors-{version}.json")), self.file(&format!("activation-{version}.note"))]
    }

    fn keys(&self) -> Result<()> {
        for (role, name) in documents::SIGNATORIES {
            self.gwtap(["keygen", role, "--name", name, "--out", "keys"])?;
        }
        self.gwtap(["keygen", "host", "--name", HOST_NAME, "--out", "keys"])?;
        // The receiving facility's own sealing pair: it is to re-identify later.
        self.gwtap(["keygen", "host", "--name", "facility", "--out", "keys"])?;
        self.gwtap(["keygen", "spool", "--name", "spool", "--out", "keys"])?;
        self.gwtap(["keygen", "log", "--name", LOG_NAME, "--out", "keys"])?;
        let window = window();
        for measure in &self.measures {
            self.gwtap([
                "keygen",
                "pseudonym",
                "--measure",
                &measure.id,
                "--epoch",
                "1",
                "--not-before",
                &window[0].to_string(),
                "--not-after",
                &window[1].to_string(),
                "--seal-to",
                &format!("keys/{HOST_NAME}.seal.pub"),
                "--seal-to",
                "keys/facility.seal.pub",
                "--out",
                &format!("keys/{}", measure.file("pseudonym.toml")),
            ])?;
        }
        Ok(())
    }

    /// The host key's id, as orders name it.
    ///
    /// # Errors
    /// Where the public key is not there.
    pub fn host_key(&self) -> Result<String> {
        let file = self.file(&format!("keys/{HOST_NAME}.pub"));
        Ok(HostKeyId::of(&PublicKey::from_file(&file)?).to_string())
    }

    /// SHA-256 of a certificate, in hex.
    fn certificate_sha256(&self, name: &str) -> Result<String> {
        let file = self.file(&format!("tls/{name}.sha256"));
        std::fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    fn certificates(&self) -> Result<()> {
        let directory = self.file("tls");
        std::fs::create_dir(&directory)?;
        let authority = Authority::new("gwtap laboratory")?;
        authority.write(&directory.join("ca.pem"))?;
        authority.issue(SERVER_NAME, &directory)?;
        authority.issue(HOST_NAME, &directory)
    }

    /// Runs a verb of the program in the deployment's directory.
    ///
    /// # Errors
    /// Where it fails: its own message is the error.
    pub fn gwtap<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<String> {
        gwtap::run(self.path(), words)
    }
}

/// The order's window: from an hour ago for two days.
fn window() -> [Timestamp; 2] {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    [now - SignedDuration::from_hours(1), now + SignedDuration::from_hours(47)]
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| file.display().to_string())
}

/// Writes a file that its owner alone may read.
fn write_secret(file: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let open = || std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    open().and_then(|mut opened| opened.write_all(text.as_bytes())).with_context(|| file.display().to_string())
}
