//! The loader's loops: one for what must be quick (leases, counters), one for what takes time (verifying, compiling).
//!
//! In: messages. Out: replies, in order, one for each. A message that does not parse ends the process, and so does the end
//! of the agent.

use super::LoaderError;
use super::bounds::{self, Bounds};
use super::channel::{Channel, Message};
use super::counters;
use super::message::{Prepare, Reply, Request};
use super::verify::{Prepared, Terms};
use crate::clock::{self, Now, Watch};
use crate::config::{self, Config};
use crate::keys::HostKeyId;
use crate::load::{Attach, CapSlot, LoadError, Tap, TapConfig};
use crate::privilege::{self, Keep};
use crate::run::RunError;
use crate::run::state::State;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tap_common::abi::policy::{CapPolicy, Lease};
use tap_common::limits::MEASURES_MAX;

/// What both loops know.
struct Shared {
    terms: Terms,
    /// Set by the first message.
    host_key: Mutex<Option<HostKeyId>>,
    prepared: Mutex<Option<Prepared>>,
}

/// What stands in the kernel, and what is allowed to.
struct Kernel {
    config: Config,
    shared: Arc<Shared>,
    tap: Option<Tap>,
    watch: Watch,
    kept: State,
    /// Highest activation that was loaded, by measure.
    highest: BTreeMap<String, (u64, [u8; 32])>,
    bounds: Vec<Bounds>,
    leases: [Lease; MEASURES_MAX],
    facility_cap: CapPolicy,
}

/// Serves the agent at the other ends of the two sockets until it is gone.
///
/// # Errors
/// Files that the configuration names, a step of the system, or a message that is none.
pub fn serve(config: Config, quick: OwnedFd, slow: OwnedFd) -> Result<(), LoaderError> {
    alone()?;
    privilege::confine(Keep::Tap).map_err(|error| LoaderError::Failed(error.to_string()))?;
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
    let shared = Arc::new(Shared { terms, host_key: Mutex::default(), prepared: Mutex::default() });
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
    Kernel {
        watch: Watch::new(!config.clock_not_required(), kept.last_unix_ns()),
        config,
        shared,
        tap: None,
        kept,
        highest: BTreeMap::new(),
        bounds: Vec::new(),
        leases: [Lease::default(); MEASURES_MAX],
        facility_cap: CapPolicy::default(),
    }
    .run(&quick)
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    while let Some(Prepare { seed, measures }) = next(channel)? {
        let prepared = (*lock(&shared.host_key))
            .ok_or_else(|| RunError::Failed("nothing is opened".into()))
            .and_then(|host_key| shared.terms.prepare(&host_key, &measures, seed));
        let reply = prepared.map(|prepared| {
            *lock(&shared.prepared) = Some(prepared);
            Reply::Done
        });
        answer(channel, reply, &[])?;
    }
    Ok(())
}

impl Kernel {
    fn run(mut self, channel: &Channel) -> Result<(), LoaderError> {
        while let Some(request) = next(channel)? {
            let opens = matches!(request, Request::Open { .. });
            let reply = self.act(request);
            let rings = match &self.tap {
                Some(tap) if opens && reply.is_ok() => {
                    tap.rings().map_err(|error| LoaderError::Failed(error.to_string()))?
                }
                _ => Vec::new(),
            };
            let descriptors: Vec<_> = rings.iter().map(|ring| ring.as_raw_fd()).collect();
            answer(channel, reply, &descriptors)?;
        }
        Ok(())
    }

    fn act(&mut self, request: Request) -> Result<Reply, RunError> {
        match request {
            Request::Open { host_key, orders } => self.open(&host_key, &orders),
            Request::Extend { slot, orders } => self.extend(slot, &orders),
            Request::Swap { generation } => self.swap(generation),
            Request::SetLease { slot, not_before_ns, deadline_ns } => {
                self.set_lease(slot, Lease { not_before_ns, deadline_ns })
            }
            Request::SetSampling { slot, threshold } => self.set_sampling(slot, threshold),
            Request::SetCap { slot, epoch_credit_bytes, chunk_bytes } => {
                self.set_cap(slot, CapPolicy { epoch_credit_bytes, chunk_bytes })
            }
            Request::Counters => {
                let counters = self.tap()?.counters().map_err(|error| failed(&error))?;
                Ok(Reply::Counters { words: counters::words(&counters) })
            }
            Request::FlushLog => {
                self.tap()?.flush_log();
                Ok(Reply::Done)
            }
            Request::Detach => {
                let tap = self.tap.take().ok_or_else(not_open)?;
                tap.detach().map_err(|error| failed(&error))?;
                Ok(Reply::Done)
            }
        }
    }

    fn tap(&mut self) -> Result<&mut Tap, RunError> {
        self.tap.as_mut().ok_or_else(not_open)
    }

    fn open(&mut self, host_key: &str, orders: &[Vec<String>]) -> Result<Reply, RunError> {
        let mut known = lock(&self.shared.host_key);
        if known.is_some() {
            return Err(RunError::Failed("opened already".into()));
        }
        let host_key: HostKeyId = host_key.parse().map_err(|error| RunError::refused("host key", error))?;
        let orders = self.shared.terms.orders(&host_key, orders.iter().map(Vec::as_slice))?;
        let bounds: Vec<_> = orders.into_iter().map(|(_, bounds)| bounds).collect();
        let all = [Lease { not_before_ns: 0, deadline_ns: 1 }; MEASURES_MAX];
        let cap = bounds::facility_cap(&bounds, &all).ok_or_else(|| RunError::refused("order", "gives no cap"))?;
        let tap = Tap::open(tap_config(&self.config, cap)?).map_err(|error| failed(&error))?;
        let instance = tap.instance();
        *known = Some(host_key);
        (self.bounds, self.facility_cap, self.tap) = (bounds, cap, Some(tap));
        Ok(Reply::Opened { abi_version: instance.abi_version, instance: instance.id })
    }

    /// Takes what an extension changes: the end of the orders. Everything else comes with a set.
    fn extend(&mut self, slot: u32, orders: &[String]) -> Result<Reply, RunError> {
        let host_key = (*lock(&self.shared.host_key)).ok_or_else(not_open)?;
        let (_, extended) = self.shared.terms.chain(&host_key, orders)?;
        match self.bounds.get_mut(slot as usize) {
            Some(bounds) if bounds.measure == extended.measure => bounds.ordered = extended.ordered,
            _ => return Err(RunError::Refused(format!("slot {slot} is not measure {}", extended.measure))),
        }
        Ok(Reply::Done)
    }

    fn swap(&mut self, generation: u64) -> Result<Reply, RunError> {
        let prepared = lock(&self.shared.prepared).take();
        let prepared = prepared.ok_or_else(|| RunError::Failed("no generation is prepared".into()))?;
        self.admit_numbers(&prepared)?;
        let tap = self.tap()?;
        tap.swap(&prepared.tables, generation).map_err(|error| failed(&error))?;
        let info = tap.program_info().cloned().ok_or_else(|| RunError::Failed("the program is not there".into()))?;
        for (bounds, activation) in prepared.bounds.iter().zip(&prepared.activations) {
            self.highest.insert(bounds.measure.clone(), *activation);
        }
        self.bounds = prepared.bounds;
        self.shorten_leases();
        Ok(Reply::Swapped {
            id: info.id,
            tag: info.tag,
            verified_instructions: info.verified_instructions,
            digest: info.digest,
            generic: info.attach == Attach::Generic,
        })
    }

    /// The measures are those that were opened, in their slots, and no activation is older than one that was loaded.
    fn admit_numbers(&self, prepared: &Prepared) -> Result<(), RunError> {
        let measures = |bounds: &[Bounds]| bounds.iter().map(|of| of.measure.clone()).collect::<Vec<_>>();
        if measures(&prepared.bounds) != measures(&self.bounds) {
            return Err(RunError::Refused("the measures are not those that were opened".into()));
        }
        for (bounds, (number, sha256)) in prepared.bounds.iter().zip(&prepared.activations) {
            let measure = &bounds.measure;
            match self.highest.get(measure) {
                Some((highest, same)) if number < highest || (number == highest && sha256 != same) => {
                    return Err(RunError::Refused(format!(
                        "measure {measure}: activation {number} is not a later one"
                    )));
                }
                Some(_) => {}
                None => self
                    .kept
                    .admit_start(measure, *number, sha256)
                    .map_err(|error| RunError::Refused(error.to_string()))?,
            }
        }
        Ok(())
    }

    /// A lease that was given under the bounds before does not outlast the ones that count now.
    fn shorten_leases(&mut self) {
        for (slot, lease) in (0..).zip(self.leases) {
            if lease != Lease::default()
                && let Err(error) = self.set_lease(slot, lease)
            {
                tracing::info!(slot, %error, "the lease ends with the former activation");
            }
        }
    }

    fn set_lease(&mut self, slot: u32, asked: Lease) -> Result<Reply, RunError> {
        let granted = if asked == Lease::default() { Ok(asked) } else { self.grant(slot, asked) };
        let lease = *granted.as_ref().unwrap_or(&Lease::default());
        let Some(place) = self.leases.get_mut(slot as usize) else {
            return Err(RunError::Refused(format!("slot {slot} is none")));
        };
        *place = lease;
        // A lower cap is there before the lease that asks for it.
        if let Some(highest) = bounds::facility_cap(&self.bounds, &self.leases)
            && !bounds::within(self.facility_cap, highest)
        {
            self.facility_cap = highest;
            self.tap()?.set_cap(CapSlot::Facility, highest);
        }
        self.tap()?.set_lease(slot, lease);
        granted.map(|_| Reply::Done)
    }

    fn grant(&mut self, slot: u32, asked: Lease) -> Result<Lease, RunError> {
        let now = self.now()?;
        let bounds = self.bounds.get(slot as usize);
        let bounds = bounds.ok_or_else(|| RunError::Refused(format!("slot {slot} has no measure")))?;
        bounds.lease(asked, &now).map_err(|error| RunError::refused(format!("measure {}", bounds.measure), error))
    }

    fn now(&mut self) -> Result<Now, RunError> {
        let reading = clock::read().map_err(|error| RunError::failed("clock", error))?;
        self.watch.judge(&reading).map_err(|error| RunError::refused("clock", error))
    }

    fn set_sampling(&mut self, slot: u32, threshold: u64) -> Result<Reply, RunError> {
        match self.bounds.get(slot as usize) {
            Some(bounds) if threshold <= bounds.sampling_max => self.tap()?.set_sampling(slot, threshold),
            _ => return Err(RunError::Refused(format!("slot {slot}: the order allows no such sample"))),
        }
        Ok(Reply::Done)
    }

    fn set_cap(&mut self, slot: Option<u32>, policy: CapPolicy) -> Result<Reply, RunError> {
        let refused = || RunError::Refused("the orders allow no such cap".into());
        match slot {
            None => {
                let highest = bounds::facility_cap(&self.bounds, &self.leases).ok_or_else(refused)?;
                if !bounds::within(policy, highest) {
                    return Err(refused());
                }
                self.facility_cap = policy;
                self.tap()?.set_cap(CapSlot::Facility, policy);
            }
            Some(slot) => {
                let bounds = self.bounds.get(slot as usize).ok_or_else(refused)?;
                if !bounds.admits_cap(policy) {
                    return Err(refused());
                }
                self.tap()?.set_cap(CapSlot::Measure(slot), policy);
            }
        }
        Ok(Reply::Done)
    }
}

/// The tap as the configuration describes it; the loader reads it itself.
fn tap_config(config: &Config, cap_policy: CapPolicy) -> Result<TapConfig, RunError> {
    let transport = config.mirror.transport.as_ref().map(config::transport::Transport::constants).transpose();
    Ok(TapConfig {
        interface: config.mirror.interface.clone(),
        pin_directory: config.mirror.pin_directory.clone(),
        inline: config.mirror.mode == config::Mode::Inline,
        attach: match config.mirror.attach {
            config::Attach::Native => Attach::Native,
            config::Attach::Generic => Attach::Generic,
        },
        cap_policy,
        log_reasons: config.mirror.log_reasons,
        transport: transport.map_err(|(key, reason)| RunError::Refused(format!("mirror.transport.{key}: {reason}")))?,
    })
}

fn failed(error: &LoadError) -> RunError {
    RunError::Failed(error.to_string())
}

fn not_open() -> RunError {
    RunError::Failed("no tap is open".into())
}
