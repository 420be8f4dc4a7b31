//! What stands in the kernel, and what is allowed to.
//!
//! In: requests of the agent, one after the other; bounds that `verify` made. Out: generations, leases, samples and caps in
//! the kernel, and the replies. Before a slot gets a lease, its cap and sample are this loader's own: what an earlier one left
//! in the maps does not count. Bound: a slot's directives outlive every generation; only a start with other orders ends them.

use super::LoaderError;
use super::bounds::{self, Bounds};
use super::counters;
use super::message::{Reply, Request};
use super::stage::Prepared;
use super::verify::Terms;
use crate::clock::{self, Now, Watch};
use crate::config::{self, Config};
use crate::directive::restriction::Restriction;
use crate::keys::HostKeyId;
use crate::limits::{COUNTERS_READ_NS, COUNTERS_READ_TRIES};
use crate::load::{Attach, CapSlot, LoadError, ProgramLoader, Tap, TapConfig};
use crate::run::RunError;
use crate::run::state::State;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tap_common::abi::counter::Counters;
use tap_common::abi::policy::{CapPolicy, Lease};
use tap_common::limits::MEASURES_MAX;

/// What both loops know.
pub(super) struct Shared {
    pub(super) terms: Terms,
    /// Set by the first message.
    pub(super) opened: Mutex<Option<Opened>>,
    pub(super) prepared: Mutex<Option<Prepared>>,
}

/// What the first message settled.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) host_key: HostKeyId,
    pub(super) programs: ProgramLoader,
}

/// The kernel's side of the tap.
pub(super) struct Kernel {
    config: Config,
    shared: Arc<Shared>,
    tap: Option<Tap>,
    watch: Watch,
    kept: State,
    /// Highest activation that was loaded, by measure.
    highest: BTreeMap<String, (u64, [u8; 32])>,
    bounds: Vec<Bounds>,
    leases: [Lease; MEASURES_MAX],
    /// What this loader has written for a slot; what an earlier one wrote is unknown.
    caps: [Option<CapPolicy>; MEASURES_MAX],
    samples: [Option<u64>; MEASURES_MAX],
    facility_cap: CapPolicy,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kernel {
    pub(super) fn new(config: Config, shared: Arc<Shared>, kept: State) -> Self {
        Self {
            watch: Watch::new(!config.clock_not_required(), kept.last_unix_ns()),
            config,
            shared,
            tap: None,
            kept,
            highest: BTreeMap::new(),
            bounds: Vec::new(),
            leases: [Lease::default(); MEASURES_MAX],
            caps: [None; MEASURES_MAX],
            samples: [None; MEASURES_MAX],
            facility_cap: CapPolicy::default(),
        }
    }

    /// The rings, for the agent that drains them.
    pub(super) fn rings(&self) -> Result<Vec<OwnedFd>, LoaderError> {
        let rings = self.tap.as_ref().map(Tap::rings).transpose();
        rings.map(Option::unwrap_or_default).map_err(|error| LoaderError::Failed(error.to_string()))
    }

    pub(super) fn act(&mut self, request: Request) -> Result<Reply, RunError> {
        match request {
            Request::Open { host_key, orders } => self.open(&host_key, &orders),
            Request::Extend { slot, orders } => self.extend(slot, &orders),
            Request::Directive { note } => self.direct(&note),
            Request::Swap { generation } => self.swap(generation),
            Request::SetLease { slot, not_before_ns, deadline_ns } => {
                self.set_lease(slot, Lease { not_before_ns, deadline_ns })
            }
            Request::SetSampling { slot, threshold } => self.set_sampling(slot, threshold),
            Request::SetCap { slot, epoch_credit_bytes, chunk_bytes } => {
                self.set_cap(slot, CapPolicy { epoch_credit_bytes, chunk_bytes })
            }
            Request::Counters => {
                let (counters, read_boot_ns) = self.counters()?;
                Ok(Reply::Counters { words: counters::words(&counters), read_boot_ns })
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

    /// The counters, and when they were read: here, for the way to the agent takes longer than the reading. A reading that the scheduler
    /// cut in two is tried again, and the shortest of them counts.
    fn counters(&mut self) -> Result<(Counters, u64), RunError> {
        let now = || clock::boot_ns().map_err(|error| RunError::failed("clock", error));
        let mut shortest: Option<(u64, Counters, u64)> = None;
        for _ in 0..COUNTERS_READ_TRIES {
            let before = now()?;
            let counters = self.tap()?.counters().map_err(|error| failed(&error))?;
            let after = now()?;
            let took_ns = after.saturating_sub(before);
            if shortest.as_ref().is_none_or(|(shortest_ns, ..)| took_ns < *shortest_ns) {
                shortest = Some((took_ns, counters, before + took_ns / 2));
            }
            if took_ns <= COUNTERS_READ_NS {
                break;
            }
        }
        let (_, counters, read_boot_ns) =
            shortest.ok_or_else(|| RunError::Failed("counters: none were read".to_owned()))?;
        Ok((counters, read_boot_ns))
    }

    fn open(&mut self, host_key: &str, orders: &[Vec<String>]) -> Result<Reply, RunError> {
        let mut opened = lock(&self.shared.opened);
        if opened.is_some() {
            return Err(RunError::Failed("opened already".into()));
        }
        let host_key: HostKeyId = host_key.parse().map_err(|error| RunError::refused("host key", error))?;
        let orders = self.shared.terms.orders(&host_key, orders.iter().map(Vec::as_slice))?;
        let mut bounds: Vec<_> = orders.into_iter().map(|(_, bounds)| bounds).collect();
        for bounds in &mut bounds {
            // The kill switch is taken back by word of mouth, so it is the agent's to keep.
            bounds.left =
                Restriction { kill_switch: None, directives: Vec::new(), ..self.kept.restriction(&bounds.measure) };
        }
        let all = [Lease { not_before_ns: 0, deadline_ns: 1 }; MEASURES_MAX];
        let cap = bounds::facility_cap(&bounds, &all).ok_or_else(|| RunError::refused("order", "gives no cap"))?;
        let tap = Tap::open(tap_config(&self.config, cap)?).map_err(|error| failed(&error))?;
        let instance = tap.instance();
        *opened = Some(Opened { host_key, programs: tap.program_loader() });
        (self.bounds, self.facility_cap, self.tap) = (bounds, cap, Some(tap));
        Ok(Reply::Opened { abi_version: instance.abi_version, instance: instance.id })
    }

    /// Takes what an extension changes: the end of the orders. Everything else comes with a set.
    fn extend(&mut self, slot: u32, orders: &[String]) -> Result<Reply, RunError> {
        let host_key = lock(&self.shared.opened).as_ref().ok_or_else(not_open)?.host_key;
        let (_, extended) = self.shared.terms.chain(&host_key, orders)?;
        match self.bounds.get_mut(slot as usize) {
            Some(bounds) if bounds.go_on_with(&extended) => {
                (bounds.orders, bounds.ordered) = (extended.orders, extended.ordered);
            }
            _ => {
                let measure = extended.measure;
                return Err(RunError::Refused(format!("slot {slot} has no orders that measure {measure}'s extend")));
            }
        }
        Ok(Reply::Done)
    }

    /// Takes a directive: the lease that was given is cut, and with it goes the cap.
    fn direct(&mut self, note: &str) -> Result<Reply, RunError> {
        let directive = self.shared.terms.directive(note)?;
        let slot = self.bounds.iter().position(|bounds| bounds.measure == directive.measure);
        let slot =
            slot.ok_or_else(|| RunError::Refused(format!("directive: measure {} is none", directive.measure)))?;
        if let Some(bounds) = self.bounds.get_mut(slot) {
            bounds.narrow(directive.kind, &directive.reason);
        }
        let given = self.leases.get(slot).copied().unwrap_or_default();
        let slot = u32::try_from(slot).map_err(|error| RunError::failed("slot", error))?;
        if let Err(error) = self.set_lease(slot, given) {
            tracing::info!(slot, %error, "the lease ends with a directive");
        }
        Ok(Reply::Done)
    }

    fn swap(&mut self, generation: u64) -> Result<Reply, RunError> {
        let prepared = lock(&self.shared.prepared).take();
        let mut prepared = prepared
            .filter(|prepared| prepared.loaded.generation() == generation)
            .ok_or_else(|| RunError::Failed("this generation is not prepared".into()))?;
        self.admit_numbers(&prepared)?;
        for (next, bounds) in prepared.judged.bounds.iter_mut().zip(&self.bounds) {
            next.left = bounds.left.clone();
        }
        if self.highest.is_empty() {
            // Slots may have leases of an earlier loader's, for what they were then.
            for (slot, lease) in (0..).zip(self.leases) {
                self.tap()?.set_lease(slot, lease);
            }
        }
        let Prepared { loaded, judged } = prepared;
        let tap = self.tap()?;
        tap.put(loaded).map_err(|error| failed(&error))?;
        let info = tap.program_info().cloned().ok_or_else(|| RunError::Failed("the program is not there".into()))?;
        for (bounds, activation) in judged.bounds.iter().zip(&judged.activations) {
            self.highest.insert(bounds.measure.clone(), *activation);
        }
        self.bounds = judged.bounds;
        self.shorten_leases();
        Ok(Reply::Swapped {
            id: info.id,
            tag: info.tag,
            verified_instructions: info.verified_instructions,
            digest: info.digest,
            generic: info.attach == Attach::Generic,
        })
    }

    /// The measures are those that were opened, in their slots, with the same orders or more; and no activation is older than
    /// one that was loaded.
    fn admit_numbers(&self, prepared: &Prepared) -> Result<(), RunError> {
        let go_on = self.bounds.iter().zip(&prepared.judged.bounds).all(|(bounds, next)| bounds.go_on_with(next));
        if !go_on || self.bounds.len() != prepared.judged.bounds.len() {
            return Err(RunError::Refused("measures and orders are not those that were opened".into()));
        }
        for (bounds, (number, sha256)) in prepared.judged.bounds.iter().zip(&prepared.judged.activations) {
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
        if lease != Lease::default() {
            self.settle(slot)?;
        }
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

    /// Cap and sample of a slot that is to have a lease: those that this loader wrote, if they are still allowed, else the
    /// highest that are.
    fn settle(&mut self, slot: u32) -> Result<(), RunError> {
        let index = slot as usize;
        let (Some(bounds), Some(cap), Some(sample)) =
            (self.bounds.get(index), self.caps.get_mut(index), self.samples.get_mut(index))
        else {
            return Err(RunError::Refused(format!("slot {slot} has no measure")));
        };
        let tap = self.tap.as_ref().ok_or_else(not_open)?;
        if let Some(highest) = bounds.cap()
            && !cap.is_some_and(|cap| bounds::within(cap, highest))
        {
            *cap = Some(highest);
            tap.set_cap(CapSlot::Measure(slot), highest);
        }
        if sample.is_none() {
            *sample = Some(bounds.sampling_max);
            tap.set_sampling(slot, bounds.sampling_max);
        }
        Ok(())
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
        match (self.bounds.get(slot as usize), self.samples.get_mut(slot as usize)) {
            (Some(bounds), Some(sample)) if threshold <= bounds.sampling_max => {
                *sample = Some(threshold);
                self.tap()?.set_sampling(slot, threshold);
            }
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
                let index = slot as usize;
                let highest = self.bounds.get(index).and_then(Bounds::cap).ok_or_else(refused)?;
                if !bounds::within(policy, highest) {
                    return Err(refused());
                }
                *self.caps.get_mut(index).ok_or_else(refused)? = Some(policy);
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
