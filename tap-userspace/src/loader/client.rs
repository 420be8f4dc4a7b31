//! The agent's side: starts the loader, and has the methods of a tap.
//!
//! In: calls. Out: messages, and the loader's word. A step without an answer of its own keeps its failure until it is asked
//! for ([`Tap::settled`]). Once the loader is gone every call fails.

use super::LoaderError;
use super::channel::{Channel, Message};
use super::counters;
use super::message::{Documents, Prepare, Reply, Request, Ticket, Work};
use crate::keys::HostKeyId;
use crate::load::{Attach, CapSlot, LoadError, ProgramInfo};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use tap_common::abi::counter::Counters;
use tap_common::abi::policy::{CapPolicy, Instance, Lease};
use zeroize::Zeroizing;

/// Counters, and when the loader read them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// The counters.
    pub counters: Counters,
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub boot_ns: u64,
}

/// A loader that was started and has opened nothing yet.
#[derive(Debug)]
pub struct Loader {
    quick: Channel,
    slow: Channel,
    child: Ended,
}

/// Prepares generations beside what the tap does.
#[derive(Debug)]
pub struct Compiler(Mutex<Channel>);

/// The tap, as the loader holds it.
#[derive(Debug)]
pub struct Tap {
    channel: Channel,
    instance: Instance,
    rings: Vec<OwnedFd>,
    info: Option<ProgramInfo>,
    failure: Option<LoadError>,
    gone: bool,
    // Dropped last: the channel's end ends the loader, which is then waited for.
    _child: Ended,
}

/// A process that ends when its channels do.
#[derive(Debug)]
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        match self.0.wait() {
            Ok(status) => tracing::debug!(%status, "the loader ended"),
            Err(error) => tracing::warn!(%error, "the loader cannot be waited for"),
        }
    }
}

impl Loader {
    /// Starts the loader: this program again, with this process's capabilities. Call it before they are given up.
    ///
    /// # Errors
    /// The system starts no process.
    pub fn start(config: &Path, log: &str) -> Result<Self, LoaderError> {
        let failed = |error: std::io::Error| LoaderError::Failed(format!("the loader does not start: {error}"));
        let (quick, its_quick) = Channel::pair().map_err(failed)?;
        let (slow, its_slow) = Channel::pair().map_err(failed)?;
        let child = Command::new("/proc/self/exe")
            .args(["loader", "--log", log, "--config"])
            .arg(config)
            .stdin(Stdio::from(its_quick))
            .stdout(Stdio::from(its_slow))
            .spawn()
            .map_err(failed)?;
        Ok(Self { quick, slow, child: Ended(child) })
    }

    /// Has the orders verified and the tap opened.
    ///
    /// # Errors
    /// What the loader refuses, or the machine.
    pub fn open(self, host_key: &HostKeyId, orders: Vec<Vec<String>>) -> Result<(Tap, Compiler), LoaderError> {
        let (reply, rings) = ask(&self.quick, &Request::Open { host_key: host_key.to_string(), orders })?;
        let Reply::Opened { abi_version, instance } = reply else { return Err(unexpected()) };
        let instance = Instance { abi_version, reserved: 0, id: instance };
        let Self { quick, slow, child } = self;
        let tap = Tap { channel: quick, instance, rings, info: None, failure: None, gone: false, _child: child };
        Ok((tap, Compiler(Mutex::new(slow))))
    }
}

impl Compiler {
    /// Has one generation of all measures verified, compiled and loaded; [`Tap::swap`] puts it onto the port.
    ///
    /// # Errors
    /// What the loader or the kernel refuses.
    pub fn prepare(&self, generation: u64, seed: u64, measures: Vec<Documents>) -> Result<(), LoaderError> {
        self.done(&Work::Prepare(Prepare { generation, seed, measures }))
    }

    /// The same, for later: [`Compiler::take`] makes it the one for the next swap. What was staged before is gone.
    ///
    /// # Errors
    /// What the loader or the kernel refuses.
    pub fn stage(&self, generation: u64, seed: u64, measures: Vec<Documents>) -> Result<(), LoaderError> {
        self.done(&Work::Stage(Prepare { generation, seed, measures }))
    }

    /// Whether the generation of this ticket was staged and is prepared now.
    ///
    /// # Errors
    /// The loader refuses what is staged: what it was made of does not count any more.
    pub fn take(&self, ticket: Ticket) -> Result<bool, LoaderError> {
        let reply = self.ask(&Work::Take { ticket })?;
        if matches!(reply, Reply::NotStaged) { Ok(false) } else { done(&reply).map(|()| true) }
    }

    /// Frees what is staged.
    ///
    /// # Errors
    /// The loader is gone.
    pub fn forget(&self) -> Result<(), LoaderError> {
        self.done(&Work::Forget)
    }

    fn done(&self, work: &Work) -> Result<(), LoaderError> {
        done(&self.ask(work)?)
    }

    fn ask(&self, work: &Work) -> Result<Reply, LoaderError> {
        let channel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ask(&channel, work).map(|(reply, _)| reply)
    }
}

impl Tap {
    /// Puts the prepared generation onto the mirror port in one step. If it does not load, the running one stays.
    ///
    /// # Errors
    /// What the loader or the kernel refuses.
    pub fn swap(&mut self, generation: u64) -> Result<(), LoadError> {
        let reply = self.ask(&Request::Swap { generation })?;
        let Reply::Swapped { id, tag, verified_instructions, digest, generic } = reply else {
            return Err(load_error(unexpected()));
        };
        let attach = if generic { Attach::Generic } else { Attach::Native };
        self.info = Some(ProgramInfo { id, tag, verified_instructions, digest, attach });
        Ok(())
    }

    /// Writes the lease of a measure slot; the loader cuts it to what the documents allow.
    pub fn set_lease(&mut self, slot: u32, lease: Lease) {
        self.tell(&Request::lease(slot, lease));
    }

    /// Writes the sampling threshold of a measure slot.
    pub fn set_sampling(&mut self, slot: u32, threshold: u64) {
        self.tell(&Request::SetSampling { slot, threshold });
    }

    /// Writes a cap.
    pub fn set_cap(&mut self, slot: CapSlot, policy: CapPolicy) {
        let slot = match slot {
            CapSlot::Facility => None,
            CapSlot::Measure(slot) => Some(slot),
        };
        self.tell(&Request::cap(slot, policy));
    }

    /// Tells the orders of a measure, with one that extends them.
    ///
    /// # Errors
    /// What the loader refuses.
    pub fn extend(&mut self, slot: u32, orders: Vec<String>) -> Result<(), LoadError> {
        self.ask(&Request::Extend { slot, orders }).map(drop)
    }

    /// Tells a directive, as it was signed: from now on the loader refuses what it took away.
    pub fn directive(&mut self, note: &str) {
        self.tell(&Request::Directive { note: note.to_owned() });
    }

    /// Passes on the reason codes that the program logged.
    pub fn flush_log(&mut self) {
        self.tell(&Request::FlushLog);
    }

    /// Counters, summed over CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters(&mut self) -> Result<Counters, LoadError> {
        self.reading().map(|reading| reading.counters)
    }

    /// The same, and when they were read.
    ///
    /// # Errors
    /// The map or the clock cannot be read.
    pub fn reading(&mut self) -> Result<Reading, LoadError> {
        let reply = self.ask(&Request::Counters)?;
        let Reply::Counters { words, read_boot_ns } = reply else { return Err(load_error(unexpected())) };
        let counters = counters::counters(&words).ok_or_else(|| load_error(unexpected()))?;
        Ok(Reading { counters, boot_ns: read_boot_ns })
    }

    /// One ring buffer per CPU, by CPU number.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn rings(&self) -> Result<Vec<OwnedFd>, LoadError> {
        let copy = |ring: &OwnedFd| ring.try_clone().map_err(|error| LoadError::Pin { what: "RINGS".into(), error });
        self.rings.iter().map(copy).collect()
    }

    /// What identifies this set of maps.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// The running program; `None` before the first [`Tap::swap`].
    #[must_use]
    pub fn program_info(&self) -> Option<&ProgramInfo> {
        self.info.as_ref()
    }

    /// Takes the program off the mirror port and removes every pin.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn detach(mut self) -> Result<(), LoadError> {
        self.ask(&Request::Detach).map(drop)
    }

    /// The first failure of a step that has no answer of its own, since this was last asked.
    ///
    /// # Errors
    /// That failure.
    pub fn settled(&mut self) -> Result<(), LoadError> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Whether the loader is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    fn tell(&mut self, request: &Request) {
        if let Err(error) = self.ask(request) {
            self.failure.get_or_insert(error);
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, LoadError> {
        let answered = exchange(&self.channel, request);
        self.gone |= answered.is_err();
        match answered.and_then(|(reply, _)| judge(reply)) {
            Ok(reply) => Ok(reply),
            Err(error) => Err(load_error(error)),
        }
    }
}

fn load_error(error: LoaderError) -> LoadError {
    LoadError::Loader { reason: error.to_string() }
}

fn unexpected() -> LoaderError {
    LoaderError::Failed("the loader answers what was not asked".into())
}

/// One message and its reply; refusals are errors.
fn ask(channel: &Channel, request: &impl serde::Serialize) -> Result<(Reply, Vec<OwnedFd>), LoaderError> {
    let (reply, descriptors) = exchange(channel, request)?;
    Ok((judge(reply)?, descriptors))
}

fn done(reply: &Reply) -> Result<(), LoaderError> {
    if matches!(reply, Reply::Done) { Ok(()) } else { Err(unexpected()) }
}

fn judge(reply: Reply) -> Result<Reply, LoaderError> {
    match reply {
        Reply::Refused { reason } => Err(LoaderError::Refused(reason)),
        Reply::Failed { reason } => Err(LoaderError::Failed(reason)),
        done @ (Reply::Done
        | Reply::NotStaged
        | Reply::Opened { .. }
        | Reply::Swapped { .. }
        | Reply::Counters { .. }) => Ok(done),
    }
}

fn exchange(channel: &Channel, request: &impl serde::Serialize) -> Result<(Reply, Vec<OwnedFd>), LoaderError> {
    let gone = |error: &dyn std::fmt::Display| LoaderError::Failed(format!("the loader is gone: {error}"));
    let bytes = Zeroizing::new(serde_json::to_vec(request).map_err(|error| gone(&error))?);
    channel.send(&bytes, &[]).map_err(|error| gone(&error))?;
    let Message { bytes, descriptors } = channel.receive().map_err(|error| gone(&error))?;
    let reply = serde_json::from_slice(&bytes).map_err(|error| gone(&error))?;
    Ok((reply, descriptors))
}
