//! `gwtap receive`: the receiving facility.

use super::Refused;
use super::log::Log;
use crate::privilege;
use crate::receive::Receiver;
use crate::receive::config::ReceiveConfig;
use crate::transport::nats;
use anyhow::Context as _;
use clap::Parser;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Receives records over TLS 1.3 with both sides authenticated, stores them durably, then acknowledges them.
#[derive(Debug, Parser)]
#[command(after_help = "Example:
  gwtap receive --config /etc/gwtap/receive.toml
  gwtap receive --config /etc/gwtap/receive.toml --from-jetstream

/etc/gwtap/receive.toml:
  [listen]
  address = \"0.0.0.0:4740\"          # port 0: the system chooses; the first line on stdout says which
  [tls]
  ca_file = \"ca.pem\"                # who may have signed an exporter's certificate
  certificate_file = \"facility.pem\"
  key_file = \"facility.key\"
  [store]
  directory = \"/var/lib/gwtap/store\"
  [[host]]                          # one for each mirror host
  id = \"…\"                          # its host key id, 64 hex digits
  certificate_sha256 = \"…\"          # openssl x509 -noout -fingerprint -sha256 -in host.pem
  [metrics]
  listen = \"127.0.0.1:9465\"         # optional

Other IPFIX exporters with a certificate of the same authority are stored under peers/ and get no answer.
SIGTERM or SIGINT: what has arrived is stored and acknowledged, then it ends.")]
pub struct Args {
    /// Configuration (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Takes messages from the JetStream stream of [jetstream], and listens only if there is a [listen]
    #[arg(long)]
    from_jetstream: bool,
    /// How the log on stderr is written
    #[arg(long, value_enum, default_value_t = Log::Text)]
    log: Log,
}

/// Runs the verb.
///
/// # Errors
/// A refused configuration; a store, file or address that cannot be used.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.log.begin()?;
    let config = ReceiveConfig::read_for(&args.config, args.from_jetstream).map_err(Refused::because)?;
    privilege::harden(&config.privilege, &config.needs()).map_err(Refused::because)?;
    if let Some(jetstream) = &config.jetstream {
        nats::no_system_authorities(&jetstream.ca_file);
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    runtime.block_on(serve(config))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: ReceiveConfig) -> anyhow::Result<()> {
    // Before anything is announced: a signal that comes right after the first line must end it in order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let receiver = Receiver::bind(config).await?;
    announce(&receiver)?;
    let (stop, shutdown) = watch::channel(false);
    let serving = tokio::spawn(receiver.serve(shutdown));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: what has arrived is stored first");
    stop.send_replace(true);
    serving.await.context("receiving ended unexpectedly")
}

fn announce(receiver: &Receiver) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if let Some(address) = receiver.address() {
        writeln!(out, "gwtap receive: listening on {address}")?;
    }
    if let Some((stream, hosts)) = receiver.stream() {
        writeln!(out, "gwtap receive: taking the messages of {hosts} hosts from stream {stream}")?;
    }
    if let Some(metrics) = receiver.metrics_address() {
        writeln!(out, "gwtap receive: metrics on http://{metrics}/metrics")?;
    }
    out.flush()?;
    Ok(())
}
