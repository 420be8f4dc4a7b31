//! The running ends of a deployment: configurations, processes, and what they say of themselves.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tap_userspace::control::status::Status;
use tap_userspace::control::{Request, Response, client};
use tap_userspace::load::{Attach, Tap, TapConfig, cap_policy};

use super::documents::COUNTRY_TABLE_DATE;
use super::{Deployment, HOST_NAME, LOG_NAME, MeasurePlan, SERVER_NAME, write};
use crate::gwtap;
use crate::lab::{Host, Process, RECEIVING};

/// Port of the receiving facility.
pub(super) const PORT: u16 = 4740;
/// Port of the agent's metrics page on its host's loopback.
pub const METRICS_PORT: u16 = 9464;
/// How long either end may take to come up; a loaded machine needs some of it.
const START_MAX: Duration = Duration::from_secs(20);

/// Where the agent pins what outlives it.
const PIN_DIRECTORY: &str = "/sys/fs/bpf/gwtap";

/// Counters that live in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelCounters {
    /// Packets seen.
    pub observed: u64,
    /// Of them, those that met no live lease.
    pub no_lease: u64,
    /// Of them, those that were selected.
    pub selected: u64,
}

impl Deployment {
    pub(super) fn configurations(&self) -> Result<()> {
        write(&self.file("gwtap.toml"), &self.agent_configuration())?;
        self.measures().iter().try_for_each(|measure| {
            write(&self.file(&measure.file("receive.toml")), &self.receive_configuration(measure)?)
        })
    }

    fn agent_configuration(&self) -> String {
        let plan = self.plan();
        let mode = if plan.inline { "inline" } else { "mirror" };
        let measures: String = self.measures().iter().map(measure_configuration).collect();
        let sampling = match plan.new_seed_at.as_slice() {
            [] => String::new(),
            times => format!("[sampling]\nnew_seed_at = {times:?}\n\n"),
        };
        format!(
            r#"[host]
name = "{HOST_NAME}"
key_file = "keys/{HOST_NAME}.key"
sealing_key_file = "keys/{HOST_NAME}.seal.key"

[trust]
roots_file = "roots.toml"

{measures}{sampling}[mirror]
interface = "{interface}"
mode = "{mode}"

[clock]
synchronised = "not-required"
laboratory_namespace = true

[country_table]
file = "country.csv"
format = "csv"
date = "{COUNTRY_TABLE_DATE}"
documentation_prefixes = true

[control]
socket = "control.sock"

[metrics]
listen = "127.0.0.1:{METRICS_PORT}"

[state]
directory = "state"

[privilege]
swap = "allowed: laboratory"
core_pattern = "allowed: laboratory"

[log]
directory = "log"
key_file = "keys/{LOG_NAME}.key"
"#,
            interface = plan.interface,
        )
    }

    fn receive_configuration(&self, measure: &MeasurePlan) -> Result<String> {
        let (host_key, certificate) = (self.host_key()?, self.certificate_sha256(HOST_NAME)?);
        Ok(format!(
            r#"[listen]
address = "{RECEIVING}:{port}"

[tls]
ca_file = "tls/ca.pem"
certificate_file = "tls/{SERVER_NAME}.pem"
key_file = "tls/{SERVER_NAME}.key"

[store]
directory = "{store}"

[[host]]
id = "{host_key}"
certificate_sha256 = "{certificate}"

[privilege]
swap = "allowed: laboratory"
core_pattern = "allowed: laboratory"
"#,
            port = measure.port,
            store = measure.file("store"),
        ))
    }

    /// Starts `gwtap run` on `host` and waits until it answers with a live lease.
    ///
    /// # Errors
    /// Where it refuses; its own message is part of the error.
    pub fn start_agent(&self, host: &Host) -> Result<Process> {
        let mut command = host.command(gwtap::binary()?);
        command.args(["run", "--config"]).arg(self.file("gwtap.toml"));
        let mut process = Process::start("gwtap run", command, &self.file("agent.log"))?;
        process.wait_until("live lease", START_MAX, || {
            self.status().is_ok_and(|status| status.measures.iter().all(|measure| measure.lease.live))
        })?;
        Ok(process)
    }

    /// Starts the first measure's `gwtap receive` on `host` and waits until it listens.
    ///
    /// # Errors
    /// Where it refuses; its own message is part of the error.
    pub fn start_receiver(&self, host: &Host) -> Result<Process> {
        let first = self.measures().first().context("a measure")?;
        self.start_receiver_of(first, host)
    }

    /// As [`Deployment::start_receiver`], for any measure.
    ///
    /// # Errors
    /// As there.
    pub fn start_receiver_of(&self, measure: &MeasurePlan, host: &Host) -> Result<Process> {
        let mut command = host.command(gwtap::binary()?);
        command.args(["receive", "--config"]).arg(self.file(&measure.file("receive.toml")));
        let log = self.file(&measure.file("receive.log"));
        let mut process = Process::start("gwtap receive", command, &log)?;
        process.wait_until("listening socket", START_MAX, || {
            std::fs::read_to_string(&log).is_ok_and(|said| said.contains("listening on"))
        })?;
        Ok(process)
    }

    /// What the agent says of itself.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn status(&self) -> Result<Status> {
        match client::ask(&self.file("control.sock"), &Request::Status)? {
            Response::Status(status) => Ok(*status),
            other @ (Response::Loaded(_)
            | Response::Done { .. }
            | Response::Refused { .. }
            | Response::Failed { .. }) => {
                bail!("not a status: {other:?}")
            }
        }
    }

    /// Loads the first measure's activated set of `version` into the running agent.
    ///
    /// # Errors
    /// What `gwtap selectors load` refuses.
    pub fn load(&self, version: usize) -> Result<String> {
        let first = self.measures().first().context("a measure")?;
        self.load_of(first, version)
    }

    /// As [`Deployment::load`], for any measure.
    ///
    /// # Errors
    /// As there.
    pub fn load_of(&self, measure: &MeasurePlan, version: usize) -> Result<String> {
        let [set, activation] = [format!("selectors-{version}.json"), format!("activation-{version}.note")];
        let [set, activation] = [set, activation].map(|name| measure.file(&name));
        let words = ["selectors", "load", "--socket", "control.sock", "--set", &set, "--activation", &activation];
        let named = ["--measure", &measure.id];
        let several = if self.measures().len() > 1 { &named[..] } else { &[] };
        self.gwtap(words.iter().chain(several).copied())
    }

    /// The agent's metrics page.
    ///
    /// # Errors
    /// Where it does not answer with one.
    pub fn metrics(&self, host: &Host) -> Result<String> {
        let page = host.enter(|| -> Result<String> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, METRICS_PORT))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })??;
        let (head, body) = page.split_once("\r\n\r\n").context("the metrics page has no header")?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("metrics: {head}");
        }
        Ok(body.to_owned())
    }

    /// Every stored record of the first measure.
    ///
    /// # Errors
    /// What `gwtap records` cannot read.
    pub fn records(&self) -> Result<Vec<Value>> {
        let first = self.measures().first().context("a measure")?;
        self.records_of(first)
    }

    /// What `gwtap records --statistics` says of the store that was declared of the measure: a line for each instance of the maps.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn declared(&self) -> Result<Vec<Value>> {
        let store = self.file("store");
        let store = store.to_str().context("a path")?;
        let lines = self.gwtap(["records", "--statistics", "--json", "--store", store])?;
        let lines = lines.lines().map(|line| Ok(serde_json::from_str::<Value>(line)?)).collect::<Result<Vec<_>>>()?;
        Ok(lines.into_iter().filter(|line| line.get("declared_selected").is_some()).collect())
    }

    /// Every record in a measure's store.
    ///
    /// # Errors
    /// As [`Deployment::records`].
    pub fn records_of(&self, measure: &MeasurePlan) -> Result<Vec<Value>> {
        let text = self.gwtap(["records", "--store", &measure.file("store"), "--json"])?;
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).context("gwtap records --json"))
            .collect()
    }

    /// What the kernel has counted, read from the pinned maps: also without an agent.
    ///
    /// # Errors
    /// Where no tap left its maps.
    pub fn kernel_counters(&self, host: &Host) -> Result<KernelCounters> {
        let plan = self.plan();
        let config = TapConfig {
            interface: plan.interface.to_owned(),
            pin_directory: PIN_DIRECTORY.into(),
            inline: plan.inline,
            attach: Attach::Native,
            cap_policy: cap_policy(plan.capacity_bits_per_second, plan.share_ppm)?,
            log_reasons: false,
            transport: None,
        };
        let counters = host.enter(|| -> Result<_> {
            if !std::path::Path::new(PIN_DIRECTORY).join(plan.interface).exists() {
                bail!("no maps are pinned");
            }
            Ok(Tap::open(config)?.counters()?)
        })??;
        let [measure, ..] = counters.measures;
        let [no_lease, ..] = counters.facility_verdicts;
        let [.., selected] = measure.verdicts;
        Ok(KernelCounters { observed: counters.observed_packets, no_lease, selected })
    }

    /// What the kernel counted for `interface` on `host`: packets received.
    ///
    /// # Errors
    /// Where there is no such interface.
    pub fn interface_packets(&self, host: &Host, interface: &str) -> Result<u64> {
        let read = host.enter(|| tap_userspace::metrics::interface::read(interface))?;
        Ok(read.with_context(|| format!("interface {interface}"))?.receive_packets)
    }
}

/// The table of one measure, as the agent reads it.
fn measure_configuration(measure: &MeasurePlan) -> String {
    format!(
        r#"[[measure]]
order_file = "{order}"
set_file = "{set}"
activation_file = "{activation}"
pseudonym_key_file = "keys/{pseudonym}"

[measure.spool]
directory = "{spool}"
key_file = "keys/spool.key"

[measure.export]
endpoint = "{RECEIVING}:{port}"
server_name = "{SERVER_NAME}"
ca_file = "tls/ca.pem"
certificate_file = "tls/{HOST_NAME}.pem"
key_file = "tls/{HOST_NAME}.key"

"#,
        order = measure.file("order.note"),
        set = measure.file("selectors-1.json"),
        activation = measure.file("activation-1.note"),
        pseudonym = measure.file("pseudonym.toml"),
        spool = measure.file("spool"),
        port = measure.port,
    )
}
