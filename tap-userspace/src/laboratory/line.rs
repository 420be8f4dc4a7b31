//! One line of `gwtap replay`: what became of one packet, as a JSON object.
//!
//! In: a decision. Out: verdict, direction, rules and header fields; what does not exist is absent.

use crate::load::Observation;
use crate::prefixes::country::CountryTable;
use serde::Serialize;
use std::net::{IpAddr, Ipv6Addr};
use tap_common::abi::counter::Verdict;
use tap_common::abi::record::{FLAG_PORTS, FLAG_TCP_FLAGS};
use tap_common::limits::RULE_WORDS;
use tap_common::path::direction::{DIRECTION_NAMES, from_classes};
use tap_common::path::parse::{FRAGMENT_NAMES, Headers};
use tap_common::path::verdict::Outcome;

/// What `replay` says of one packet. The order of the fields is that of the line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line<'a> {
    /// Number of the packet in its file, from 1.
    pub packet: u64,
    /// Name of the verdict.
    pub verdict: &'static str,
    /// Why a packet is malformed or unsupported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Direction, for every packet whose addresses could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<&'static str>,
    /// Ids of the rules that matched, sorted; absent when selection was not reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<&'a str>>,
    /// Header fields, for every packet that could be parsed.
    #[serde(flatten)]
    pub fields: Option<Fields>,
}

/// Header fields of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fields {
    /// 4 or 6.
    pub ip_version: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IANA protocol number of the upper layer.
    pub protocol: u8,
    /// Source port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// TCP flags, byte 13 of the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<u8>,
    /// IP length in bytes, as the header states it.
    pub ip_length: u32,
    /// `none`, `first` or `later`.
    pub fragment: &'static str,
}

impl<'a> Line<'a> {
    /// The line for one decision. `ids` are the rules' ids by index.
    ///
    /// The way judges the direction of packets that a rule matches and of no other; for the rest it is looked up in
    /// `country`, the same table.
    #[must_use]
    pub fn new(packet: u64, observation: &Observation, ids: &'a [String], country: &CountryTable) -> Self {
        let fields = (observation.parsed == 1).then(|| Fields::new(&observation.headers));
        let matched = matched(observation, ids);
        let direction = fields.as_ref().and_then(|fields| {
            let number = match &matched {
                Some(rules) if !rules.is_empty() => observation.direction,
                _ => from_classes(country.class(fields.source) as u32, country.class(fields.destination) as u32) as u8,
            };
            DIRECTION_NAMES.get(usize::from(number)).copied()
        });
        Self {
            packet,
            verdict: observation.outcome.name().unwrap_or("no_verdict"),
            reason: observation.reason_name(),
            direction,
            rules: matched,
            fields,
        }
    }

    /// Whether a record would have been made.
    #[must_use]
    pub fn is_selected(&self) -> bool {
        self.verdict == "selected"
    }
}

impl Fields {
    /// The fields of parsed headers.
    #[must_use]
    pub fn new(headers: &Headers) -> Self {
        let ports = headers.flags & FLAG_PORTS != 0;
        Self {
            ip_version: headers.ip_version,
            source: address(headers.ip_version, headers.source),
            destination: address(headers.ip_version, headers.destination),
            protocol: headers.protocol,
            source_port: ports.then_some(headers.source_port),
            destination_port: ports.then_some(headers.destination_port),
            tcp_flags: (headers.flags & FLAG_TCP_FLAGS != 0).then_some(headers.tcp_flags),
            ip_length: headers.ip_length,
            fragment: FRAGMENT_NAMES.get(usize::from(headers.fragment)).copied().unwrap_or("none"),
        }
    }
}

/// Ids of the rules that matched; none when selection was not reached.
fn matched<'a>(observation: &Observation, ids: &'a [String]) -> Option<Vec<&'a str>> {
    if observation.outcome.0 < Outcome::measure(Verdict::NotMatched).0 {
        return None;
    }
    let is_set = |index: usize| {
        let word = observation.rules.get(index / 64).copied().unwrap_or(0);
        word >> (index % 64) & 1 == 1
    };
    let mut matched: Vec<&str> = ids
        .iter()
        .take(RULE_WORDS * 64)
        .enumerate()
        .filter(|(index, _)| is_set(*index))
        .map(|(_, id)| id.as_str())
        .collect();
    matched.sort_unstable();
    Some(matched)
}

/// An IPv4 address is the last 32 bits; an IPv6 packet may hold an IPv4-mapped address, which stays one of IPv6.
fn address(ip_version: u8, [high, low]: [u64; 2]) -> IpAddr {
    let address = Ipv6Addr::from((u128::from(high) << 64) | u128::from(low));
    match address.to_ipv4_mapped() {
        Some(ipv4) if ip_version == 4 => IpAddr::V4(ipv4),
        _ => IpAddr::V6(address),
    }
}
