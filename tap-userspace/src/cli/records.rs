//! `gwtap records`: reads the store of a receiving facility.

use crate::path::{AddressKind, ExportedAddress};
use crate::receive::read::{self, StoredRecord, Summary};
use anyhow::Context as _;
use clap::Parser;
use jiff::Timestamp;
use serde::Serialize;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use tap_common::path::direction::DIRECTION_NAMES;
use tap_common::path::parse::FRAGMENT_NAMES;

/// Shows the records in a receiving facility's store, in order of host, spool and sequence.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  gwtap records --store /var/lib/gwtap/store --limit 20
  gwtap records --store /var/lib/gwtap/store --json | jq -r .rules[] | sort | uniq -c

An address is clear (c), a pseudonym (d) that is the same for the same address, or a pseudonym (p) that keeps prefixes.
A rule is shown by its id, or as #INDEX where the store lacks the rule table of its generation.
It reads only: it may run beside `gwtap receive`.")]
pub struct Args {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Show so many records at most
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// Runs the verb.
///
/// # Errors
/// A store that cannot be read, or is damaged.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    let mut left = args.limit.unwrap_or(u64::MAX);
    if !args.json {
        written = head(&mut out);
    }
    let mut summary = Summary::default();
    if left > 0 && written.is_ok() {
        summary = read::records(&args.store, |stored| {
            written = if args.json { json(&mut out, stored) } else { row(&mut out, stored) };
            left -= 1;
            left > 0 && written.is_ok()
        })?;
    }
    match written.and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        written => written.context("cannot write")?,
    }
    if !args.json {
        eprintln!("{} records in {} messages", summary.records, summary.files);
        if summary.peer_files > 0 {
            eprintln!("{} messages of other exporters (under peers/) are not shown", summary.peer_files);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A record as JSON; what the packet did not have is absent.
#[derive(Serialize)]
struct Json<'a> {
    time: String,
    direction: &'static str,
    ip_version: u8,
    source: IpAddr,
    source_kind: &'static str,
    destination: IpAddr,
    destination_kind: &'static str,
    protocol: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp_flags: Option<u8>,
    ip_length: u32,
    line_bytes: u32,
    fragment: &'static str,
    sliced: bool,
    rules: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    measure: Option<&'a str>,
    measure_slot: u8,
    generation: u64,
    key_epoch: u32,
    cpu: u32,
    sequence: u64,
    instance: String,
    host: &'a str,
    spool: &'a str,
    spool_sequence: u64,
}

fn json(out: &mut impl Write, stored: &StoredRecord) -> io::Result<()> {
    let record = &stored.record;
    let object = Json {
        time: time(record.time.0),
        direction: direction(record.direction),
        ip_version: record.ip_version,
        source: address(&record.source),
        source_kind: kind(record.source.kind),
        destination: address(&record.destination),
        destination_kind: kind(record.destination.kind),
        protocol: record.protocol,
        source_port: record.source_port,
        destination_port: record.destination_port,
        tcp_flags: record.tcp_flags,
        ip_length: record.ip_length,
        line_bytes: record.line_bytes,
        fragment: FRAGMENT_NAMES.get(usize::from(record.fragment)).copied().unwrap_or("unknown"),
        sliced: record.sliced,
        rules: &stored.rules,
        measure: stored.measure_id.as_deref(),
        measure_slot: record.measure,
        generation: record.generation,
        key_epoch: record.key_epoch,
        cpu: record.cpu,
        sequence: record.sequence,
        instance: hex::encode(stored.instance),
        host: &stored.host,
        spool: &stored.spool,
        spool_sequence: stored.spool_sequence,
    };
    serde_json::to_writer(&mut *out, &object)?;
    out.write_all(b"\n")
}

fn head(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<30}  {:<19}  {:<47}  {:<47}  {:>5}  {:<8}  {:>6}  RULES",
        "TIME", "DIRECTION", "SOURCE", "DESTINATION", "PROTO", "FLAGS", "LENGTH"
    )
}

fn row(out: &mut impl Write, stored: &StoredRecord) -> io::Result<()> {
    let record = &stored.record;
    writeln!(
        out,
        "{:<30}  {:<19}  {:<47}  {:<47}  {:>5}  {:<8}  {:>6}  {}",
        time(record.time.0),
        direction(record.direction),
        end(&record.source, record.source_port),
        end(&record.destination, record.destination_port),
        record.protocol,
        record.tcp_flags.map_or_else(String::new, flag_names),
        record.ip_length,
        stored.rules.join(",")
    )
}

fn time(unix_ns: u64) -> String {
    match Timestamp::from_nanosecond(i128::from(unix_ns)) {
        Ok(time) => format!("{time:.9}"),
        // No calendar holds it: only a damaged record can say so, and it is shown as it is.
        Err(_) => format!("{unix_ns} ns"),
    }
}

fn direction(number: u8) -> &'static str {
    DIRECTION_NAMES.get(usize::from(number)).copied().unwrap_or("unknown")
}

fn kind(kind: AddressKind) -> &'static str {
    match kind {
        AddressKind::Clear => "clear",
        AddressKind::Deterministic => "deterministic",
        AddressKind::PrefixPreserving => "prefix-preserving",
    }
}

/// A deterministic pseudonym has 128 bits whatever the address had: it is shown as IPv6.
fn address(address: &ExportedAddress) -> IpAddr {
    let six = Ipv6Addr::from(address.bytes);
    match address.kind {
        AddressKind::Deterministic => IpAddr::V6(six),
        AddressKind::Clear | AddressKind::PrefixPreserving => six.to_canonical(),
    }
}

fn end(exported: &ExportedAddress, port: Option<u16>) -> String {
    let letter = match exported.kind {
        AddressKind::Clear => 'c',
        AddressKind::Deterministic => 'd',
        AddressKind::PrefixPreserving => 'p',
    };
    match (address(exported), port) {
        (address, None) => format!("{letter} {address}"),
        (IpAddr::V4(address), Some(port)) => format!("{letter} {address}:{port}"),
        (IpAddr::V6(address), Some(port)) => format!("{letter} [{address}]:{port}"),
    }
}

/// The customary letters, as traffic tools write them.
fn flag_names(flags: u8) -> String {
    "FSRPAUEC".chars().enumerate().filter(|(bit, _)| flags & (1 << bit) != 0).map(|(_, letter)| letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::{PseudonymisedRecord, UnixNs};

    fn stored() -> StoredRecord {
        StoredRecord {
            record: PseudonymisedRecord {
                time: UnixNs(1_800_000_000_000_000_007),
                source: ExportedAddress {
                    bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 203, 0, 113, 5],
                    kind: AddressKind::Clear,
                },
                destination: ExportedAddress { bytes: [0xab; 16], kind: AddressKind::Deterministic },
                source_port: Some(443),
                destination_port: Some(50_000),
                protocol: 6,
                tcp_flags: Some(0x12),
                ip_version: 4,
                direction: 2,
                line_bytes: 98,
                ip_length: 60,
                fragment: 0,
                sliced: false,
                measure: 0,
                generation: 3,
                rules: [1, 0, 0, 0],
                cpu: 1,
                sequence: 9,
                key_epoch: 2,
            },
            host: "aa".repeat(32),
            spool: "bb".repeat(16),
            spool_sequence: 4,
            instance: [0xcc; 16],
            rules: vec!["r1".into()],
            measure_id: Some("m-1".into()),
        }
    }

    #[test]
    fn json_has_every_field_and_leaves_out_what_is_not_there() {
        let mut line = Vec::new();
        let mut stored = stored();
        stored.record.tcp_flags = None;
        json(&mut line, &stored).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["time"], "2027-01-15T08:00:00.000000007Z");
        assert_eq!(value["direction"], "foreign-to-domestic");
        assert_eq!((&value["source"], &value["source_kind"]), (&"203.0.113.5".into(), &"clear".into()));
        assert_eq!(value["destination"], "abab:abab:abab:abab:abab:abab:abab:abab");
        assert_eq!(value["rules"], serde_json::json!(["r1"]));
        assert_eq!((&value["measure"], &value["spool_sequence"]), (&"m-1".into(), &4.into()));
        assert!(value.get("tcp_flags").is_none() && value["source_port"] == 443);
    }

    #[test]
    fn the_table_shows_kinds_ports_and_flags() {
        let mut line = Vec::new();
        row(&mut line, &stored()).unwrap();
        let line = String::from_utf8(line).unwrap();
        for part in ["c 203.0.113.5:443", "d [abab:abab:", "]:50000", " SA ", " r1\n"] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn a_pseudonym_that_looks_like_ipv4_is_not_shown_as_one() {
        let mut mapped = stored().record.source;
        mapped.kind = AddressKind::Deterministic;
        assert_eq!(address(&mapped).to_string(), "::ffff:203.0.113.5");
    }
}
