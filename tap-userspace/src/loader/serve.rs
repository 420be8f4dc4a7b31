//! The loader's loops: one for what must be quick (leases, counters), one for what takes time (verifying, compiling, loading).
//!
//! In: messages. Out: replies, in order, one for each. A message that does not parse ends the process, and so does the end
//! of the agent.

use super::LoaderError;
use super::channel::{Channel, Message};
use super::kernel::{Kernel, Shared, lock};
use super::message::{Reply, Request, Work};
use super::stage::Stage;
use super::verify::Terms;
use crate::config::Config;
use crate::privilege;
use crate::run::RunError;
use crate::run::state::State;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex};

/// Serves the agent at the other ends of the two sockets until it is gone.
///
/// # Errors
/// Files that the configuration names, a step of the system, or a message that is none.
pub fn serve(config: Config, quick: OwnedFd, slow: OwnedFd) -> Result<(), LoaderError> {
    alone()?;
    privilege::confine(&config.privilege, &config.loader_needs())
        .map_err(|error| LoaderError::Failed(error.to_string()))?;
    let quick = Channel::new(quick);
    let read = Terms::read(&config).and_then(|terms| {
        let kept = State::open(&config.state.directory).map_err(|error| RunError::Refused(error.to_string()))?;
        Ok((terms, kept))
    });
    let (terms, kept) = match read {
        Ok(read) => read,
        // The agent says it, if it has not found it itself: nobody is to read everything twice.
        Err(error) => return next::<Request>(&quick)?.map_or(Ok(()), |_| answer(&quick, Err(error), &[])),
    };
    let shared = Arc::new(Shared { terms, opened: Mutex::default(), prepared: Mutex::default() });
    let preparing = Arc::clone(&shared);
    // It ends with the process.
    std::thread::Builder::new()
        .name("gwtap-prepare".into())
        .spawn(move || {
            if let Err(error) = prepare(&preparing, &Channel::new(slow)) {
                tracing::error!(%error, "the loader was asked for what it does not know");
                std::process::exit(i32::from(crate::cli::FAILED));
            }
        })
        .map_err(|error| LoaderError::Failed(format!("thread: {error}")))?;
    answer_all(Kernel::new(config, shared, kept), &quick)
}

/// The quick loop.
fn answer_all(mut kernel: Kernel, channel: &Channel) -> Result<(), LoaderError> {
    while let Some(request) = next(channel)? {
        let opens = matches!(request, Request::Open { .. });
        let reply = kernel.act(request);
        let rings = if opens && reply.is_ok() { kernel.rings()? } else { Vec::new() };
        let descriptors: Vec<_> = rings.iter().map(|ring| ring.as_raw_fd()).collect();
        answer(channel, reply, &descriptors)?;
    }
    Ok(())
}

/// A signal that is meant for the agent must not end the loader before it: it is needed for the agent's last steps. If the
/// agent is killed, so is the loader.
fn alone() -> Result<(), LoaderError> {
    let failed = |error: nix::Error| LoaderError::Failed(format!("signals: {error}"));
    for ignored in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // SAFETY: no handler is installed, so none can be unsafe.
        unsafe { signal(ignored, SigHandler::SigIgn) }.map_err(failed)?;
    }
    prctl::set_name(c"gwtap-loader").map_err(failed)?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)
}

/// The next message, parsed; `None` when the agent is gone.
fn next<T: serde::de::DeserializeOwned>(channel: &Channel) -> Result<Option<T>, LoaderError> {
    let Message { bytes, descriptors } = match channel.receive() {
        Ok(message) => message,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(LoaderError::Failed(format!("channel: {error}"))),
    };
    if !descriptors.is_empty() {
        return Err(LoaderError::Failed("descriptors where none are meant".into()));
    }
    // The error's text might quote a selector.
    let parsed = serde_json::from_slice(&bytes).map_err(|_content| LoaderError::Failed("not a message".into()));
    parsed.map(Some)
}

fn answer(channel: &Channel, reply: Result<Reply, RunError>, descriptors: &[i32]) -> Result<(), LoaderError> {
    let reply = reply.unwrap_or_else(|error| match error {
        RunError::Refused(reason) => Reply::Refused { reason },
        RunError::Failed(reason) => Reply::Failed { reason },
    });
    let failed = |error: &dyn std::fmt::Display| LoaderError::Failed(format!("channel: {error}"));
    let bytes = serde_json::to_vec(&reply).map_err(|error| failed(&error))?;
    match channel.send(&bytes, descriptors) {
        // The agent is gone: the next look at the channel says so.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        sent => sent.map_err(|error| failed(&error)),
    }
}

/// The slow loop.
fn prepare(shared: &Shared, channel: &Channel) -> Result<(), LoaderError> {
    let mut stage = Stage::default();
    while let Some(work) = next::<Work>(channel)? {
        let opened = lock(&shared.opened).clone().ok_or_else(|| RunError::Failed("nothing is opened".into()));
        let reply = opened.and_then(|opened| stage.act(shared, &opened, work));
        answer(channel, reply, &[])?;
    }
    Ok(())
}
