//! [`Status`] as Prometheus text.
//!
//! Base units; `_total` on counters, `_ratio`, `_bytes`, `_seconds`, `_info` as the names' last word.

use crate::control::status::Status;
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use tap_common::abi::counter::FACILITY_VERDICT_NAMES;

/// Every label name there may be. None of them can hold an address, a port, an AS or a rule.
pub const LABEL_NAMES: [&str; 11] = [
    "measure",
    "facility",
    "verdict",
    "reason",
    "interface",
    "version",
    "program_sha256",
    "order_sha256",
    "set_sha256",
    "host_key",
    "map_instance",
];

/// The page for `status`.
///
/// # Errors
/// A family is defined twice or badly: a mistake in this file, which its tests look for.
pub fn encode(status: &Status) -> Result<String, prometheus::Error> {
    let page = Page { registry: Registry::new() };
    packets(&page, status)?;
    share(&page, status)?;
    permission(&page, status)?;
    delivery(&page, status)?;
    identity(&page, status)?;
    TextEncoder::new().encode_to_string(&page.registry.gather())
}

/// What the kernel and the interface counted.
fn packets(page: &Page, status: &Status) -> Result<(), prometheus::Error> {
    let counters = &status.counters;
    let port = [("interface", status.interface.as_str())];
    page.counter(
        "gwtap_observed_packets_total",
        "Packets seen by the program, counted on entry.",
        &port,
        counters.observed_packets,
    )?;
    page.counter("gwtap_observed_bytes_total", "Bytes on the line of packets seen.", &port, counters.observed_bytes)?;
    let verdicts = page.counters(
        "gwtap_verdict_packets_total",
        "Packets by verdict; their sum is the packets observed. Verdicts before any measure carry an empty measure.",
        &["measure", "facility", "verdict"],
    )?;
    for (name, packets) in &counters.verdicts {
        let measure = if FACILITY_VERDICT_NAMES.contains(&name.as_str()) { "" } else { status.order.measure.as_str() };
        verdicts.with_label_values(&[measure, status.order.facility.as_str(), name.as_str()]).inc_by(*packets);
    }
    let reasons = page.counters(
        "gwtap_reason_packets_total",
        "Malformed and unsupported packets by reason.",
        &["facility", "reason"],
    )?;
    for (name, packets) in &counters.reasons {
        reasons.with_label_values(&[status.order.facility.as_str(), name.as_str()]).inc_by(*packets);
    }
    let seen = &status.interface_counters;
    page.counter(
        "gwtap_interface_receive_packets_total",
        "Packets the mirror port received.",
        &port,
        seen.receive_packets,
    )?;
    page.counter("gwtap_interface_receive_bytes_total", "Bytes the mirror port received.", &port, seen.receive_bytes)?;
    page.counter(
        "gwtap_interface_receive_drop_packets_total",
        "Packets that driver or hardware dropped or missed before the program.",
        &port,
        seen.receive_dropped,
    )?;
    page.counter(
        "gwtap_interface_receive_error_packets_total",
        "Packets received with errors.",
        &port,
        seen.receive_errors,
    )
}

/// Use of the facility's capacity (Arts 17, 32, 33).
fn share(page: &Page, status: &Status) -> Result<(), prometheus::Error> {
    let facility = [("facility", status.order.facility.as_str())];
    let measure = [("measure", status.order.measure.as_str())];
    let counters = &status.counters;
    page.counter(
        "gwtap_admitted_packets_total",
        "Packets the cap admitted to selection.",
        &measure,
        counters.admitted_packets,
    )?;
    page.counter(
        "gwtap_admitted_bytes_total",
        "Bytes on the line of the admitted packets.",
        &measure,
        counters.admitted_bytes,
    )?;
    let share = &status.share;
    page.gauge(
        "gwtap_facility_capacity_bytes_per_second",
        "Transmission capacity of the facility, as the order states it in bit/s, in Prometheus' base unit.",
        &facility,
        as_float(share.capacity_bits_per_second) / 8.0,
    )?;
    page.gauge("gwtap_share_limit_ratio", "Part of the capacity that may be admitted.", &facility, share.limit)?;
    page.gauge(
        "gwtap_share_used_ratio",
        "Part of the capacity admitted in the window of about a second that has just ended.",
        &facility,
        share.used,
    )?;
    page.gauge(
        "gwtap_share_used_max_ratio",
        "Highest part of the capacity admitted in any sliding window of one second or longer since the start.",
        &facility,
        share.used_max,
    )
}

/// Lease, order, activation, clock.
fn permission(page: &Page, status: &Status) -> Result<(), prometheus::Error> {
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
        "First instant after the order.",
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
    )?;
    let clock = &status.clock;
    page.flag(
        "gwtap_clock_synchronised",
        "The kernel reports that the clock is synchronised.",
        &[],
        clock.synchronised,
    )?;
    page.flag(
        "gwtap_clock_required",
        "The lease depends on a synchronised clock; 0 is a laboratory's exception.",
        &[],
        clock.required,
    )?;
    page.counter(
        "gwtap_clock_steps_back_total",
        "Steps back of the clock seen since the start.",
        &[],
        clock.steps_back_total,
    )?;
    page.counter(
        "gwtap_clock_steps_forward_total",
        "Steps forward of the clock seen since the start.",
        &[],
        clock.steps_forward_total,
    )?;
    page.flag(
        "gwtap_country_table_documentation_prefixes",
        "The country table takes documentation prefixes; 1 is a laboratory's exception.",
        &[],
        status.documentation_prefixes,
    )
}

/// Rings, spool, receiving facility.
fn delivery(page: &Page, status: &Status) -> Result<(), prometheus::Error> {
    let measure = [("measure", status.order.measure.as_str())];
    page.counter("gwtap_ring_lost_records_total", "Records a full ring lost.", &measure, status.counters.ring_lost)?;
    let records = &status.records;
    page.counter("gwtap_ring_invalid_entries_total", "Ring entries that are no records.", &[], records.invalid)?;
    page.counter("gwtap_drained_records_total", "Records taken from the rings.", &measure, records.drained)?;
    page.counter("gwtap_spooled_records_total", "Records written to the spool.", &measure, records.spooled)?;
    page.counter(
        "gwtap_spool_refused_records_total",
        "Records lost because the spool was full or failed.",
        &measure,
        records.refused,
    )?;
    let spool = &status.spool;
    page.integer("gwtap_spool_bytes", "Bytes of the spool on disk.", &[], spool.bytes)?;
    page.integer("gwtap_spool_max_bytes", "Bytes the spool may take.", &[], spool.bytes_max)?;
    page.integer("gwtap_spool_messages", "Messages not acknowledged.", &[], spool.messages)?;
    page.counter("gwtap_spool_appended_messages_total", "Messages the spool took.", &[], spool.appended_total)?;
    page.counter("gwtap_spool_refused_messages_total", "Messages the full spool refused.", &[], spool.refused_total)?;
    page.counter(
        "gwtap_spool_trimmed_messages_total",
        "Messages trimmed after acknowledgement.",
        &[],
        spool.trimmed_total,
    )?;
    let delivery = &status.delivery;
    page.flag("gwtap_export_connected", "A session with the receiving facility is open.", &[], delivery.connected)?;
    page.flag("gwtap_export_acknowledging", "Its peer acknowledges durable storage.", &[], delivery.acknowledging)?;
    page.counter("gwtap_export_sessions_total", "Sessions opened.", &[], delivery.sessions)?;
    page.counter("gwtap_export_failures_total", "Sessions that ended, attempts that failed.", &[], delivery.failures)?;
    page.counter("gwtap_export_sent_messages_total", "Messages sent for the first time.", &[], delivery.sent_messages)?;
    page.counter("gwtap_export_resent_messages_total", "Messages sent again.", &[], delivery.resent_messages)?;
    page.counter(
        "gwtap_export_sent_records_total",
        "Records in messages sent for the first time.",
        &[],
        delivery.sent_records,
    )?;
    page.counter(
        "gwtap_export_damaged_messages_total",
        "Messages the spool could not give back: lost.",
        &[],
        delivery.damaged_messages,
    )?;
    page.counter(
        "gwtap_export_acknowledged_messages_total",
        "Messages whose durable storage was acknowledged.",
        &[],
        delivery.acknowledged_messages,
    )?;
    page.counter(
        "gwtap_export_acknowledged_records_total",
        "Records whose durable storage was acknowledged.",
        &[],
        delivery.acknowledged_records,
    )
}

/// What runs, by digest.
fn identity(page: &Page, status: &Status) -> Result<(), prometheus::Error> {
    page.integer(
        "gwtap_program_info",
        "Digests of what runs: SHA-256 over object, load-time constants and tables; of the order; of the selector set.",
        &[
            ("version", status.version.as_str()),
            ("program_sha256", status.program_digest.as_str()),
            ("order_sha256", status.order.sha256.as_str()),
            ("set_sha256", status.selectors.set_sha256.as_str()),
            ("host_key", status.host_key.as_str()),
            ("map_instance", status.instance.as_str()),
        ],
        1,
    )
}

/// For display only: nothing is decided by it.
#[expect(clippy::cast_precision_loss, reason = "Prometheus' numbers are floats")]
fn as_float(value: u64) -> f64 {
    value as f64
}

type Labels<'a> = [(&'a str, &'a str)];

/// Families of one page.
struct Page {
    registry: Registry,
}

impl Page {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        let family = IntCounterVec::new(Opts::new(name, help), &checked(labels)?)?;
        self.registry.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn counter(&self, name: &str, help: &str, labels: &Labels<'_>, value: u64) -> Result<(), prometheus::Error> {
        self.counters(name, help, &names(labels))?.with_label_values(&values(labels)).inc_by(value);
        Ok(())
    }

    fn gauge(&self, name: &str, help: &str, labels: &Labels<'_>, value: f64) -> Result<(), prometheus::Error> {
        let family = GaugeVec::new(Opts::new(name, help), &checked(&names(labels))?)?;
        self.registry.register(Box::new(family.clone()))?;
        family.with_label_values(&values(labels)).set(value);
        Ok(())
    }

    fn time(&self, name: &str, help: &str, labels: &Labels<'_>, seconds: i64) -> Result<(), prometheus::Error> {
        let family = IntGaugeVec::new(Opts::new(name, help), &checked(&names(labels))?)?;
        self.registry.register(Box::new(family.clone()))?;
        family.with_label_values(&values(labels)).set(seconds);
        Ok(())
    }

    fn integer(&self, name: &str, help: &str, labels: &Labels<'_>, value: u64) -> Result<(), prometheus::Error> {
        self.time(name, help, labels, i64::try_from(value).unwrap_or(i64::MAX))
    }

    fn flag(&self, name: &str, help: &str, labels: &Labels<'_>, value: bool) -> Result<(), prometheus::Error> {
        self.time(name, help, labels, i64::from(value))
    }
}

/// Label names, all of them on the closed list.
fn checked<'a>(labels: &[&'a str]) -> Result<Vec<&'a str>, prometheus::Error> {
    match labels.iter().find(|name| !LABEL_NAMES.contains(name)) {
        Some(name) => Err(prometheus::Error::Msg(format!("label {name} is not on the closed list"))),
        None => Ok(labels.to_vec()),
    }
}

fn names<'a>(labels: &Labels<'a>) -> Vec<&'a str> {
    labels.iter().map(|(name, _)| *name).collect()
}

fn values<'a>(labels: &Labels<'a>) -> Vec<&'a str> {
    labels.iter().map(|(_, value)| *value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn sample() -> Status {
        let mut status = Status { interface: "mirror0".into(), ..Status::default() };
        status.order.measure = "m-1".into();
        status.order.facility = "f-1".into();
        status.counters.observed_packets = 9_007_199_254_740_991;
        status.counters.verdicts = [("malformed".to_owned(), 2), ("selected".to_owned(), 5)].into();
        status.counters.reasons = BTreeMap::from([("vlan_short".to_owned(), 2)]);
        status.share.used_max = 0.294;
        status.share.capacity_bits_per_second = 100_000_000_004;
        status
    }

    #[test]
    fn numbers_stand_on_the_page_exactly() {
        let page = encode(&sample()).unwrap();
        for line in [
            "gwtap_observed_packets_total{interface=\"mirror0\"} 9007199254740991",
            "gwtap_verdict_packets_total{facility=\"f-1\",measure=\"m-1\",verdict=\"selected\"} 5",
            "gwtap_verdict_packets_total{facility=\"f-1\",measure=\"\",verdict=\"malformed\"} 2",
            "gwtap_reason_packets_total{facility=\"f-1\",reason=\"vlan_short\"} 2",
            "gwtap_facility_capacity_bytes_per_second{facility=\"f-1\"} 12500000000.5",
            "gwtap_share_used_max_ratio{facility=\"f-1\"} 0.294",
            "gwtap_lease_live{measure=\"m-1\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not on\n{page}");
        }
    }

    #[test]
    fn no_label_can_tell_of_one_partys_traffic() {
        let page = encode(&sample()).unwrap();
        let mut seen = BTreeSet::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("gwtap_"), "{line}");
            let Some((_, rest)) = line.split_once('{') else { continue };
            let labels = rest.rsplit_once('}').unwrap().0;
            seen.extend(labels.split(',').map(|label| label.split_once('=').unwrap().0.to_owned()));
        }
        let listed: BTreeSet<_> = LABEL_NAMES.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(seen, listed, "the closed list and the page differ");
        for forbidden in ["address", "port", "rule", "prefix", "source", "destination", "asn"] {
            assert!(!LABEL_NAMES.iter().any(|name| name.split('_').any(|word| word == forbidden)), "{forbidden}");
        }
        assert!(checked(&["source_address"]).is_err());
    }
}
