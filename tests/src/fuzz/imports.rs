//! Target `imports`: the first byte chooses a format (or a STIX pattern alone), the others are the file.
//!
//! Checked: nothing panics; every entry is in one count; what is written is a set that the order allows, with as many
//! indicators as entries brought; no reason holds an address that the file holds.

use anyhow::{Result, ensure};
use jiff::Timestamp;
use tap_userspace::order::Basis;
use tap_userspace::prefixes::special::Special;
use tap_userspace::selectors::SelectorSet;
use tap_userspace::selectors::check::{CheckContext, OrderTerms, check as allowed};
use tap_userspace::selectors::field::{Field, Item};
use tap_userspace::selectors::import::warning::Warnings;
use tap_userspace::selectors::import::{Format, Input, Terms, import, pattern};
use tap_userspace::selectors::set::Condition;
use tap_userspace::selectors::versions::count;

/// What is asked.
///
/// # Errors
/// What was wrong.
pub fn check(input: &[u8]) -> Result<()> {
    let Some((choice, bytes)) = input.split_first() else { return Ok(()) };
    let Some(format) = Format::ALL.get(usize::from(*choice) % 5) else {
        let Ok(text) = std::str::from_utf8(bytes) else { return Ok(()) };
        if let Err(reason) = pattern::read(text, Field::Address) {
            ensure!(reason.len() < 400, "a reason of {} bytes", reason.len());
            tells_nothing(&reason, bytes)?;
        }
        return Ok(());
    };
    let now: Timestamp = "2026-12-01T00:00:00Z".parse()?;
    let end: Timestamp = "2027-01-31T00:00:00Z".parse()?;
    let context = CheckContext {
        order: Some(OrderTerms {
            measure: "m-1".to_owned(),
            standard: "s-1".to_owned(),
            acts: vec!["a-1".to_owned()],
            not_before: "2026-11-01T00:00:00Z".parse()?,
            not_after: end,
            approved_facilities: Vec::new(),
            approved_machine_information: Vec::new(),
            party_prefixes: Vec::new(),
            payload_offsets: vec![0],
            prefixes_excluded: Vec::new(),
            fields_excluded: Vec::new(),
            domestic_conditions: true,
        }),
        ..CheckContext::laboratory(Basis::ForeignToForeign)
    };
    let terms = Terms {
        version: 1,
        act: "a-1".to_owned(),
        reason: "fuzz".to_owned(),
        valid_until: end,
        address_field: Field::Address,
        and: vec![Condition::any(Item::Aid, Field::DestinationPort, vec!["443".to_owned()])],
        ends_by_day: choice & 0x80 != 0,
    };
    let mut warnings = Warnings::new(Special::TakenOut);
    let input = Input { name: "file", format: *format, bytes };
    let imported = match import(&[input], &terms, &context, &mut warnings, now, &mut |_, _| ()) {
        Ok(imported) => imported,
        Err(error) => return tells_nothing(&error.to_string(), bytes),
    };
    tells_nothing(&imported.report.to_string(), bytes)?;
    let [source] = imported.report.sources.as_slice() else { anyhow::bail!("one file, one count") };
    if *format == Format::List {
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let is_entry = |line: &&[u8]| match std::str::from_utf8(line) {
            Ok(line) => line.split(['#', ';']).next().is_some_and(|line| !line.trim().is_empty()),
            Err(_) => true,
        };
        let lines = text.split(|byte| *byte == b'\n').filter(is_entry).count() as u64;
        ensure!(lines == source.read(), "{lines} lines, {} entries", source.read());
    }
    ensure!(imported.set.is_some() == (source.loaded > 0), "a set without entries, or entries without a set");
    let Some(set) = imported.set else { return Ok(()) };
    let set = SelectorSet::from_json(&set)?;
    ensure!(allowed(&set, &context).is_ok(), "a set that the order refuses");
    let indicators = count(&set.content);
    ensure!(indicators >= source.loaded, "{indicators} indicators of {} entries", source.loaded);
    Ok(())
}

/// Words of the file that are addresses stand in no message.
fn tells_nothing(message: &str, bytes: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'));
    for word in words.filter(|word| word.len() > 6 && word.parse::<std::net::IpAddr>().is_ok()) {
        ensure!(!message.contains(word), "a message tells an address");
    }
    Ok(())
}

/// What the fuzzer begins with: each public file cut into pieces that are files, and patterns.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let lists = ["198.51.100.7\n203.0.113.0/24 # why\n\n10.0.0.1\n", "2001:db8::1\nnone\n9.0.0.0/8\n8.8.8.8\n8.8.8.8"];
    let tables = [
        "address,destination-port,valid-until\n8.8.8.8 9.9.9.9,443,2026-12-24T00:00:00Z\n,,\n1.1.1.1,80-90,\n",
        "source-address,payload,payload-offset,payload-mask\n9.9.9.9,504f,0,ffff\n9.9.9.8,,1,\n",
    ];
    let patterns = [
        "[ipv4-addr:value = '9.9.9.9']",
        "[ipv4-addr:value IN ('9.9.9.9', '8.8.8.8') AND network-traffic:dst_port = 443]",
        "[network-traffic:src_ref.type = 'ipv4-addr' AND network-traffic:src_ref.value ISSUBSET '9.9.9.0/24']",
        "([ipv4-addr:value = '9.9.9.9'] OR [ipv6-addr:value = '2600::1']) FOLLOWEDBY [file:name = 'a\\'b']",
        "[network-traffic:src_payload_ref.payload_bin = h'504f' AND network-traffic:protocols[*] = 'tcp']",
        "[ipv4-addr:value MATCHES '9'] WITHIN 5 SECONDS",
        "[domain-name:value = 'x' OR (ipv4-addr:value = '9.9.9.9' AND network-traffic:dst_port > 1)]",
        "[network-traffic:dst_payload_ref.payload_bin = b'UE9TVA==' AND ipv4-addr:value = '9.9.9.9']",
    ];
    let bundle = |pattern: &str| {
        serde_json::json!({"type": "bundle", "objects": [
            {"type": "indicator", "id": "indicator--1", "pattern_type": "stix", "pattern": pattern,
             "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2026-12-24T00:00:00Z"},
            {"type": "malware", "id": 5}]})
        .to_string()
    };
    let event = |kind: &str, value: &str| {
        serde_json::json!({"response": [{"Event": {"Attribute": [
            {"uuid": "u-1", "type": kind, "to_ids": true, "value": value}], "Object": []}}]})
        .to_string()
    };
    let events = [
        ("ip-dst", "9.9.9.9"),
        ("ip-src", "2600::1"),
        ("ip-dst|port", "9.9.9.9|8443"),
        ("domain", "x"),
        ("ip-src|port", "9"),
    ];
    let mut seeds = Vec::new();
    let mut add = |choice: u8, text: &str| {
        seeds.push([&[choice], text.as_bytes()].concat());
        seeds.push([&[choice | 0x80], text.as_bytes()].concat());
    };
    // 0x80 is 3 more by the remainder of 5: both choices are formats, each text is read as two of them.
    patterns.iter().for_each(|pattern| add(0, &bundle(pattern)));
    events.iter().for_each(|(kind, value)| add(1, &event(kind, value)));
    tables.iter().for_each(|table| add(2, table));
    lists.iter().for_each(|list| add(3, list));
    patterns.iter().for_each(|pattern| add(4, pattern));
    seeds
}
