//! Why a rule does not match: its conditions, in the order in which the core narrows the rules.
//!
//! In: a checked rule and what was read of the packet. Out: the first condition that fails, with the packet's value. What
//! the condition asks for is not said: whoever explains a packet has the set.

use crate::laboratory::line::Fields;
use crate::selectors::rule::{AddressValues, CheckedRule, PayloadValues};
use ipnetwork::IpNetwork;
use serde::Serialize;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use tap_common::limits::HEADER_BYTES_MAX;
use tap_common::path::frame::{Bytes, Frame as _};
use tap_common::path::parse::{FRAGMENT_NAMES, Headers};

/// A condition that the packet does not satisfy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// The condition's field.
    pub condition: &'static str,
    /// The packet's value there.
    pub packet: String,
}

/// What a rule is asked with.
#[derive(Debug)]
pub struct Packet<'a> {
    /// The frame, mirror transport removed.
    pub frame: Bytes<'a>,
    /// Headers as parsed.
    pub headers: &'a Headers,
    /// The same, as they are shown.
    pub fields: &'a Fields,
}

/// The first condition of `rule` that fails; none when the rule matches.
#[must_use]
pub fn first_failed(rule: &CheckedRule, packet: &Packet<'_>) -> Option<Failed> {
    let fields = packet.fields;
    let (source, destination) = (fields.source, fields.destination);
    let (source_port, destination_port) = (fields.source_port, fields.destination_port);
    let ports = || format!("{} to {}", port(source_port), port(destination_port));
    let fragment = |values: &Vec<_>| {
        values.iter().any(|state| FRAGMENT_NAMES.get(*state as usize).is_some_and(|name| *name == fields.fragment))
    };
    let flags = |values: &crate::selectors::rule::FlagValues| {
        fields.tcp_flags.is_some_and(|flags| flags & values.mask == values.value)
    };
    failed("protocol", rule.protocol.as_ref(), |v| v.contains(&fields.protocol), || fields.protocol.to_string())
        .or_else(|| failed("tcp-flags", rule.tcp_flags.as_ref(), flags, || number(fields.tcp_flags)))
        .or_else(|| failed("fragment", rule.fragment.as_ref(), fragment, || fields.fragment.to_owned()))
        .or_else(|| {
            let length = fields.ip_length;
            failed("ip-length", rule.ip_length.as_ref(), |v| v.contains(&length), || length.to_string())
        })
        .or_else(|| failed("source-port", rule.source_port.as_ref(), |v| has(v, source_port), || port(source_port)))
        .or_else(|| failed("port", rule.port.as_ref(), |v| has(v, source_port) || has(v, destination_port), ports))
        .or_else(|| {
            let values = rule.destination_port.as_ref();
            failed("destination-port", values, |v| has(v, destination_port), || port(destination_port))
        })
        .or_else(|| failed("source-address", rule.source_address.as_ref(), |v| names(v, source), || source.to_string()))
        .or_else(|| {
            let values = rule.destination_address.as_ref();
            failed("destination-address", values, |v| names(v, destination), || destination.to_string())
        })
        .or_else(|| {
            let either = |v: &AddressValues| names(v, source) || names(v, destination);
            failed("address", rule.address.as_ref(), either, || format!("{source} to {destination}"))
        })
        .or_else(|| {
            let there = |v: &PayloadValues| has_payload(v, packet);
            // No payload byte is shown, here either.
            failed("payload", rule.payload.as_ref(), there, || "other bytes, or fewer".to_owned())
        })
}

fn failed<T>(
    condition: &'static str,
    values: Option<&T>,
    holds: impl Fn(&T) -> bool,
    packet: impl Fn() -> String,
) -> Option<Failed> {
    values.filter(|values| !holds(values)).map(|_| Failed { condition, packet: packet() })
}

fn names(values: &AddressValues, address: IpAddr) -> bool {
    values.prefixes.iter().any(|prefix: &IpNetwork| prefix.contains(address))
}

fn has(ranges: &[RangeInclusive<u16>], port: Option<u16>) -> bool {
    port.is_some_and(|port| ranges.iter().any(|range| range.contains(&port)))
}

fn port(port: Option<u16>) -> String {
    port.map_or_else(|| "no port".to_owned(), |port| port.to_string())
}

fn number(flags: Option<u8>) -> String {
    flags.map_or_else(|| "no flags".to_owned(), |flags| format!("{flags:#04x}"))
}

/// All bytes are within the IP packet and what the condition asks for.
fn has_payload(values: &PayloadValues, packet: &Packet<'_>) -> bool {
    let headers = packet.headers;
    let start = u32::from(headers.payload_offset).saturating_add(values.offset);
    let length = u32::try_from(values.bytes.len()).unwrap_or(u32::MAX);
    let end = start.saturating_add(length);
    if headers.payload_offset == 0 || end > HEADER_BYTES_MAX || end > headers.ip_offset + headers.ip_length {
        return false;
    }
    let mut asked = (start..end).zip(values.bytes.iter().zip(&values.mask));
    asked.all(|(place, (byte, mask))| packet.frame.load_u8(place).is_some_and(|found| found & mask == byte & mask))
}
