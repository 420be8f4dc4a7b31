//! The hourly cap statements: what the agent samples becomes what the host signs.
//!
//! In: counters, every time admitted bytes are sampled. Out: at each whole hour, and when the agent ends, a statement of
//! each measure and of the facility, and a leaf with its digest. A statement that cannot be written is tried again.

use super::agent::{Agent, lock};
use super::error::RunError;
use super::report;
use crate::audit::Leaf;
use crate::keys::SecretKey;
use crate::limits::{STATEMENT_PERIOD_NS, STATEMENT_RETRY_NS};
use crate::metrics::interface;
use crate::metrics::share::{Rate, Shares};
use crate::statement::{Counts, FACILITY, Most, Statement, Store, VERSION};
use jiff::Timestamp;
use tap_common::abi::counter::{Counters, Verdict};

/// What the statements of the running hour are made of.
pub(super) struct Statements {
    key: SecretKey,
    instance: String,
    chains: Vec<Chain>,
    from: Timestamp,
    hour: i128,
    retry_at_ns: u64,
    failing: bool,
}

struct Chain {
    of: String,
    store: Store,
    shares: Shares,
    limit_ppm: u32,
}

impl Statements {
    /// Opens a chain for each measure and the facility.
    ///
    /// # Errors
    /// Key or directory.
    pub(super) fn open(agent: &Agent) -> Result<Self, RunError> {
        let key = SecretKey::from_file(&agent.config.host.key_file)
            .map_err(|error| RunError::refused("host.key_file", error))?;
        let directory = agent.config.state.directory.join("statements");
        let ids = agent.measures.iter().map(|measure| format!("measure-{}", measure.id()));
        let mut chains = Vec::new();
        for of in ids.chain([FACILITY.to_owned()]) {
            let store =
                Store::open(&directory, &of, &key.public()).map_err(|error| RunError::failed("statements", error))?;
            chains.push(Chain { of, store, shares: Shares::default(), limit_ppm: 0 });
        }
        let from = Timestamp::now();
        let instance = hex::encode(agent.instance);
        Ok(Self { key, instance, chains, from, hour: hour(from), retry_at_ns: 0, failing: false })
    }

    /// Takes a sample; writes statements if an hour has ended.
    pub(super) fn sample(&mut self, agent: &Agent, boot_ns: u64, counters: &Counters) {
        let facility = (report::admitted(agent, counters).1, lock(&agent.permission).facility_share_ppm);
        let measures = agent
            .measures
            .iter()
            .zip(&counters.measures)
            .map(|(measure, counted)| (counted.admitted_bytes, measure.share_ppm()));
        for (chain, (bytes, limit_ppm)) in self.chains.iter_mut().zip(measures.chain([facility])) {
            chain.shares.sample(boot_ns, bytes);
            chain.limit_ppm = chain.limit_ppm.max(limit_ppm);
        }
        let now = Timestamp::now();
        if hour(now) != self.hour && boot_ns >= self.retry_at_ns {
            self.retry_at_ns = boot_ns.saturating_add(STATEMENT_RETRY_NS);
            self.write(agent, counters, now, false);
        }
    }

    /// Writes a statement of each chain.
    pub(super) fn write(&mut self, agent: &Agent, counters: &Counters, now: Timestamp, last: bool) {
        let mut whole = true;
        for (slot, chain) in self.chains.iter_mut().enumerate() {
            let totals = totals(agent, counters, slot);
            let before = chain.store.last().filter(|last| last.map_instance == self.instance);
            let counted = totals.since(&before.map(|last| last.totals).unwrap_or_default());
            // Written already, when another chain was not.
            if before.is_some_and(|before| before.from == self.from && before.to > self.from) && self.failing {
                continue;
            }
            let [second, minute, hour] = chain.shares.max().map(most);
            let statement = Statement {
                version: VERSION,
                of: chain.of.clone(),
                number: 0,
                previous_sha256: String::new(),
                facility: agent.host.facility.id.clone(),
                map_instance: self.instance.clone(),
                from: self.from,
                to: now,
                last,
                capacity_bits_per_second: agent.host.facility.capacity_bits_per_second,
                limit_ppm: chain.limit_ppm,
                most_in_a_second: second,
                most_in_a_minute: minute,
                most_in_an_hour: hour,
                counted,
                totals,
            };
            match chain.store.append(statement, &self.key) {
                Ok(sha256) => {
                    chain.shares.restart_max();
                    chain.limit_ppm = 0;
                    agent.audit.tell(&Leaf::Statement { measure: chain.of.clone(), from: self.from, sha256 });
                }
                Err(error) => {
                    whole = false;
                    tracing::error!(%error, "a cap statement cannot be written; it is tried again");
                }
            }
        }
        self.failing = !whole;
        if whole {
            self.from = now;
            self.hour = hour(now);
        }
    }
}

fn hour(time: Timestamp) -> i128 {
    time.as_nanosecond().div_euclid(i128::from(STATEMENT_PERIOD_NS))
}

fn most(rate: Rate) -> Option<Most> {
    (rate.window_ns > 0).then_some(Most { bytes: rate.bytes, window_ns: rate.window_ns })
}

/// Of the measure in this slot, or of the facility behind the last one.
fn totals(agent: &Agent, counters: &Counters, slot: usize) -> Counts {
    let verdict = |measure: usize, verdict: Verdict| {
        let counted = counters.measures.get(measure).map(|counted| &counted.verdicts);
        counted.and_then(|verdicts| verdicts.get(verdict as usize)).copied().unwrap_or_default()
    };
    let count = agent.measures.len();
    let of = if slot < count { slot..slot + 1 } else { 0..count };
    let (admitted_packets, admitted_bytes) = match counters.measures.get(slot).filter(|_| slot < count) {
        Some(counted) => (counted.admitted_packets, counted.admitted_bytes),
        None => report::admitted(agent, counters),
    };
    let port = interface::read(&agent.config.mirror.interface).unwrap_or_default();
    Counts {
        observed_packets: counters.observed_packets,
        observed_bytes: counters.observed_bytes,
        admitted_packets,
        admitted_bytes,
        over_cap_packets: of.clone().map(|measure| verdict(measure, Verdict::OverCap)).sum(),
        selected_packets: of.map(|measure| verdict(measure, Verdict::Selected)).sum(),
        interface_packets: port.receive_packets,
        interface_bytes: port.receive_bytes,
        interface_dropped_packets: port.receive_dropped,
        interface_error_packets: port.receive_errors,
    }
}
