//! The receipts a tap signs into its streams, for the notices of Art. 30.
//!
//! In: what happens to a measure. Out: signed notes in its spool, and a leaf with each one's digest. The receipt of a day is
//! in the spool before the day's first record; what the spool refuses is owed and tried again before anything else. A restart
//! says again what may have been said: the receiving facility numbers each subject once.

use super::agent::{Agent, lock};
use super::error::RunError;
use super::measure::Measure;
use super::orders;
use crate::audit::Leaf;
use crate::ipfix::encode::receipt_set;
use crate::keys::SecretKey;
use crate::limits::END_SETTLE_NS;
use crate::notice::{self, Event, Receipt, Totals, VERSION};
use crate::order::Order;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use tap_common::abi::counter::Verdict;

/// What was said of a measure since the agent started.
#[derive(Debug, Default)]
pub struct Told {
    days: BTreeSet<u64>,
    owed: BTreeSet<u64>,
    opened: Option<[u8; 32]>,
    ended: Option<[u8; 32]>,
}

impl Told {
    /// Records of these days are about to be spooled: which receipts must be in front of them?
    pub fn days(&mut self, days: impl IntoIterator<Item = u64>) -> Vec<u64> {
        self.owed.extend(days.into_iter().filter(|day| !self.days.contains(day)));
        self.owed.iter().copied().collect()
    }

    /// The receipt of this day is in the spool.
    pub fn said(&mut self, day: u64) {
        self.owed.remove(&day);
        self.days.insert(day);
    }
}

/// The host's key, with which it signs orders of nobody: receipts and statements only.
pub(super) fn key(agent: &crate::config::Config) -> Result<SecretKey, RunError> {
    SecretKey::from_file(&agent.host.key_file).map_err(|error| RunError::refused("host.key_file", error))
}

/// Says that records of `days` follow, and what is owed from before.
pub(super) fn days(agent: &Agent, measure: &Measure, days: impl IntoIterator<Item = u64>) {
    let mut told = lock(&measure.told);
    for day in told.days(days) {
        if say(agent, measure, Event::Day { day: notice::day(day) }) {
            told.said(day);
        }
    }
}

/// Says what began and what ended; called twice a second.
pub(super) fn watch(agent: &Agent) {
    // While the clock is in doubt nothing begins, and an end is said when it is known to be one.
    if lock(&agent.clock).doubt.is_some() {
        return;
    }
    let now = Timestamp::now();
    for measure in &agent.measures {
        days(agent, measure, []);
        let (last, window, stopped) = {
            let chain = lock(&measure.chain).clone();
            let restriction = lock(&measure.restriction).clone();
            let last = chain.last().map(|order| (order.sha256, order.measure.not_after));
            (last, orders::window(&chain, &restriction).ok(), restriction.stopped.is_some())
        };
        let Some((order, not_after)) = last else { continue };
        let mut told = lock(&measure.told);
        if told.opened != Some(order) && say(agent, measure, Event::Opened { not_after }) {
            told.opened = Some(order);
        }
        let over = window
            .is_some_and(|window| now.as_nanosecond() >= i128::from(window.not_after_ns) + i128::from(END_SETTLE_NS));
        let by = if stopped { "directive" } else { "order" };
        if (over || stopped) && told.ended != Some(order) && say(agent, measure, Event::Ended { by: by.to_owned() }) {
            told.ended = Some(order);
        }
    }
}

/// Signs and spools; `false` when it has to be tried again.
fn say(agent: &Agent, measure: &Measure, event: Event) -> bool {
    match signed(agent, measure, event) {
        Ok(sha256) => {
            agent.audit.tell(&Leaf::Receipt { measure: measure.id().to_owned(), sha256 });
            true
        }
        Err(error) => {
            tracing::error!(measure = measure.id(), %error, "a receipt cannot be spooled; it is tried again");
            false
        }
    }
}

fn signed(agent: &Agent, measure: &Measure, event: Event) -> Result<String, RunError> {
    let (order, chain) = {
        let chain = lock(&measure.chain);
        let digest = |order: Option<&Order>| order.map(|order| hex::encode(order.sha256)).unwrap_or_default();
        (digest(chain.last()), digest(chain.first()))
    };
    let receipt = Receipt {
        version: VERSION,
        host_key: agent.receipt_key.public().to_string(),
        measure: measure.id().to_owned(),
        facility: agent.host.facility.id.clone(),
        order_sha256: order,
        chain_sha256: chain,
        time: Timestamp::now(),
        event,
        totals: totals(agent, measure)?,
    };
    let note = notice::sign(&receipt, &agent.receipt_key).map_err(|error| RunError::failed("receipt", error))?;
    let set = receipt_set(&note).ok_or_else(|| RunError::Failed("a receipt is too long".into()))?;
    measure.spool.append(&set).map_err(|error| RunError::failed("spool", error))?;
    Ok(notice::digest(&note))
}

/// Counters that cannot be read are no zeros: then nothing is signed, and it is tried again.
fn totals(agent: &Agent, measure: &Measure) -> Result<Totals, RunError> {
    let counters = agent.with_tap(|tap| tap.counters())?;
    let selected = counters.measures.get(usize::from(measure.slot));
    let selected = selected.and_then(|counted| counted.verdicts.get(Verdict::Selected as usize));
    Ok(Totals {
        observed_packets: counters.observed_packets,
        selected_packets: selected.copied().unwrap_or_default(),
        exported_records: measure.records.spooled.load(Ordering::Relaxed),
    })
}
