//! Stop: revoke, drain, flush, deliver, detach.
//!
//! In: a running agent. Out: a mirror port without a program, and a spool that holds what nobody acknowledged. Bounds:
//! the settling time of packets in flight, the time for acknowledgements.

use super::agent::{Agent, lock};
use super::error::RunError;
use super::renew;
use crate::limits::{STOP_EXPORT_MAX, STOP_SETTLE};
use crate::path::export::ExportError;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Stops the agent; every step is tried, the first failure is returned.
pub(super) fn stop(
    agent: &Agent,
    runtime: &Runtime,
    drain: JoinHandle<()>,
    others: [JoinHandle<()>; 3],
    end_export: impl FnOnce() -> tokio::task::JoinHandle<Result<(), ExportError>>,
) -> Result<(), RunError> {
    let revoked = renew::revoke(agent);
    // Packets that the kernel is still deciding on, by a clock that may be a tick old.
    std::thread::sleep(STOP_SETTLE);
    agent.stopping.store(true, Ordering::Release);
    let drained = join(drain);
    let loops = others.into_iter().map(join).fold(Ok(()), Result::and);
    let flushed = agent.spool.sync().map_err(|error| RunError::failed("spool", error));
    deliver(agent);
    let exported = runtime.block_on(async {
        tokio::time::timeout(STOP_EXPORT_MAX, end_export())
            .await
            .map_err(|_elapsed| RunError::Failed("the export session did not end in time".into()))?
            .map_err(|error| RunError::failed("export", error))?
            .map_err(|error| RunError::failed("export", error))
    });
    let kept = keep_time(agent);
    let detached = agent.detach();
    let waiting = agent.spool.status().messages;
    tracing::info!(messages_not_acknowledged = waiting, "stopped");
    revoked.and(drained).and(loops).and(flushed).and(exported).and(kept).and(detached)
}

/// Waits until everything is acknowledged, or the time for it is over.
fn deliver(agent: &Agent) {
    let until = Instant::now() + STOP_EXPORT_MAX;
    while agent.spool.status().messages > 0 && Instant::now() < until {
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
