//! [`Status`] as Prometheus text.
//!
//! Base units; `_total` on counters, `_ratio`, `_bytes`, `_seconds`, `_info` as the names' last word. What is a measure's
//! carries its label; what is counted once for all measures carries none, or an empty one.

mod measure;

use super::page::{Page, as_float};
use crate::control::api::wire::Kind;
use crate::control::status::Status;

/// The page for `status`.
///
/// # Errors
/// A family is defined badly: a mistake in this file, which its tests look for.
pub fn encode(status: &Status) -> Result<String, prometheus::Error> {
    let page = Page::default();
    read(&page, status)?;
    packets(&page, status)?;
    facility(&page, status)?;
    host(&page, status)?;
    log(&page, status)?;
    api(&page, status)?;
    for measure in &status.measures {
        measure::rows(&page, status, measure)?;
    }
    page.text()
}

const VERDICTS: &str = "Packets by verdict. Verdicts before any measure carry an empty measure.";

/// What the kernel and the interface counted, once for all measures.
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
    let facility = ("facility", status.facility.as_str());
    for (name, packets) in &counters.verdicts {
        let labels = [("measure", ""), facility, ("verdict", name.as_str())];
        page.counter("gwtap_verdict_packets_total", VERDICTS, &labels, *packets)?;
    }
    for (name, packets) in &counters.reasons {
        page.counter(
            "gwtap_reason_packets_total",
            "Malformed and unsupported packets by reason.",
            &[facility, ("reason", name.as_str())],
            *packets,
        )?;
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

/// The audit log's head; its root stands in `gwtap status`, as a label it would be a series an act.
fn log(page: &Page, status: &Status) -> Result<(), prometheus::Error> {
    let log = &status.log;
    page.gauge("gwtap_log_entries", "Entries of the audit log.", &[], as_float(log.entries))?;
    page.gauge(
        "gwtap_log_head_timestamp_seconds",
        "Latest time that an entry of the audit log shows; time() less this is the head's age.",
        &[],
        as_float(u64::try_from(log.latest_seconds).unwrap_or_default()),
    )?;
    page.counter(
        "gwtap_log_failed_total",
        "Acts since the start that could not be written into the audit log.",
        &[],
        log.failed_total,
    )
}

/// Calls of the control API, by outcomes of a fixed set; whose they are stands in the audit log.
fn api(page: &Page, status: &Status) -> Result<(), prometheus::Error> {
    let Some(api) = &status.api else { return Ok(()) };
    let outcomes = Kind::ALL.into_iter().map(|kind| kind.parts().0).chain(["done"]);
    for outcome in outcomes {
        let calls = api.calls.get(outcome).copied().unwrap_or_default();
        page.counter("gwtap_api_calls_total", "Calls of the control API by outcome.", &[("outcome", outcome)], calls)?;
    }
    page.counter(
        "gwtap_api_turned_away_total",
        "Handshakes that failed and calls above a client's rate at the control API.",
        &[],
        api.turned_away,
    )
}

/// When what the page shows was counted.
fn read(page: &Page, status: &Status) -> Result<(), prometheus::Error> {
    page.gauge(
        "gwtap_counters_read_boottime_seconds",
        "The kernel's boot time when the counters of this page were read: counts between two scrapes, divided by the difference of \
         this, are exact rates.",
        &[],
        as_float(status.counters_read_boot_ns) / 1e9,
    )
}

/// Use of the facility's capacity by all measures together (Arts 17, 32, 33).
fn facility(page: &Page, status: &Status) -> Result<(), prometheus::Error> {
    let facility = [("facility", status.facility.as_str())];
    let (counters, share) = (&status.counters, &status.share);
    page.counter(
        "gwtap_facility_admitted_packets_total",
        "Packets the caps admitted to selection for any measure, each once.",
        &facility,
        counters.admitted_packets,
    )?;
    page.counter(
        "gwtap_facility_admitted_bytes_total",
        "Bytes on the line of the packets admitted for any measure, each once.",
        &facility,
        counters.admitted_bytes,
    )?;
    page.gauge(
        "gwtap_facility_capacity_bytes_per_second",
        "Transmission capacity of the facility, as the orders state it in bit/s, in Prometheus' base unit.",
        &facility,
        as_float(share.capacity_bits_per_second) / 8.0,
    )?;
    page.gauge(
        "gwtap_facility_share_limit_ratio",
        "Part of the capacity that may be admitted for all live measures together.",
        &facility,
        share.limit,
    )?;
    page.gauge(
        "gwtap_facility_share_used_ratio",
        "Part of the capacity admitted for any measure in the window of about a second that has just ended.",
        &facility,
        share.used,
    )?;
    page.gauge(
        "gwtap_facility_share_used_max_ratio",
        "Highest part admitted for any measure in any sliding window of one second or longer since the start.",
        &facility,
        share.used_max,
    )?;
    page.gauge(
        "gwtap_facility_share_used_minute_max_ratio",
        "Highest part admitted for any measure in any sliding window of a minute or longer since the start.",
        &facility,
        share.used_max_minute,
    )?;
    page.gauge(
        "gwtap_facility_share_used_hour_max_ratio",
        "Highest part admitted for any measure in any sliding window of an hour or longer since the start.",
        &facility,
        share.used_max_hour,
    )
}

/// Clock, laboratory's exceptions, what runs.
fn host(page: &Page, status: &Status) -> Result<(), prometheus::Error> {
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
    for reason in crate::clock::DOUBTS {
        page.flag(
            "gwtap_clock_doubt",
            "The clock is in doubt for this reason, and no lease is renewed.",
            &[("reason", reason)],
            clock.doubt.as_deref() == Some(reason),
        )?;
    }
    page.gauge(
        "gwtap_clock_max_error_seconds",
        "The error of the clock that the kernel takes for possible.",
        &[],
        clock.max_error_seconds,
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
    )?;
    page.counter(
        "gwtap_ring_invalid_entries_total",
        "Ring entries that are no records, or of a slot without a measure.",
        &[],
        status.invalid_entries,
    )?;
    page.counter(
        "gwtap_sampling_seeds_total",
        "New seeds of the flow hash since the start.",
        &[],
        status.sampling_seeds,
    )?;
    page.integer(
        "gwtap_program_info",
        "What runs: SHA-256 over object, load-time constants and tables.",
        &[
            ("version", status.version.as_str()),
            ("program_sha256", status.program_digest.as_str()),
            ("host_key", status.host_key.as_str()),
            ("map_instance", status.instance.as_str()),
        ],
        1,
    )
}

#[cfg(test)]
mod tests;
