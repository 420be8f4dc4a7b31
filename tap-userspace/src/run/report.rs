//! The agent's state as numbers and digests, for `gwtap status` and the metrics page.

use super::agent::{Agent, lock};
use super::measure::Measure;
use super::{orders, sampling};
use crate::clock;
use crate::config::{Attach, Mode};
use crate::control::status::{
    ClockStatus, CounterStatus, DeliveryStatus, DirectiveStatus, KillSwitchStatus, LeaseStatus, LogStatus,
    MeasureCounterStatus, MeasureStatus, OrderStatus, OversightStatus, RecordStatus, SamplingStatus, ShareStatus,
    SpoolView, Status,
};
use crate::directive::Directive;
use crate::directive::restriction::Restriction;
use crate::loader::Reading;
use crate::metrics::interface;
use crate::metrics::share::Shares;
use crate::order::Order;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use tap_common::abi::counter::{Counters, FACILITY_VERDICT_NAMES, REASON_NAMES, VERDICT_NAMES};
use tap_common::limits::PPM;

/// The state now. Counters that cannot be read are zero, and the log says why.
pub(super) fn status(agent: &Agent) -> Status {
    let Reading { counters, boot_ns: counters_read_boot_ns } =
        agent.with_tap(|tap| tap.reading()).unwrap_or_else(|error| {
            tracing::error!(%error, "counters");
            Reading::default()
        });
    let program = lock(&agent.tap).as_ref().and_then(|tap| tap.program_info().map(|info| hex::encode(info.digest)));
    let config = &agent.config;
    let facility_share_ppm = lock(&agent.permission).facility_share_ppm;
    let (admitted_packets, admitted_bytes) = admitted(agent, &counters);
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        host: config.host.name.clone(),
        host_key: agent.host.host_key.to_string(),
        instance: hex::encode(agent.instance),
        interface: config.mirror.interface.clone(),
        mode: if config.mirror.mode == Mode::Mirror { "mirror" } else { "inline" }.into(),
        attach: if config.mirror.attach == Attach::Native { "native" } else { "generic" }.into(),
        transport: config.mirror.transport.as_ref().map(ToString::to_string),
        program_digest: program.unwrap_or_default(),
        facility: agent.host.facility.id.clone(),
        clock: clock_status(agent),
        counters_read_boot_ns,
        counters: CounterStatus {
            observed_packets: counters.observed_packets,
            observed_bytes: counters.observed_bytes,
            verdicts: named(&FACILITY_VERDICT_NAMES, &counters.facility_verdicts),
            reasons: named(&REASON_NAMES, &counters.reasons),
            admitted_packets,
            admitted_bytes,
        },
        interface_counters: interface::read(&config.mirror.interface).unwrap_or_default(),
        share: share(agent, facility_share_ppm, &lock(&agent.share)),
        invalid_entries: agent.invalid.load(Ordering::Relaxed) + agent.entries.load(Ordering::Relaxed),
        sampling_seeds: agent.seeds_total.load(Ordering::Relaxed),
        documentation_prefixes: config.country_table.documentation_prefixes,
        log: log(agent),
        api: agent.config.control.api.as_ref().map(|_| lock(&agent.api).clone()),
        measures: agent.measures.iter().map(|measure| measure_status(agent, measure, &counters)).collect(),
    }
}

fn log(agent: &Agent) -> LogStatus {
    let head = agent.audit.head();
    LogStatus {
        entries: head.entries,
        root: hex::encode(head.root),
        latest_seconds: head.latest.map_or(0, jiff::Timestamp::as_second),
        failed_total: head.failed_total,
    }
}

/// Packets and bytes that were admitted for at least one measure. The kernel counts them once for all where there are
/// several; a measure that is alone has them in its own counters.
pub(super) fn admitted(agent: &Agent, counters: &Counters) -> (u64, u64) {
    match (agent.measures.as_slice(), counters.measures.first()) {
        ([_], Some(only)) => (only.admitted_packets, only.admitted_bytes),
        _ => (counters.admitted_packets, counters.admitted_bytes),
    }
}

fn measure_status(agent: &Agent, measure: &Measure, counters: &Counters) -> MeasureStatus {
    let slot = usize::from(measure.slot);
    let counted = counters.measures.get(slot).copied().unwrap_or_default();
    // Before the rest: each of these holds a lock, and the share below needs one of them.
    let restriction = lock(&measure.restriction).clone();
    let order = order(&lock(&measure.chain), &restriction);
    let oversight = oversight(&restriction);
    MeasureStatus {
        order,
        oversight,
        selectors: lock(&measure.active).status.clone(),
        lease: lease(measure),
        counters: MeasureCounterStatus {
            verdicts: named(&VERDICT_NAMES, &counted.verdicts),
            idle_packets: counted.idle_packets,
            judged_packets: counters.judged_packets_of(slot),
            admitted_packets: counted.admitted_packets,
            admitted_bytes: counted.admitted_bytes,
            ring_lost: counted.ring_lost,
        },
        share: share(agent, measure.share_ppm(), &lock(&measure.share)),
        sampling: sampling(measure),
        records: records(measure),
        spool: spool(measure),
        delivery: delivery(measure),
    }
}

/// The order in force with the whole time that it and those which extend it give; the end in seconds is what directives and revoked
/// keys left of it.
fn order(chain: &[Order], restriction: &Restriction) -> OrderStatus {
    let (Some(first), Some(last)) = (chain.first(), chain.last()) else { return OrderStatus::default() };
    let now = jiff::Timestamp::now();
    let order = chain.iter().rev().find(|order| order.measure.not_before <= now).unwrap_or(first);
    let window = orders::window(chain, restriction).ok().map(|window| i128::from(window.not_after_ns));
    let ends = window.and_then(|ns| jiff::Timestamp::from_nanosecond(ns).ok());
    let not_after = ends.unwrap_or(last.measure.not_after);
    OrderStatus {
        extensions: chain.iter().skip(1).map(|order| hex::encode(order.sha256)).collect(),
        measure: order.measure.id.clone(),
        basis: order.measure.basis.to_string(),
        facility: order.facility.id.clone(),
        sha256: hex::encode(order.sha256),
        not_before: first.measure.not_before.to_string(),
        not_after: last.measure.not_after.to_string(),
        not_before_seconds: first.measure.not_before.as_second(),
        not_after_seconds: not_after.as_second(),
    }
}

/// What binds the measure beyond its order.
fn oversight(restriction: &Restriction) -> OversightStatus {
    let directive = |note: &String| {
        let directive = Directive::parse_unsigned(note).ok()?;
        Some(DirectiveStatus {
            number: directive.number,
            kind: directive.kind.to_string(),
            reason: directive.reason,
            issued: directive.issued.to_string(),
            sha256: hex::encode(crate::keys::sha256(note.as_bytes())),
        })
    };
    OversightStatus {
        number: restriction.number,
        stopped: restriction.stopped.clone(),
        facility_share_ppm: restriction.share_ppm,
        not_after: restriction
            .not_after_ns
            .and_then(|ns| jiff::Timestamp::from_nanosecond(i128::from(ns)).ok().map(|end| end.to_string())),
        kill_switch: restriction
            .kill_switch
            .as_ref()
            .map(|switch| KillSwitchStatus { reason: switch.reason.clone(), since: switch.since.clone() }),
        directives: restriction.directives.iter().filter_map(directive).collect(),
    }
}

fn lease(measure: &Measure) -> LeaseStatus {
    let view = lock(&measure.lease);
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
        doubt: view.doubt.map(str::to_owned),
        max_error_seconds: as_float(view.error_ns) / 1e9,
        steps_back_total: view.steps_back_total,
        steps_forward_total: view.steps_forward_total,
    }
}

fn named(names: &[&str], counts: &[u64]) -> BTreeMap<String, u64> {
    names.iter().zip(counts).map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn share(agent: &Agent, share_ppm: u32, share: &Shares) -> ShareStatus {
    let [second, minute, hour] = share.max().map(|rate| rate.ratio(agent.host.facility.capacity_bits_per_second));
    let capacity_bits_per_second = agent.host.facility.capacity_bits_per_second;
    ShareStatus {
        capacity_bits_per_second,
        limit: f64::from(share_ppm) / as_float(PPM),
        used_max: second,
        used_max_minute: minute,
        used_max_hour: hour,
        used: share.last().ratio(capacity_bits_per_second),
    }
}

fn sampling(measure: &Measure) -> SamplingStatus {
    let sample = lock(&measure.sample);
    let ratio = |threshold| f64::from(sampling::ppm(threshold)) / as_float(PPM);
    SamplingStatus { ratio: ratio(sample.threshold()), limit: ratio(sample.ceiling()), changes: sample.changes_total }
}

fn records(measure: &Measure) -> RecordStatus {
    let counts = &measure.records;
    RecordStatus {
        drained: counts.drained.load(Ordering::Relaxed),
        spooled: counts.spooled.load(Ordering::Relaxed),
        refused: counts.refused.load(Ordering::Relaxed),
        invalid: counts.invalid.load(Ordering::Relaxed),
    }
}

fn spool(measure: &Measure) -> SpoolView {
    let status = measure.spool.status();
    SpoolView {
        bytes: status.bytes,
        bytes_max: measure.config.spool.bytes_max,
        messages: status.messages,
        appended_total: status.appended_total,
        refused_total: status.refused_total,
        trimmed_total: status.trimmed_total,
    }
}

fn delivery(measure: &Measure) -> DeliveryStatus {
    let export = &measure.export;
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
        acknowledged_messages: measure.spool.first_sequence(),
        damaged_messages: export.damaged_messages.load(Ordering::Relaxed),
        last_error: export.last_error().map(|(code, _text)| code.to_owned()),
    }
}

/// For display only: nothing is decided by it.
#[expect(clippy::cast_precision_loss, reason = "seconds and ratios on a status page")]
fn as_float(value: u64) -> f64 {
    value as f64
}
