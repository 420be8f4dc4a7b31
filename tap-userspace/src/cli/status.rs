//! `gwtap status`: how the running agent is, by its control socket.

use super::agent::Socket;
use crate::control::status::{LeaseStatus, MeasureStatus, OversightStatus, ShareStatus, Status};
use crate::control::{Request, Response, client};
use anyhow::bail;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// How the running agent is: for each measure order, lease, verdicts, share, sample, spool, delivery. Digests and counts, never contents.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gwtap status
  gwtap status --json | jq .share
  gwtap status --socket /run/gwtap/control.sock")]
pub struct Args {
    #[command(flatten)]
    socket: Socket,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// The agent cannot be reached, or answered with something else.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match client::ask(&args.socket.path()?, &Request::Status)? {
        Response::Status(status) if args.json => println!("{}", serde_json::to_string_pretty(&status)?),
        Response::Status(status) => print!("{}", table(&status)),
        Response::Refused { reason } | Response::Failed { reason } => bail!("{reason}"),
        Response::Loaded(_) | Response::Done { .. } => {
            bail!("the agent answered another question; is it of this version?")
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The status as a person reads it.
pub(super) fn table(status: &Status) -> String {
    let yes = |flag: bool| if flag { "yes" } else { "no" };
    let mut rows: Vec<(&str, String)> = vec![
        ("host", format!("{} (key {})", status.host, short(&status.host_key))),
        ("mirror port", format!("{} ({}, {})", status.interface, status.mode, status.attach)),
        ("mirror transport", status.transport.clone().unwrap_or_else(|| "none".into())),
        ("program", short(&status.program_digest).to_owned()),
        (
            "clock",
            format!(
                "synchronised: {}, required: {}{}",
                yes(status.clock.synchronised),
                yes(status.clock.required),
                status.clock.doubt.as_ref().map(|doubt| format!("; in doubt: {doubt}")).unwrap_or_default()
            ),
        ),
        ("facility", format!("{}; {}", status.facility, share(&status.share))),
        ("observed", format!("{} packets, {} bytes", status.counters.observed_packets, status.counters.observed_bytes)),
        ("before measures", verdicts(&status.counters.verdicts)),
    ];
    let log = &status.log;
    rows.push((
        "audit log",
        format!("{} entries, root {}, {} missing", log.entries, short(&log.root), log.failed_total),
    ));
    if status.documentation_prefixes {
        rows.push(("laboratory", "the country table takes documentation prefixes".into()));
    }
    for measure in &status.measures {
        rows.push(("", String::new()));
        rows.extend(measure_rows(measure));
    }
    rows.iter().map(|(name, value)| format!("{:<18} {value}", *name).trim_end().to_owned() + "\n").collect()
}

fn measure_rows(measure: &MeasureStatus) -> Vec<(&'static str, String)> {
    let yes = |flag: bool| if flag { "yes" } else { "no" };
    let MeasureStatus { order, selectors, counters, sampling, records, spool, delivery, .. } = measure;
    vec![
        ("measure", format!("{} ({})", order.measure, order.basis)),
        ("order", format!("{} from {} until {}", short(&order.sha256), order.not_before, order.not_after)),
        (
            "selectors",
            format!(
                "generation {}, version {}, {} rules, {} until {}",
                selectors.generation,
                selectors.set_version,
                selectors.rules,
                short(&selectors.set_sha256),
                selectors.valid_until
            ),
        ),
        ("lease", lease(&measure.lease)),
        ("oversight", oversight(&measure.oversight)),
        ("share of capacity", share(&measure.share)),
        (
            "sample",
            format!(
                "{} of the flows, limit {}, {} changes",
                percent(sampling.ratio),
                percent(sampling.limit),
                sampling.changes
            ),
        ),
        ("verdicts", format!("{}; {} packets without a lease", verdicts(&counters.verdicts), counters.idle_packets)),
        (
            "records",
            format!(
                "{} drained, {} spooled, {} refused; {} lost in the rings",
                records.drained, records.spooled, records.refused, counters.ring_lost
            ),
        ),
        (
            "spool",
            format!(
                "{} messages, {} of {} bytes, {} refused",
                spool.messages, spool.bytes, spool.bytes_max, spool.refused_total
            ),
        ),
        (
            "delivery",
            format!(
                "connected: {}, {} messages sent, {} records acknowledged{}",
                yes(delivery.connected),
                delivery.sent_messages,
                delivery.acknowledged_records,
                delivery.last_error.as_ref().map(|error| format!("; last error: {error}")).unwrap_or_default()
            ),
        ),
    ]
}

fn verdicts(verdicts: &BTreeMap<String, u64>) -> String {
    let named: Vec<_> = verdicts
        .iter()
        .filter(|(_, packets)| **packets > 0)
        .map(|(name, packets)| format!("{name} {packets}"))
        .collect();
    if named.is_empty() { "none yet".into() } else { named.join(", ") }
}

fn share(share: &ShareStatus) -> String {
    format!(
        "at most {} in any second or longer, limit {} of {} bit/s",
        percent(share.used_max),
        percent(share.limit),
        share.capacity_bits_per_second
    )
}

fn lease(lease: &LeaseStatus) -> String {
    let refused = lease.refused.as_ref().map(|reason| format!("; not renewed: {reason}")).unwrap_or_default();
    if lease.live {
        format!("live, {:.1} s left{refused}", lease.seconds_left)
    } else {
        format!("none: nothing is selected{refused}")
    }
}

/// What binds the measure beyond its order.
fn oversight(of: &OversightStatus) -> String {
    let mut words = Vec::new();
    if let Some(reason) = &of.stopped {
        words.push(format!("STOPPED by the Commission: {reason}"));
    }
    if let Some(switch) = &of.kill_switch {
        words.push(format!("STOPPED by the carrier since {}: {}", switch.since, switch.reason));
    }
    words.extend(of.facility_share_ppm.map(|share_ppm| format!("facility's share lowered to {share_ppm} ppm")));
    words.extend(of.not_after.as_ref().map(|end| format!("ends {end}")));
    match (of.number, words.is_empty()) {
        (0, true) => "none".into(),
        (0, false) => words.join("; "),
        (number, _) => format!("{}; last directive {number}", words.join("; ")),
    }
}

fn percent(ratio: f64) -> String {
    format!("{:.2} %", ratio * 100.0)
}

/// A digest's beginning: enough for a person to compare; `--json` has it whole.
fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_an_operator_asks_first() {
        let mut measure = MeasureStatus::default();
        measure.lease.refused = Some("the order or the activation has ended".into());
        measure.counters.verdicts = [("selected".to_owned(), 3), ("over_cap".to_owned(), 0)].into();
        measure.share.used_max = 0.2951;
        let mut status = Status { host: "mirror-1".into(), ..Status::default() };
        for id in ["m-1", "m-2"] {
            measure.order.measure = id.into();
            status.measures.push(measure.clone());
        }
        let table = table(&status);
        assert!(table.contains("nothing is selected; not renewed: the order or the activation has ended"), "{table}");
        assert!(table.contains("29.51 %") && table.contains("selected 3; 0 packets without a lease\n"), "{table}");
        assert!(table.contains("measure            m-1 (") && table.contains("measure            m-2 ("), "{table}");
        assert!(!table.contains("over_cap"), "{table}");
    }
}
