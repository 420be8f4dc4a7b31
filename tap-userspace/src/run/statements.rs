//! The hourly cap statements: what the agent samples becomes what the host signs.
//!
//! In: counters, every time admitted bytes are sampled. Out: at each whole hour, and when the agent ends, a statement of
//! each measure and of the facility, and a leaf with its digest. What an hour is, `statement::hourly` says.

use super::agent::{Agent, lock};
use super::error::RunError;
use super::report;
use crate::audit::Leaf;
use crate::keys::SecretKey;
use crate::metrics::interface;
use crate::statement::hourly::{Hourly, Tap};
use crate::statement::{Counts, FACILITY};
use jiff::Timestamp;
use tap_common::abi::counter::{Counters, Verdict};

/// What the statements of the running hour are made of.
pub(super) struct Statements(Hourly);

impl Statements {
    /// Opens a chain for each measure and the facility.
    ///
    /// # Errors
    /// Key or directory.
    pub(super) fn open(agent: &Agent, now: Timestamp) -> Result<Self, RunError> {
        let key = SecretKey::from_file(&agent.config.host.key_file)
            .map_err(|error| RunError::refused("host.key_file", error))?;
        let ids = agent.measures.iter().map(|measure| format!("measure-{}", measure.id()));
        let tap = Tap {
            facility: agent.host.facility.id.clone(),
            capacity_bits_per_second: agent.host.facility.capacity_bits_per_second,
            map_instance: hex::encode(agent.instance),
        };
        let directory = agent.config.state.directory.join("statements");
        Hourly::open(&directory, ids.chain([FACILITY.to_owned()]), tap, key, now)
            .map(Self)
            .map_err(|error| RunError::failed("statements", error))
    }

    /// Takes a sample; writes statements if an hour has ended.
    pub(super) fn sample(&mut self, agent: &Agent, boot_ns: u64, now: Timestamp, counters: &Counters) {
        let facility = (report::admitted(agent, counters).1, lock(&agent.permission).facility_share_ppm);
        let measures = agent
            .measures
            .iter()
            .zip(&counters.measures)
            .map(|(measure, counted)| (counted.admitted_bytes, measure.share_ppm()));
        self.0.sample(boot_ns, measures.chain([facility]));
        if self.0.due(boot_ns, now) {
            self.write(agent, boot_ns, now, counters, false);
        }
    }

    /// Writes a statement of each chain.
    pub(super) fn write(&mut self, agent: &Agent, boot_ns: u64, now: Timestamp, counters: &Counters, last: bool) {
        let totals: Vec<_> = (0..=agent.measures.len()).map(|slot| totals(agent, counters, slot)).collect();
        let (written, outcome) = self.0.write(boot_ns, now, totals, last);
        for statement in written {
            let (from, sha256) = (statement.from, statement.sha256);
            agent.audit.tell(&Leaf::Statement { measure: statement.of, from, sha256 });
        }
        if let Err(error) = outcome {
            tracing::error!(%error, "a cap statement cannot be written; it is tried again");
        }
    }
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
