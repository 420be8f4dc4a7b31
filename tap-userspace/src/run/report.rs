//! The agent's state as numbers and digests, for `gwtap status` and the metrics page.

use super::agent::{Agent, lock};
use crate::clock;
use crate::config::{Attach, Mode};
use crate::control::status::{
    ClockStatus, CounterStatus, DeliveryStatus, LeaseStatus, OrderStatus, RecordStatus, ShareStatus, SpoolView, Status,
};
use crate::metrics::interface;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use tap_common::abi::counter::{Counters, FACILITY_VERDICT_NAMES, REASON_NAMES, VERDICT_NAMES};
use tap_common::limits::PPM;

/// The state now. Counters that cannot be read are zero, and the log says why.
pub(super) fn status(agent: &Agent) -> Status {
    let counters = agent.with_tap(|tap| tap.counters()).unwrap_or_else(|error| {
        tracing::error!(%error, "counters");
        Counters::default()
    });
    let program = lock(&agent.tap).as_ref().and_then(|tap| tap.program_info().map(|info| hex::encode(info.digest)));
    let config = &agent.config;
    // Taken and given back here: inside the expression below the lock would be held while others are taken.
    let selectors = lock(&agent.active).status.clone();
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        host: config.host.name.clone(),
        host_key: agent.admitted.host_key.to_string(),
        instance: hex::encode(agent.instance),
        interface: config.mirror.interface.clone(),
        mode: if config.mirror.mode == Mode::Mirror { "mirror" } else { "inline" }.into(),
        attach: if config.mirror.attach == Attach::Native { "native" } else { "generic" }.into(),
        transport: config.mirror.transport.as_ref().map(ToString::to_string),
        program_digest: program.unwrap_or_default(),
        order: order(agent),
        selectors,
        lease: lease(agent),
        clock: clock_status(agent),
        counters: counter_status(&counters),
        interface_counters: interface::read(&config.mirror.interface).unwrap_or_default(),
        share: share(agent),
        records: records(agent),
        spool: spool(agent),
        delivery: delivery(agent),
        documentation_prefixes: config.country_table.documentation_prefixes,
    }
}

fn order(agent: &Agent) -> OrderStatus {
    let order = &agent.admitted.order;
    OrderStatus {
        measure: order.measure.id.clone(),
        basis: order.measure.basis.to_string(),
        facility: order.facility.id.clone(),
        sha256: hex::encode(order.sha256),
        not_before: order.measure.not_before.to_string(),
        not_after: order.measure.not_after.to_string(),
        not_before_seconds: order.measure.not_before.as_second(),
        not_after_seconds: order.measure.not_after.as_second(),
    }
}

fn lease(agent: &Agent) -> LeaseStatus {
    let view = lock(&agent.lease);
    let left_ns = clock::boot_ns().map_or(0, |now| view.lease.deadline_ns.saturating_sub(now));
    LeaseStatus {
        live: left_ns > 0,
        seconds_left: as_float(left_ns) / 1e9,
        refused: view.refused.clone(),
        refused_total: view.refused_total,
    }
}

fn clock_status(agent: &Agent) -> ClockStatus {
    let view = lock(&agent.clock);
    ClockStatus {
        synchronised: view.synchronised,
        required: !agent.config.clock_not_required(),
        steps_back_total: view.steps_back_total,
        steps_forward_total: view.steps_forward_total,
    }
}

fn counter_status(counters: &Counters) -> CounterStatus {
    let measure = counters.measures.first().copied().unwrap_or_default();
    let mut verdicts: BTreeMap<String, u64> = named(&FACILITY_VERDICT_NAMES, &counters.facility_verdicts);
    verdicts.append(&mut named(&VERDICT_NAMES, &measure.verdicts));
    CounterStatus {
        observed_packets: counters.observed_packets,
        observed_bytes: counters.observed_bytes,
        judged_packets: counters.judged_packets(),
        verdicts,
        reasons: named(&REASON_NAMES, &counters.reasons),
        admitted_packets: measure.admitted_packets,
        admitted_bytes: measure.admitted_bytes,
        ring_lost: measure.ring_lost,
    }
}

fn named(names: &[&str], counts: &[u64]) -> BTreeMap<String, u64> {
    names.iter().zip(counts).map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn share(agent: &Agent) -> ShareStatus {
    let capacity_bits_per_second = agent.admitted.order.facility.capacity_bits_per_second;
    let share = lock(&agent.share);
    ShareStatus {
        capacity_bits_per_second,
        limit: f64::from(agent.admitted.share_ppm) / as_float(PPM),
        used_max: share.max().ratio(capacity_bits_per_second),
        used: share.last().ratio(capacity_bits_per_second),
    }
}

fn records(agent: &Agent) -> RecordStatus {
    let counts = &agent.records;
    RecordStatus {
        drained: counts.drained.load(Ordering::Relaxed),
        spooled: counts.spooled.load(Ordering::Relaxed),
        refused: counts.refused.load(Ordering::Relaxed),
        invalid: counts.invalid.load(Ordering::Relaxed) + counts.entries.load(Ordering::Relaxed),
    }
}

fn spool(agent: &Agent) -> SpoolView {
    let status = agent.spool.status();
    SpoolView {
        bytes: status.bytes,
        bytes_max: agent.config.spool.bytes_max,
        messages: status.messages,
        appended_total: status.appended_total,
        refused_total: status.refused_total,
        trimmed_total: status.trimmed_total,
    }
}

fn delivery(agent: &Agent) -> DeliveryStatus {
    let export = &agent.export;
    let sessions = export.sessions.load(Ordering::Relaxed);
    DeliveryStatus {
        connected: export.connected.load(Ordering::Relaxed),
        acknowledging: export.acknowledging.load(Ordering::Relaxed),
        sessions,
        failures: export.reconnects.load(Ordering::Relaxed),
        sent_messages: export.sent_messages.load(Ordering::Relaxed),
        resent_messages: export.resent_messages.load(Ordering::Relaxed),
        sent_records: export.sent_records.load(Ordering::Relaxed),
        acknowledged_records: export.acknowledged_records.load(Ordering::Relaxed),
        acknowledged_messages: agent.spool.first_sequence(),
        damaged_messages: export.damaged_messages.load(Ordering::Relaxed),
        last_error: export.last_error().map(|(code, _text)| code.to_owned()),
    }
}

/// For display only: nothing is decided by it.
#[expect(clippy::cast_precision_loss, reason = "seconds and ratios on a status page")]
fn as_float(value: u64) -> f64 {
    value as f64
}
