//! `gwtap status`: how the running agent is, by its control socket.

use crate::config::Config;
use crate::control::status::Status;
use crate::control::{Request, Response, client};
use anyhow::bail;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How the running agent is: order, lease, verdicts, share, spool, delivery. Digests and counts, never contents.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gwtap status
  gwtap status --json | jq .share
  gwtap status --socket /run/gwtap/control.sock")]
pub struct Args {
    /// The agent's control socket
    #[arg(long, conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// Configuration that names the socket
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// The agent cannot be reached, or answered with something else.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let socket = socket(args.socket, args.config.as_deref())?;
    match client::ask(&socket, &Request::Status)? {
        Response::Status(status) if args.json => println!("{}", serde_json::to_string_pretty(&status)?),
        Response::Status(status) => print!("{}", table(&status)),
        Response::Refused { reason } | Response::Failed { reason } => bail!("{reason}"),
        Response::Loaded(_) => bail!("the agent answered another question; is it of this version?"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The socket that was named, or the configuration's, or the default one.
///
/// # Errors
/// The configuration cannot be read.
pub(super) fn socket(socket: Option<PathBuf>, config: Option<&Path>) -> anyhow::Result<PathBuf> {
    Ok(match (socket, config) {
        (Some(socket), _) => socket,
        (None, Some(file)) => Config::load(file)?.control.socket,
        (None, None) => crate::config::Control::default().socket,
    })
}

fn table(status: &Status) -> String {
    let yes = |flag: bool| if flag { "yes" } else { "no" };
    let mut rows: Vec<(&str, String)> = vec![
        ("host", format!("{} (key {})", status.host, short(&status.host_key))),
        ("mirror port", format!("{} ({}, {})", status.interface, status.mode, status.attach)),
        ("mirror transport", status.transport.clone().unwrap_or_else(|| "none".into())),
        ("program", short(&status.program_digest).to_owned()),
        ("measure", format!("{} ({})", status.order.measure, status.order.basis)),
        (
            "order",
            format!(
                "{} from {} until {}",
                short(&status.order.sha256),
                status.order.not_before,
                status.order.not_after
            ),
        ),
        (
            "selectors",
            format!(
                "generation {}, version {}, {} rules, {} until {}",
                status.selectors.generation,
                status.selectors.set_version,
                status.selectors.rules,
                short(&status.selectors.set_sha256),
                status.selectors.valid_until
            ),
        ),
        ("lease", lease(status)),
        (
            "clock",
            format!("synchronised: {}, required: {}", yes(status.clock.synchronised), yes(status.clock.required)),
        ),
        (
            "share of capacity",
            format!(
                "at most {} in any second or longer, limit {} of {} bit/s",
                percent(status.share.used_max),
                percent(status.share.limit),
                status.share.capacity_bits_per_second
            ),
        ),
        ("observed", format!("{} packets, {} bytes", status.counters.observed_packets, status.counters.observed_bytes)),
    ];
    let verdicts: Vec<_> = status
        .counters
        .verdicts
        .iter()
        .filter(|(_, packets)| **packets > 0)
        .map(|(name, packets)| format!("{name} {packets}"))
        .collect();
    rows.push(("verdicts", if verdicts.is_empty() { "none yet".into() } else { verdicts.join(", ") }));
    rows.push((
        "records",
        format!(
            "{} drained, {} spooled, {} refused; {} lost in the rings",
            status.records.drained, status.records.spooled, status.records.refused, status.counters.ring_lost
        ),
    ));
    rows.push((
        "spool",
        format!(
            "{} messages, {} of {} bytes, {} refused",
            status.spool.messages, status.spool.bytes, status.spool.bytes_max, status.spool.refused_total
        ),
    ));
    rows.push((
        "delivery",
        format!(
            "connected: {}, {} messages sent, {} records acknowledged{}",
            yes(status.delivery.connected),
            status.delivery.sent_messages,
            status.delivery.acknowledged_records,
            status.delivery.last_error.as_ref().map(|error| format!("; last error: {error}")).unwrap_or_default()
        ),
    ));
    if status.documentation_prefixes {
        rows.push(("laboratory", "the country table takes documentation prefixes".into()));
    }
    rows.iter().map(|(name, value)| format!("{name:<18} {value}\n")).collect()
}

fn lease(status: &Status) -> String {
    let refused = status.lease.refused.as_ref().map(|reason| format!("; not renewed: {reason}")).unwrap_or_default();
    if status.lease.live {
        format!("live, {:.1} s left{refused}", status.lease.seconds_left)
    } else {
        format!("none: nothing is selected{refused}")
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
        let mut status = Status { host: "mirror-1".into(), ..Status::default() };
        status.lease.refused = Some("the order or the activation has ended".into());
        status.counters.verdicts = [("selected".to_owned(), 3), ("over_cap".to_owned(), 0)].into();
        status.share.used_max = 0.2951;
        let table = table(&status);
        assert!(table.contains("nothing is selected; not renewed: the order or the activation has ended"), "{table}");
        assert!(table.contains("29.51 %") && table.contains("selected 3\n"), "{table}");
        assert!(!table.contains("over_cap"), "{table}");
    }
}
