//! The agent's configuration, `/etc/gwtap/gwtap.toml`.
//!
//! In: the file's text. Out: a [`Config`] whose values are inside their bounds and whose paths are resolved.
//! It never reads what the paths name, and no secret stands in it: keys are files of their own.
//! Bounds: unknown keys are refused, because a misspelt limit is a limit that does not hold.

pub mod api;
mod check;
mod error;
mod measure;
mod needs;
#[cfg(test)]
mod tests;
pub mod transport;

pub use error::ConfigError;
pub use measure::{Acknowledgement, Export, Kind, Measure, SpoolSection, SpoolSync};

use crate::limits;
use crate::privilege::Privilege;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where `gwtap run` looks for its configuration without `--config`.
pub const DEFAULT_FILE: &str = "/etc/gwtap/gwtap.toml";

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this host is.
    pub host: Host,
    /// Whose signatures count.
    pub trust: Trust,
    /// The measures that run beside each other; a measure's slot in the kernel is its place in this list.
    #[serde(rename = "measure")]
    pub measures: Vec<Measure>,
    /// Where the traffic comes in.
    pub mirror: Mirror,
    /// How far the machine's clock is trusted.
    #[serde(default)]
    pub clock: Clock,
    /// Which address belongs where.
    pub country_table: CountryTableFile,
    /// How the sample of flows is kept.
    #[serde(default)]
    pub sampling: Sampling,
    /// The operator's socket.
    #[serde(default)]
    pub control: Control,
    /// Prometheus.
    #[serde(default)]
    pub metrics: Metrics,
    /// What must outlive a restart.
    pub state: State,
    /// Exceptions that somebody answers for in writing.
    #[serde(default)]
    pub privilege: Privilege,
    /// The audit log.
    pub log: Log,
    /// The Commission's hand.
    #[serde(default)]
    pub oversight: Oversight,
}

/// `[host]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Name of this host, as the receiving facility and the log show it.
    pub name: String,
    /// The host's Ed25519 key; orders name its public key's SHA-256.
    pub key_file: PathBuf,
    /// The host's X25519 key, to which pseudonym keys are sealed.
    pub sealing_key_file: PathBuf,
}

/// `[trust]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Public keys and their roles.
    pub roots_file: PathBuf,
}

/// `[mirror]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The interface the router mirrors to, by name; the order names it too.
    pub interface: String,
    /// What happens to the frame itself.
    #[serde(default)]
    pub mode: Mode,
    /// Where XDP is attached.
    #[serde(default)]
    pub attach: Attach,
    /// Directory on a BPF file system for the maps that outlive the agent.
    #[serde(default = "default_pin_directory")]
    pub pin_directory: PathBuf,
    /// Log the reason code of every packet that could not be parsed; for commissioning a port, not for a busy one.
    #[serde(default)]
    pub log_reasons: bool,
    /// What the router puts around the frames it mirrors; none if the port receives the frames as they are.
    #[serde(default)]
    pub transport: Option<transport::Transport>,
}

/// What happens to a frame after it was counted and, perhaps, recorded.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The interface receives copies: every frame is dropped in the driver.
    #[default]
    Mirror,
    /// The interface carries the traffic itself: every frame is passed on, whatever the verdict.
    Inline,
}

/// Where XDP is attached.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// In the driver.
    #[default]
    Native,
    /// In the network stack, for drivers without XDP; slower, and sees frames after the stack touched them.
    Generic,
}

/// `[clock]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// Whether the lease needs the kernel's word that the clock is synchronised.
    #[serde(default)]
    pub synchronised: Synchronised,
    /// The receiving endpoint is in a laboratory's namespace: `not-required` may stand beside an endpoint that is not
    /// loopback.
    #[serde(default)]
    pub laboratory_namespace: bool,
}

/// Whether an unsynchronised clock stops the tap.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Synchronised {
    /// The lease is not renewed while the kernel reports `STA_UNSYNC`.
    #[default]
    Required,
    /// Laboratory and demo only; said at start, in the log and in a metric.
    NotRequired,
}

/// `[country_table]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountryTableFile {
    /// The table; its SHA-256 must be the order's.
    pub file: PathBuf,
    /// How it is written.
    pub format: CountryFormat,
    /// Day of the table (`YYYY-MM-DD`) where the file itself does not say it; a range CSV needs it.
    pub date: Option<String>,
    /// Take the documentation ranges (RFC 5737, RFC 3849) from the table: laboratory and demo only, shown in a metric.
    #[serde(default)]
    pub documentation_prefixes: bool,
}

/// How a country table is written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum CountryFormat {
    /// Lines `start,end,country`.
    Csv,
    /// A regional registry's delegated-extended file.
    Delegated,
}

/// `[sampling]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Times of day in Japan (`HH:MM`, `HH:MM:SS`) at which the flow hash takes a new secret seed, by a generation of its
    /// own; one is made at every start too.
    #[serde(default = "default_seed_times")]
    pub new_seed_at: Vec<String>,
}

/// `[control]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Unix socket of `gwtap status` and `gwtap selectors load`, mode 0600.
    #[serde(default = "default_control_socket")]
    pub socket: PathBuf,
    /// The control API; without it nobody elsewhere can ask anything.
    #[serde(default)]
    pub api: Option<api::Api>,
}

/// `[metrics]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Address and port of the metrics page; loopback only.
    #[serde(default = "default_metrics_listen")]
    pub listen: SocketAddr,
}

/// `[state]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Directory of what must outlive a restart: highest activations, last wall time, every change of the samples; in a
    /// directory for each measure its active set (sealed).
    pub directory: PathBuf,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Directory of the audit log: every act is a leaf of it. An agent that cannot write it does not start.
    pub directory: PathBuf,
    /// The Ed25519 key that signs its checkpoints; the key's name is the log's identity.
    pub key_file: PathBuf,
}

/// `[oversight]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oversight {
    /// Directory whose files `*.note` are directives of the Commission: taken at every start, before anything is attached.
    pub directives_directory: Option<PathBuf>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { new_seed_at: default_seed_times() }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: default_control_socket(), api: None }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: default_metrics_listen() }
    }
}

impl Config {
    /// Reads and checks the file. Relative paths in it are taken from the file's own directory.
    ///
    /// # Errors
    /// Names the file, the line or key, and what to change.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_path_buf(), source })?;
        Self::from_toml(&text, file)
    }

    /// As [`Config::load`], with the text at hand; `file` is for messages and relative paths.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| ConfigError::syntax(file, text, &error))?;
        check::check(&config).map_err(|(key, reason)| ConfigError::Value { file: file.to_path_buf(), key, reason })?;
        config.resolve(file.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Whether an unsynchronised clock is tolerated: it is said at start, in the log and in a metric.
    #[must_use]
    pub fn clock_not_required(&self) -> bool {
        self.clock.synchronised == Synchronised::NotRequired
    }

    fn resolve(&mut self, base: &Path) {
        let paths = [
            &mut self.host.key_file,
            &mut self.host.sealing_key_file,
            &mut self.trust.roots_file,
            &mut self.mirror.pin_directory,
            &mut self.country_table.file,
            &mut self.control.socket,
            &mut self.state.directory,
            &mut self.log.directory,
            &mut self.log.key_file,
        ];
        let measures = self.measures.iter_mut().flat_map(Measure::paths_mut);
        let api = self.control.api.iter_mut().flat_map(api::Api::paths_mut);
        for path in paths.into_iter().chain(measures).chain(&mut self.oversight.directives_directory).chain(api) {
            *path = base.join(&*path);
        }
    }
}

fn default_pin_directory() -> PathBuf {
    PathBuf::from("/sys/fs/bpf/gwtap")
}

fn default_seed_times() -> Vec<String> {
    vec!["00:00".into()]
}

fn default_control_socket() -> PathBuf {
    PathBuf::from("/run/gwtap/control.sock")
}

fn default_metrics_listen() -> SocketAddr {
    limits::METRICS_LISTEN_DEFAULT
}
