//! The agent: from a signed order to delivered records.
//!
//! In: a configuration. Out: records at the receiving facility, metrics, a control socket. What is checked before the
//! kernel is touched stands in `admit`; a set comes to decide in `swap`; the loops are `renew` (lease), `drain` (records),
//! `share` (use of the capacity), `sampling` (thresholds and seed) and an export task for each measure. It never logs an address or a selector. Bound: without a lease, renewed every
//! second for at most five, the kernel selects nothing, whatever becomes of this process.

pub(crate) mod admit;
mod agent;
mod audit;
mod batch;
pub(crate) mod documents;
mod drain;
mod error;
mod expiry;
pub(crate) mod facility;
mod generations;
pub mod lease;
mod measure;
mod orders;
mod oversight;
pub mod receipts;
mod remote;
mod renew;
mod report;
mod resume;
mod sampling;
mod sealed;
mod stage;
mod start;
pub mod state;
mod statements;
mod stop;
mod swap;
mod totals;
mod versions;

pub use error::RunError;

use crate::audit::Leaf;
use crate::config::Config;
use crate::control::{Request, Response, api};
use crate::limits::{BATCH_DELAY, SHARE_SAMPLE_INTERVAL};
use crate::loader::{Loader, Reading};
use crate::{config, keys, metrics};
use agent::{Agent, lock};
use nix::sys::signal::{SigSet, Signal};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// [`RunError::Refused`] before anything is attached; [`RunError::Failed`] when the machine did not do what was asked.
pub fn run(config: Config, loader: Loader) -> Result<(), RunError> {
    unblock_signals()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| RunError::failed("runtime", error))?;
    // Before anything is attached: from then on a signal ends the agent in order.
    let signals = {
        let _inside = runtime.enter();
        Signals::listen()?
    };
    let start::Prepared { agent, rings, listening } = start::prepare(&runtime, config, loader)?;
    let (ended, mut endings) = mpsc::unbounded_channel();
    let (shutdown, shutting_down) = watch::channel(false);

    let drain = drain::Drain::new(&agent, rings);
    let drain = spawn("gwtap-drain", &agent, &ended, move |agent| drain.run(agent))?;
    let others = [
        spawn("gwtap-lease", &agent, &ended, renew::run)?,
        spawn("gwtap-share", &agent, &ended, share)?,
        spawn("gwtap-sampling", &agent, &ended, sampling::run)?,
        spawn("gwtap-sync", &agent, &ended, sync)?,
        spawn("gwtap-audit", &agent, &ended, audit::run)?,
        spawn("gwtap-expiry", &agent, &ended, expiry::run)?,
    ];
    let exporting = start::export(&runtime, &agent, &shutting_down);
    serve(&runtime, &agent, listening);
    tracing::info!(interface = agent.config.mirror.interface, "running");

    let ending = runtime.block_on(wait(signals, &mut endings));
    if let Ok(reason) = &ending {
        tracing::info!(reason, "stopping");
    }
    let why = ending.as_ref().copied().unwrap_or("a loop of the agent ended");
    let stopped = stop::stop(&agent, why, &runtime, drain, others, || {
        shutdown.send_replace(true);
        exporting
    });
    ending.map(|_| ()).and(stopped)
}

/// SIGTERM is the carrier's kill switch: it must reach this process even if its parent left it blocked.
fn unblock_signals() -> Result<(), RunError> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_unblock().map_err(|error| RunError::failed("signal", error))
}

/// A loop on a thread of its own. That it ended is told even if it panicked: the agent does not run without it.
fn spawn(
    name: &'static str,
    agent: &Arc<Agent>,
    ended: &mpsc::UnboundedSender<&'static str>,
    body: impl FnOnce(&Agent) + Send + 'static,
) -> Result<JoinHandle<()>, RunError> {
    struct Ended(mpsc::UnboundedSender<&'static str>, &'static str);
    impl Drop for Ended {
        fn drop(&mut self) {
            if self.0.send(self.1).is_err() {
                tracing::debug!(name = self.1, "ended");
            }
        }
    }
    let agent = Arc::clone(agent);
    let ended = Ended(ended.clone(), name);
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            let _ended = ended;
            body(&agent);
        })
        .map_err(|error| RunError::failed(name, error))
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, RunError> {
        let listen = |kind| signal(kind).map_err(|error| RunError::failed("signal", error));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }
}

/// Until a signal, or until a loop ended that must not.
async fn wait(
    mut signals: Signals,
    endings: &mut mpsc::UnboundedReceiver<&'static str>,
) -> Result<&'static str, RunError> {
    tokio::select! {
        _ = signals.terminate.recv() => Ok("SIGTERM"),
        _ = signals.interrupt.recv() => Ok("SIGINT"),
        name = endings.recv() => {
            Err(RunError::Failed(format!("{} ended; the log says why", name.unwrap_or("a loop"))))
        }
    }
}

/// Control socket, control API and metrics page.
fn serve(runtime: &Runtime, agent: &Arc<Agent>, listening: start::Listening) {
    let start::Listening { control, metrics: listener, api } = listening;
    let asked = Arc::clone(agent);
    runtime.spawn(control.serve(Arc::new(move |request| answer(&asked, request))));
    if let Some((listener, credentials)) = api {
        let clients = agent.config.control.api.as_ref().map(config::api::Api::roles).unwrap_or_default();
        let remote = Arc::new(remote::Remote(Arc::clone(agent)));
        runtime.spawn(api::server::Server::new(listener, credentials, clients, remote).serve());
    }
    let shown = Arc::clone(agent);
    runtime.spawn(async move {
        if let Err(error) = metrics::serve(listener, Arc::new(move || report::status(&shown))).await {
            tracing::error!(%error, "metrics page");
        }
    });
}

fn answer(agent: &Agent, request: Request) -> Response {
    match request {
        Request::Status => Response::Status(Box::new(report::status(agent))),
        Request::SelectorsWithdraw { note } => {
            let withdrawn = done("withdrawal", swap::withdraw(agent, &note));
            keep_versions(agent, None);
            withdrawn
        }
        Request::Directive { note } => done("directive", oversight::directive(agent, &note)),
        Request::OrderExtend { note } => done("order extension", orders::extend(agent, &note)),
        Request::Stop { measure, reason } => done("stop", oversight::stop(agent, measure.as_deref(), &reason)),
        Request::Resume { measure, reason } => done("resume", oversight::resume(agent, measure.as_deref(), &reason)),
        Request::SelectorsLoad { measure, set, activation } => {
            let offered = hex::encode(keys::sha256(set.as_bytes()));
            let opened = agent.measure(measure.as_deref()).and_then(|measure| {
                let decides = lock(&measure.active).clone();
                admit::opened(&agent.host, &decides, set)
            });
            let set_sha256 = opened.as_ref().map_or(offered, |set| hex::encode(keys::sha256(set.as_bytes())));
            let loaded = opened.and_then(|set| {
                swap::load(agent, measure.as_deref(), swap::Next::Texts(sealed::Texts { set, activation }))
            });
            match loaded {
                Ok(loaded) => {
                    keep_versions(agent, Some(&loaded.measure));
                    Response::Loaded(loaded)
                }
                Err(RunError::Refused(reason)) => {
                    agent.audit.tell(&Leaf::ActivationRefused { set_sha256 });
                    tracing::warn!("a selector set was refused");
                    Response::Refused { reason }
                }
                Err(RunError::Failed(reason)) => {
                    tracing::error!("a selector set could not be loaded");
                    Response::Failed { reason }
                }
            }
        }
    }
}

/// What the control API shows follows what was done by the socket. It is no part of it: it is made good with the next call.
fn keep_versions(agent: &Agent, id: Option<&str>) {
    for measure in agent.measures.iter().filter(|measure| id.is_none_or(|id| id == measure.id())) {
        if let Err(error) = remote::settle(agent, measure) {
            tracing::error!(measure = measure.id(), %error, "kept versions of the selector set");
        }
    }
}

/// The answer to a directive, an extension, the kill switch.
fn done(what: &str, result: Result<Vec<String>, RunError>) -> Response {
    match result {
        Ok(done) => Response::Done { done },
        Err(RunError::Refused(reason)) => {
            tracing::warn!(what, reason, "refused");
            Response::Refused { reason }
        }
        Err(RunError::Failed(reason)) => {
            tracing::error!(what, reason, "failed");
            Response::Failed { reason }
        }
    }
}

/// Reads admitted bytes for the sliding windows of the shares.
fn share(agent: &Agent) {
    let mut failing = false;
    let mut statements = match statements::Statements::open(agent, jiff::Timestamp::now()) {
        Ok(statements) => statements,
        // The loop ends, and the agent with it: what nobody can show afterwards does not run.
        Err(error) => return tracing::error!(%error, "cap statements"),
    };
    while !agent.stopping() {
        match agent.with_tap(|tap| tap.reading()) {
            Ok(Reading { counters, boot_ns: now_ns }) => {
                failing = false;
                for (measure, counted) in agent.measures.iter().zip(&counters.measures) {
                    lock(&measure.share).sample(now_ns, counted.admitted_bytes);
                }
                lock(&agent.share).sample(now_ns, report::admitted(agent, &counters).1);
                statements.sample(agent, now_ns, jiff::Timestamp::now(), &counters);
            }
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, "admitted bytes cannot be read");
            }
            Err(_) => {}
        }
        std::thread::park_timeout(SHARE_SAMPLE_INTERVAL);
    }
    match agent.with_tap(|tap| tap.reading()) {
        Ok(Reading { counters, boot_ns }) => {
            statements.write(agent, boot_ns, jiff::Timestamp::now(), &counters, true);
        }
        Err(error) => tracing::error!(%error, "the last cap statements are missing"),
    }
}

/// Group commit: what was appended reaches the disk within the time of a batch.
fn sync(agent: &Agent) {
    let mut failing = false;
    while !agent.stopping() {
        match agent.measures.iter().map(|measure| measure.spool.sync()).fold(Ok(()), Result::and) {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, "a spool cannot be flushed to disk");
            }
            Err(_) => {}
        }
        std::thread::park_timeout(BATCH_DELAY);
    }
}
