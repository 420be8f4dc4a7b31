//! A measure's rows. In: its status. Out: rows that carry its label.

use super::VERDICTS;
use crate::control::status::{MeasureStatus, Status};
use crate::metrics::page::Page;

/// Everything that is one measure's.
pub(super) fn rows(page: &Page, status: &Status, measure: &MeasureStatus) -> Result<(), prometheus::Error> {
    counts(page, status, measure)?;
    share(page, status, measure)?;
    permission(page, measure)?;
    oversight(page, measure)?;
    spool(page, measure)?;
    delivery(page, measure)?;
    identity(page, measure)
}

/// What the kernel counted of a measure.
fn counts(page: &Page, status: &Status, measure: &MeasureStatus) -> Result<(), prometheus::Error> {
    let (id, facility) = (measure.order.measure.as_str(), status.facility.as_str());
    let label = [("measure", id)];
    let counters = &measure.counters;
    for (name, packets) in &counters.verdicts {
        let labels = [("measure", id), ("facility", facility), ("verdict", name.as_str())];
        page.counter("gwtap_verdict_packets_total", VERDICTS, &labels, *packets)?;
    }
    page.counter(
        "gwtap_idle_packets_total",
        "Packets decided for other measures while this one had no lease.",
        &label,
        counters.idle_packets,
    )?;
    page.counter(
        "gwtap_judged_packets_total",
        "Facility verdicts, the measure's verdicts and its idle packets: at rest as many as were observed.",
        &label,
        counters.judged_packets,
    )?;
    page.counter(
        "gwtap_admitted_packets_total",
        "Packets the cap admitted to selection.",
        &label,
        counters.admitted_packets,
    )?;
    page.counter(
        "gwtap_admitted_bytes_total",
        "Bytes on the line of the admitted packets.",
        &label,
        counters.admitted_bytes,
    )?;
    page.counter("gwtap_ring_lost_records_total", "Records a full ring lost.", &label, counters.ring_lost)
}

/// A measure's use of the facility's capacity, and the part of the flows it looks at.
fn share(page: &Page, status: &Status, measure: &MeasureStatus) -> Result<(), prometheus::Error> {
    let labels = [("measure", measure.order.measure.as_str()), ("facility", status.facility.as_str())];
    let share = &measure.share;
    page.gauge("gwtap_share_limit_ratio", "Part of the capacity that may be admitted.", &labels, share.limit)?;
    page.gauge(
        "gwtap_share_used_ratio",
        "Part of the capacity admitted in the window of about a second that has just ended.",
        &labels,
        share.used,
    )?;
    page.gauge(
        "gwtap_share_used_max_ratio",
        "Highest part of the capacity admitted in any sliding window of one second or longer since the start.",
        &labels,
        share.used_max,
    )?;
    page.gauge(
        "gwtap_share_used_minute_max_ratio",
        "Highest part of the capacity admitted in any sliding window of a minute or longer since the start.",
        &labels,
        share.used_max_minute,
    )?;
    page.gauge(
        "gwtap_share_used_hour_max_ratio",
        "Highest part of the capacity admitted in any sliding window of an hour or longer since the start.",
        &labels,
        share.used_max_hour,
    )?;
    let (measure, sampling) = ([labels[0]], &measure.sampling);
    page.gauge("gwtap_sampling_threshold_ratio", "Part of the flows in the sample now.", &measure, sampling.ratio)?;
    page.gauge("gwtap_sampling_limit_ratio", "Part of the flows that the order allows.", &measure, sampling.limit)?;
    page.counter(
        "gwtap_sampling_changes_total",
        "Changes of the part of the flows in the sample since the start.",
        &measure,
        sampling.changes,
    )
}

/// Directives of the Commission, the carrier's kill switch.
fn oversight(page: &Page, status: &MeasureStatus) -> Result<(), prometheus::Error> {
    let measure = [("measure", status.order.measure.as_str())];
    let of = &status.oversight;
    page.flag("gwtap_kill_switch", "The carrier's kill switch is thrown.", &measure, of.kill_switch.is_some())?;
    page.flag(
        "gwtap_directive_stopped",
        "A directive of the Commission has stopped the measure.",
        &measure,
        of.stopped.is_some(),
    )?;
    page.integer("gwtap_directive_number", "Highest number of a directive; 0 before the first.", &measure, of.number)?;
    page.integer(
        "gwtap_order_extensions",
        "Orders that extend the first.",
        &measure,
        status.order.extensions.len() as u64,
    )
}

/// Lease, order, activation.
fn permission(page: &Page, status: &MeasureStatus) -> Result<(), prometheus::Error> {
    let measure = [("measure", status.order.measure.as_str())];
    page.flag("gwtap_lease_live", "The kernel may select now.", &measure, status.lease.live)?;
    page.gauge(
        "gwtap_lease_left_seconds",
        "Seconds until the kernel stops by itself.",
        &measure,
        status.lease.seconds_left,
    )?;
    page.counter(
        "gwtap_lease_refused_total",
        "Renewals of the lease that were refused.",
        &measure,
        status.lease.refused_total,
    )?;
    let order = &status.order;
    page.time(
        "gwtap_order_not_before_timestamp_seconds",
        "First instant of the order.",
        &measure,
        order.not_before_seconds,
    )?;
    page.time(
        "gwtap_order_not_after_timestamp_seconds",
        "First instant after what directives and revoked keys left of the order.",
        &measure,
        order.not_after_seconds,
    )?;
    let selectors = &status.selectors;
    page.time(
        "gwtap_activation_valid_until_timestamp_seconds",
        "First instant at which the activation is void.",
        &measure,
        selectors.valid_until_seconds,
    )?;
    page.integer("gwtap_generation", "Generation: the activation's number.", &measure, selectors.generation)?;
    page.integer("gwtap_selector_rules", "Rules of the active set.", &measure, selectors.rules as u64)?;
    page.counter(
        "gwtap_selector_loads_total",
        "Selector sets that took over since the start.",
        &measure,
        selectors.loads,
    )
}

/// Records on their way to the spool, and the spool.
fn spool(page: &Page, status: &MeasureStatus) -> Result<(), prometheus::Error> {
    let measure = [("measure", status.order.measure.as_str())];
    let records = &status.records;
    page.counter(
        "gwtap_invalid_records_total",
        "Records that cannot leave: no key, or a field that the program never writes.",
        &measure,
        records.invalid,
    )?;
    page.counter("gwtap_drained_records_total", "Records taken from the rings.", &measure, records.drained)?;
    page.counter("gwtap_spooled_records_total", "Records written to the spool.", &measure, records.spooled)?;
    page.counter(
        "gwtap_spool_refused_records_total",
        "Records lost because the spool was full or failed.",
        &measure,
        records.refused,
    )?;
    let spool = &status.spool;
    page.integer("gwtap_spool_bytes", "Bytes of the spool on disk.", &measure, spool.bytes)?;
    page.integer("gwtap_spool_max_bytes", "Bytes the spool may take.", &measure, spool.bytes_max)?;
    page.integer("gwtap_spool_messages", "Messages not acknowledged.", &measure, spool.messages)?;
    page.counter("gwtap_spool_appended_messages_total", "Messages the spool took.", &measure, spool.appended_total)?;
    page.counter(
        "gwtap_spool_refused_messages_total",
        "Messages the full spool refused.",
        &measure,
        spool.refused_total,
    )?;
    page.counter(
        "gwtap_spool_trimmed_messages_total",
        "Messages trimmed after acknowledgement.",
        &measure,
        spool.trimmed_total,
    )
}

/// Delivery to the receiving facility.
fn delivery(page: &Page, status: &MeasureStatus) -> Result<(), prometheus::Error> {
    let measure = [("measure", status.order.measure.as_str())];
    let delivery = &status.delivery;
    page.flag(
        "gwtap_export_connected",
        "A session with the receiving facility is open.",
        &measure,
        delivery.connected,
    )?;
    page.flag(
        "gwtap_export_acknowledging",
        "Its peer acknowledges durable storage.",
        &measure,
        delivery.acknowledging,
    )?;
    page.counter("gwtap_export_sessions_total", "Sessions opened.", &measure, delivery.sessions)?;
    page.counter(
        "gwtap_export_failures_total",
        "Sessions that ended, attempts that failed.",
        &measure,
        delivery.failures,
    )?;
    page.counter(
        "gwtap_export_sent_messages_total",
        "Messages sent for the first time.",
        &measure,
        delivery.sent_messages,
    )?;
    page.counter("gwtap_export_resent_messages_total", "Messages sent again.", &measure, delivery.resent_messages)?;
    page.counter(
        "gwtap_export_sent_records_total",
        "Records in messages sent for the first time.",
        &measure,
        delivery.sent_records,
    )?;
    page.counter(
        "gwtap_export_damaged_messages_total",
        "Messages the spool could not give back: lost.",
        &measure,
        delivery.damaged_messages,
    )?;
    page.counter(
        "gwtap_export_acknowledged_messages_total",
        "Messages whose durable storage was acknowledged.",
        &measure,
        delivery.acknowledged_messages,
    )?;
    page.counter(
        "gwtap_export_acknowledged_records_total",
        "Records whose durable storage was acknowledged.",
        &measure,
        delivery.acknowledged_records,
    )
}

/// A measure's order and selector set, by digest.
fn identity(page: &Page, status: &MeasureStatus) -> Result<(), prometheus::Error> {
    page.integer(
        "gwtap_measure_info",
        "What a measure runs on: SHA-256 of its order and of its selector set.",
        &[
            ("measure", status.order.measure.as_str()),
            ("order_sha256", status.order.sha256.as_str()),
            ("set_sha256", status.selectors.set_sha256.as_str()),
        ],
        1,
    )
}
