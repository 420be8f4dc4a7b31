//! Stop: revoke, drain, flush, deliver, detach.
//!
//! In: a running agent. Out: a mirror port without a program, and a spool that holds what nobody acknowledged. Bounds:
//! the settling time of packets in flight, the time for acknowledgements.

use super::agent::{Agent, lock};
use super::audit;
use super::error::RunError;
use super::measure::Measure;
use super::renew;
use super::totals;
use crate::audit::Leaf;
use crate::audit::leaf::reason;
use crate::limits::{STOP_EXPORT_MAX, STOP_SETTLE};
use crate::path::export::ExportError;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Stops the agent; every step is tried, the first failure is returned.
pub(super) fn stop(
    agent: &Agent,
    why: &str,
    runtime: &Runtime,
    drain: JoinHandle<()>,
    others: [JoinHandle<()>; 6],
    end_exports: impl FnOnce() -> Vec<tokio::task::JoinHandle<Result<(), ExportError>>>,
) -> Result<(), RunError> {
    let revoked = renew::revoke(agent);
    // Packets that the kernel is still deciding on, by a clock that may be a tick old.
    std::thread::sleep(STOP_SETTLE);
    agent.stopping.store(true, Ordering::Release);
    let drained = join(drain);
    let loops = others.into_iter().map(join).fold(Ok(()), Result::and);
    // The last word: everything that entered the rings is in the spool, or refused and counted.
    let declared = totals::declare(agent);
    let flushed = each(agent, |measure| measure.spool.sync().map_err(|error| RunError::failed("spool", error)));
    deliver(agent);
    let exported = runtime.block_on(async {
        let until = tokio::time::Instant::now() + STOP_EXPORT_MAX;
        let mut exported = Ok(());
        for session in end_exports() {
            exported = exported.and(match tokio::time::timeout_at(until, session).await {
                Ok(Ok(ended)) => ended.map_err(|error| RunError::failed("export", error)),
                Ok(Err(error)) => Err(RunError::failed("export", error)),
                Err(_elapsed) => Err(RunError::Failed("an export session did not end in time".into())),
            });
        }
        exported
    });
    audit::sessions_over(agent);
    let kept = keep_time(agent);
    let detached = agent.detach();
    agent.audit.tell(&Leaf::Stop { reason: reason(why) });
    let kept = kept.and(agent.audit.keep_head(&mut lock(&agent.state)));
    tracing::info!(messages_not_acknowledged = waiting(agent), "stopped");
    revoked.and(drained).and(loops).and(declared).and(flushed).and(exported).and(kept).and(detached)
}

/// Every measure is tried; the first failure is returned.
fn each(agent: &Agent, act: impl Fn(&Measure) -> Result<(), RunError>) -> Result<(), RunError> {
    agent.measures.iter().map(act).fold(Ok(()), Result::and)
}

/// Messages that nobody has acknowledged.
fn waiting(agent: &Agent) -> u64 {
    agent.measures.iter().map(|measure| measure.spool.status().messages).sum()
}

/// Waits until everything is acknowledged, or the time for it is over.
fn deliver(agent: &Agent) {
    let until = Instant::now() + STOP_EXPORT_MAX;
    while waiting(agent) > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn keep_time(agent: &Agent) -> Result<(), RunError> {
    let highest_unix_ns = lock(&agent.clock).watch.highest_unix_ns();
    lock(&agent.state).keep_time(highest_unix_ns).map_err(|error| RunError::Failed(error.to_string()))
}

fn join(thread: JoinHandle<()>) -> Result<(), RunError> {
    let name = thread.thread().name().unwrap_or("a loop").to_owned();
    thread.thread().unpark();
    thread.join().map_err(|_panic| RunError::Failed(format!("{name} panicked")))
}
