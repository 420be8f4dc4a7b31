//! Formats of a stored record: a line of JSON, of CSV, of a table.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr};

use jiff::Timestamp;
use serde::Serialize;
use tap_common::path::direction::DIRECTION_NAMES;
use tap_common::path::parse::FRAGMENT_NAMES;

use crate::path::{AddressKind, ExportedAddress};
use crate::receive::read::StoredRecord;

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

pub(super) fn json(out: &mut impl Write, stored: &StoredRecord) -> io::Result<()> {
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
        fragment: fragment(record.fragment),
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

/// The names of a CSV's columns: those of the JSON form.
const COLUMNS: [&str; 26] = [
    "time",
    "direction",
    "ip_version",
    "source",
    "source_kind",
    "destination",
    "destination_kind",
    "protocol",
    "source_port",
    "destination_port",
    "tcp_flags",
    "ip_length",
    "line_bytes",
    "fragment",
    "sliced",
    "rules",
    "measure",
    "measure_slot",
    "generation",
    "key_epoch",
    "cpu",
    "sequence",
    "instance",
    "host",
    "spool",
    "spool_sequence",
];

/// The first line of a CSV.
pub(super) fn csv_head(out: &mut csv::Writer<impl Write>) -> csv::Result<()> {
    out.write_record(COLUMNS)
}

/// A record as a line of CSV (RFC 4180): what the packet did not have is empty, several rules are parted by spaces.
pub(super) fn csv_row(out: &mut csv::Writer<impl Write>, stored: &StoredRecord) -> csv::Result<()> {
    let record = &stored.record;
    let optional = |number: Option<u16>| number.map_or_else(String::new, |number| number.to_string());
    let row: [String; COLUMNS.len()] = [
        time(record.time.0),
        direction(record.direction).to_owned(),
        record.ip_version.to_string(),
        address(&record.source).to_string(),
        kind(record.source.kind).to_owned(),
        address(&record.destination).to_string(),
        kind(record.destination.kind).to_owned(),
        record.protocol.to_string(),
        optional(record.source_port),
        optional(record.destination_port),
        optional(record.tcp_flags.map(u16::from)),
        record.ip_length.to_string(),
        record.line_bytes.to_string(),
        fragment(record.fragment).to_owned(),
        record.sliced.to_string(),
        stored.rules.join(" "),
        stored.measure_id.clone().unwrap_or_default(),
        record.measure.to_string(),
        record.generation.to_string(),
        record.key_epoch.to_string(),
        record.cpu.to_string(),
        record.sequence.to_string(),
        hex::encode(stored.instance),
        stored.host.clone(),
        stored.spool.clone(),
        stored.spool_sequence.to_string(),
    ];
    out.write_record(row)
}

fn fragment(number: u8) -> &'static str {
    FRAGMENT_NAMES.get(usize::from(number)).copied().unwrap_or("unknown")
}

pub(super) fn head(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<30}  {:<19}  {:<47}  {:<47}  {:>5}  {:<8}  {:>6}  RULES",
        "TIME", "DIRECTION", "SOURCE", "DESTINATION", "PROTO", "FLAGS", "LENGTH"
    )
}

pub(super) fn row(out: &mut impl Write, stored: &StoredRecord) -> io::Result<()> {
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
    use crate::receive::read::tests::stored;

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
    fn a_line_of_csv_has_the_values_of_the_json() {
        let mut lines = csv::Writer::from_writer(Vec::new());
        let mut stored = stored();
        stored.record.tcp_flags = None;
        stored.rules.push("two, \"quoted\"".into());
        csv_head(&mut lines).unwrap();
        csv_row(&mut lines, &stored).unwrap();
        let lines = lines.into_inner().unwrap();
        let mut object = Vec::new();
        json(&mut object, &stored).unwrap();
        let object: serde_json::Value = serde_json::from_slice(&object).unwrap();
        let mut read = csv::Reader::from_reader(lines.as_slice());
        let columns: Vec<String> = read.headers().unwrap().iter().map(str::to_owned).collect();
        let row = read.records().next().unwrap().unwrap();
        for (column, value) in columns.iter().zip(&row) {
            let expected = match &object[column.as_str()] {
                serde_json::Value::Null => String::new(),
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Array(_) => stored.rules.join(" "),
                other @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_) | serde_json::Value::Object(_)) => {
                    other.to_string()
                }
            };
            assert_eq!(value, expected, "{column}");
        }
        assert!(object.as_object().unwrap().keys().all(|key| columns.contains(key)));
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
