//! `gwtap commission`: a stand-in for the Commission's endpoint.

use super::Refused;
use super::log::Log;
use crate::keys::{PublicKey, SecretKey};
use crate::notice::endpoint::{Commission, serve};
use crate::transport::tls::{self, TlsFiles};
use anyhow::Context as _;
use clap::Parser;
use jiff::Timestamp;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Takes notices of a receiving facility and acknowledges them: a stand-in for the Commission, for tests and demonstrations.
#[derive(Debug, Parser)]
pub struct Args {
    /// Where to listen; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Certificates (PEM) that may have signed the facility's
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// The endpoint's certificate (PEM)
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE")]
    certificate_key: PathBuf,
    /// The key that signs acknowledgements
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The facility's public key
    #[arg(long, value_name = "FILE")]
    facility: PathBuf,
    /// Where notices are kept
    #[arg(long, value_name = "DIRECTORY")]
    directory: PathBuf,
    /// How the log on stderr is written
    #[arg(long, value_enum, default_value_t = Log::Text)]
    log: Log,
}

/// Runs the verb.
///
/// # Errors
/// A key, a certificate, an address or the directory cannot be used.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.log.begin()?;
    let key = SecretKey::from_file(&args.key).map_err(Refused::because)?;
    let facility = PublicKey::from_file(&args.facility).map_err(Refused::because)?;
    let files = TlsFiles { ca: args.ca, certificate: args.certificate, key: args.certificate_key, revocations: None };
    let mut config = tls::server(&files).map_err(Refused::because)?.as_ref().clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let commission =
        Commission::new(args.directory.clone(), key, facility).with_context(|| args.directory.display().to_string())?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await.with_context(|| format!("--listen {}", args.listen))?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "gwtap commission: listening on {}", listener.local_addr()?)?;
        out.flush()?;
        drop(out);
        let answer = Arc::new(move |text: &str| commission.take(text, Timestamp::now()));
        serve(listener, Arc::new(config), answer).await.context("the endpoint ended")
    })?;
    Ok(ExitCode::SUCCESS)
}
