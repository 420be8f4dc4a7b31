//! Notices to the Commission in a laboratory: the receiving side, the endpoint's stand-in and a tap as processes that may be
//! killed, and receipts as a tap signs them. What bounds it: processes end with their handle.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use tap_userspace::ipfix::encode::receipt_set;
use tap_userspace::keys::{HostKeyId, PublicKey, SecretKey};
use tap_userspace::notice::outbox::{Kept, read_all};
use tap_userspace::notice::{self, Event, Kind, Occasion, Receipt, Totals, VERSION};
use tap_userspace::path::export::{self, ExportConfig};
use tap_userspace::path::spool::{Spool, SpoolKey, SpoolLimits};
use tap_userspace::transport::tls::TlsFiles;

use crate::deployment::{Deployment, HOST_NAME, MEASURE, SERVER_NAME};
use crate::gwtap;
use crate::lab::{Host, Process, RECEIVING, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);
/// How long one notice may take on a busy machine.
const NOTICE_MAX: Duration = Duration::from_millis(100);
/// Where the endpoint listens, in the receiving side's namespace.
const ENDPOINT: &str = "127.0.0.1:8443";
const METRICS: &str = "127.0.0.1:9465";
/// Without an acknowledgement for so long a notice is late, and an end that no tap reports is noticed without one.
const LATE_SECONDS: u64 = 2;

/// The Commission's endpoint.
pub const ENDPOINT_PROCESS: usize = 0;
/// The receiving side.
pub const RECEIVER_PROCESS: usize = 1;
/// The tap.
pub const TAP_PROCESS: usize = 2;

/// The three processes, and those of them that run.
#[derive(Debug)]
pub struct Told<'a> {
    deployment: &'a Deployment,
    receiving: &'a Host,
    mirror: Option<&'a Host>,
    running: [Option<Process>; 3],
}

impl<'a> Told<'a> {
    /// With the table of notices in the receiving side's configuration.
    ///
    /// # Errors
    /// Files.
    pub fn new(deployment: &'a Deployment, receiving: &'a Host, mirror: Option<&'a Host>) -> Result<Self> {
        let told = Self::untold(deployment, receiving, mirror)?;
        told.tell()?;
        Ok(told)
    }

    /// Nobody is to be told yet.
    ///
    /// # Errors
    /// Where that fails.
    pub fn untold(deployment: &'a Deployment, receiving: &'a Host, mirror: Option<&'a Host>) -> Result<Self> {
        let file = deployment.file("receive.toml");
        let mut text = std::fs::read_to_string(&file)?;
        write!(text, "\n[metrics]\nlisten = \"{METRICS}\"\n")?;
        std::fs::write(&file, text)?;
        Ok(Self { deployment, receiving, mirror, running: [None, None, None] })
    }

    /// Adds the table that says whom to tell.
    ///
    /// # Errors
    /// Where that fails.
    pub fn tell(&self) -> Result<()> {
        let file = self.deployment.file("receive.toml");
        let mut text = std::fs::read_to_string(&file)?;
        write!(
            text,
            "\n[notices]\nname = \"receiving-1\"\nkey_file = \"keys/facility.key\"\n\
             endpoint = \"{ENDPOINT}\"\nserver_name = \"{SERVER_NAME}\"\nca_file = \"tls/ca.pem\"\n\
             commission_key_file = \"keys/commission.pub\"\nlate_seconds = {LATE_SECONDS}\n"
        )?;
        Ok(std::fs::write(&file, text)?)
    }

    /// Starts who is away, without waiting for them.
    ///
    /// # Errors
    /// Where that fails.
    pub fn start(&mut self) -> Result<()> {
        for which in [ENDPOINT_PROCESS, RECEIVER_PROCESS, TAP_PROCESS] {
            self.start_one(which)?;
        }
        Ok(())
    }

    /// Starts one of them, where it is away.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start_one(&mut self, which: usize) -> Result<()> {
        let host = if which == TAP_PROCESS { self.mirror } else { Some(self.receiving) };
        let Some(host) = host else { return Ok(()) };
        let slot = self.running.get_mut(which).context("a process")?;
        if slot.is_some() {
            return Ok(());
        }
        let mut command = host.command(gwtap::binary()?);
        command.current_dir(self.deployment.path());
        let verb = match which {
            ENDPOINT_PROCESS => {
                command.args(["commission", "--listen", ENDPOINT, "--ca", "tls/ca.pem", "--certificate"]);
                command.args([
                    &format!("tls/{SERVER_NAME}.pem"),
                    "--certificate-key",
                    &format!("tls/{SERVER_NAME}.key"),
                ]);
                command.args(["--key", "keys/commission.key", "--facility", "keys/facility.pub"]);
                command.args(["--directory", "commission"]);
                "commission"
            }
            RECEIVER_PROCESS => {
                command.args(["receive", "--config", "receive.toml"]);
                "receive"
            }
            _ => {
                // A host with a BPF file system of its own has no place for a working directory.
                command.args(["run", "--config"]).arg(self.deployment.file("gwtap.toml"));
                "run"
            }
        };
        *slot = Some(Process::start(verb, command, &self.deployment.file(&format!("{verb}.log")))?);
        Ok(())
    }

    /// Kills one of them.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self, which: usize) -> Result<()> {
        self.running.get_mut(which).and_then(Option::take).map_or(Ok(()), |mut process| process.kill())
    }

    /// What they printed last.
    #[must_use]
    pub fn said(&self) -> String {
        self.running
            .iter()
            .flatten()
            .map(|process| process.output().chars().rev().take(2_000).collect::<String>())
            .map(|tail| tail.chars().rev().collect::<String>() + "\n")
            .collect()
    }

    /// The outbox, verified whole, as `gwtap notices` does.
    ///
    /// # Errors
    /// Where that fails.
    pub fn outbox(&self) -> Result<Vec<Kept>> {
        let public = |name: &str| PublicKey::from_file(&self.deployment.file(&format!("keys/{name}.pub")));
        Ok(read_all(&self.deployment.file("store/notices"), &public("facility")?, &public("commission")?)?)
    }

    /// Waits for the acknowledgement of so many notices, and for no more than those.
    ///
    /// # Errors
    /// Where that fails.
    pub fn acknowledged(&self, count: usize) -> Result<Vec<Kept>> {
        let done = || {
            self.outbox().is_ok_and(|all| all.len() >= count && all.iter().all(|kept| kept.acknowledgement.is_some()))
        };
        // One after the other, each over a connection of its own.
        let patience = PATIENCE + NOTICE_MAX * u32::try_from(count)?;
        wait_until("acknowledged notices", patience, done)
            .with_context(|| format!("{:?} of {count}; {}", self.outbox().map(|all| all.len()), self.said()))?;
        // What is said twice would come now.
        std::thread::sleep(Duration::from_millis(500));
        let all = self.outbox()?;
        ensure!(all.len() == count, "{} notices instead of {count}: {:?}", all.len(), subjects(&all));
        self.endpoint_has(&all)?;
        Ok(all)
    }

    /// The endpoint's files are the outbox's, octet for octet, and no others.
    ///
    /// # Errors
    /// Where that fails.
    pub fn endpoint_has(&self, all: &[Kept]) -> Result<()> {
        let directory = self.deployment.file("commission");
        let files = std::fs::read_dir(&directory)?.filter_map(Result::ok).map(|entry| entry.path());
        let notes = files.filter(|path| path.extension().is_some_and(|extension| extension == "note")).count();
        ensure!(notes == all.len(), "the endpoint has {notes} of {}", all.len());
        for (number, kept) in (1..).zip(all) {
            let there = std::fs::read_to_string(directory.join(format!("{number:08}.note")))?;
            ensure!(there == kept.text && kept.notice.number == number, "notice {number} differs at the endpoint");
        }
        Ok(())
    }

    /// A number on the receiving side's page.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<u64> {
        let page = self.receiving.run("curl", ["-s", &format!("http://{METRICS}/metrics")]).ok()?;
        page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

/// What the notices are about.
#[must_use]
pub fn subjects(all: &[Kept]) -> BTreeSet<(Kind, Occasion)> {
    all.iter().map(|kept| (kept.notice.kind, kept.notice.occasion.clone())).collect()
}

/// Receipts as a tap signs them, out of a spool of this process.
#[derive(Debug)]
pub struct Taps {
    key: SecretKey,
    spool: Spool,
}

impl Taps {
    /// A spool, and the key of the deployment's host.
    ///
    /// # Errors
    /// Files.
    pub fn new(deployment: &Deployment) -> Result<Self> {
        let limits = SpoolLimits { bytes_max: 64 << 20, segment_bytes: 1 << 20 };
        let spool = Spool::open(&deployment.file("receipts"), &SpoolKey::new([7; 32]), limits)?;
        Ok(Self { key: SecretKey::from_file(&deployment.file(&format!("keys/{HOST_NAME}.key")))?, spool })
    }

    /// Signs and spools a receipt.
    ///
    /// # Errors
    /// Where that fails.
    pub fn say(&self, order: &str, event: Event) -> Result<()> {
        let receipt = Receipt {
            version: VERSION,
            host_key: self.key.public().to_string(),
            measure: MEASURE.to_owned(),
            facility: "facility-1".to_owned(),
            order_sha256: order.to_owned(),
            chain_sha256: String::new(),
            time: Timestamp::now(),
            event,
            totals: Totals::default(),
        };
        self.raw(&notice::sign(&receipt, &self.key)?)
    }

    /// Spools a receipt's text, whatever it is.
    ///
    /// # Errors
    /// Where that fails.
    pub fn raw(&self, note: &str) -> Result<()> {
        self.spool.append(&receipt_set(note).context("a receipt's set")?)?;
        Ok(())
    }

    /// Exports from `host` until `stop` says so.
    ///
    /// # Errors
    /// Where that fails.
    pub fn export(&self, deployment: &Deployment, host: &Host) -> Result<tokio::sync::watch::Sender<bool>> {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let tls = |name: &str| deployment.file(&format!("tls/{name}"));
        let config = ExportConfig {
            receivers: vec![export::Receiver {
                endpoint: format!("{RECEIVING}:4740"),
                server_name: SERVER_NAME.to_owned(),
            }],
            tls: TlsFiles {
                ca: tls("ca.pem"),
                certificate: tls(&format!("{HOST_NAME}.pem")),
                key: tls(&format!("{HOST_NAME}.key")),
                revocations: None,
            },
            acknowledgement: export::Acknowledgement::Required,
            anonymisation: tap_userspace::ipfix::encode::Anonymisation::default(),
            stream: None,
        };
        let (id, spool) = (HostKeyId::of(&self.key.public()), self.spool.clone());
        host.spawn("exporter", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(export::run(config, id, spool, Arc::default(), stopped))?)
        })?;
        Ok(stop)
    }
}
