//! The values of a condition: parsing, merging, whether they are trivial, whether one condition lies within another.

use crate::prefixes;
use ipnetwork::IpNetwork;
use std::ops::RangeInclusive;
use tap_common::path::parse::{FRAGMENT_NAMES, Fragment};

use super::field::Field;
use super::payload;
use super::rule::{FlagValues, PayloadValues};

/// Ports there are.
const PORTS: u32 = 1 << 16;
/// IP lengths there are (the IPv4 total length has 16 bits).
const LENGTHS: u32 = 1 << 16;
/// The longest IP length: an IPv6 header and a payload length of 16 bits.
const LENGTH_MAX: u32 = 40 + 65_535;
/// Protocol numbers there are.
const PROTOCOLS: usize = 1 << 8;
/// A condition over more than one in this many of the ports, lengths or protocols is trivial.
const TRIVIAL_DIVISOR: u32 = 2;

/// Names of protocols as sets may write them (IANA protocol numbers); any other is written as its number.
const PROTOCOL_NAMES: [(&str, u8); 11] = [
    ("icmp", 1),
    ("igmp", 2),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("icmpv6", 58),
    ("ah", 51),
    ("sctp", 132),
    ("udplite", 136),
];
/// Names of the TCP flags (byte 13 of the header), from the lowest bit.
const FLAG_NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

/// A condition as it is written: exactly the keys that its field asks for are there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written<'a> {
    /// `any`: alternatives.
    pub any: Option<&'a [String]>,
    /// `mask` of TCP flags or payload bytes.
    pub mask: Option<&'a str>,
    /// `value` of TCP flags.
    pub value: Option<&'a str>,
    /// `range` of IP lengths, both ends included.
    pub range: Option<[u32; 2]>,
    /// `offset` of payload bytes.
    pub offset: Option<u16>,
    /// `bytes` of the payload, in hex.
    pub bytes: Option<&'a str>,
}

/// The values of a condition, merged and sorted.
#[derive(Clone, PartialEq, Eq)]
pub enum Values {
    /// Prefixes: merged, and as they were written with host bits zero.
    Addresses {
        /// Merged.
        prefixes: Vec<IpNetwork>,
        /// As written.
        entries: Vec<IpNetwork>,
    },
    /// Port ranges.
    Ports(Vec<RangeInclusive<u16>>),
    /// Protocol numbers.
    Protocols(Vec<u8>),
    /// TCP flags.
    TcpFlags(FlagValues),
    /// IP lengths.
    IpLength(RangeInclusive<u32>),
    /// Fragment states.
    Fragments(Vec<Fragment>),
    /// Payload bytes.
    Payload(PayloadValues),
}

/// Selector contents leave no trace.
impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Values(redacted)")
    }
}

impl Values {
    /// Reads the values of a condition about `field`.
    ///
    /// # Errors
    /// What is wrong, by the position of the value in its list: never the value itself, which must leave no trace.
    pub fn parse(field: Field, written: Written<'_>) -> Result<Self, String> {
        let keys = [
            ("any", written.any.is_some()),
            ("mask", written.mask.is_some()),
            ("value", written.value.is_some()),
            ("range", written.range.is_some()),
            ("offset", written.offset.is_some()),
            ("bytes", written.bytes.is_some()),
        ];
        let wanted: &[&str] = match field {
            Field::TcpFlags => &["mask", "value"],
            Field::IpLength => &["range"],
            Field::Payload => &["offset", "bytes"],
            Field::SourceAddress
            | Field::DestinationAddress
            | Field::Address
            | Field::SourcePort
            | Field::DestinationPort
            | Field::Port
            | Field::Protocol
            | Field::Fragment => &["any"],
        };
        for (key, is_there) in keys {
            let may_be_there = field == Field::Payload && key == "mask";
            match (is_there, wanted.contains(&key)) {
                (false, true) => return Err(format!("{key} is missing")),
                (true, false) if !may_be_there => {
                    return Err(format!("{key} is not for {field}; it takes {}", wanted.join(" and ")));
                }
                _ => {}
            }
        }
        let any = written.any.unwrap_or_default();
        if wanted == ["any"] && any.is_empty() {
            return Err("any is empty: a condition without values".to_owned());
        }
        match field {
            Field::SourceAddress | Field::DestinationAddress | Field::Address => addresses(any),
            Field::SourcePort | Field::DestinationPort | Field::Port => ports(any),
            Field::Protocol => protocols(any),
            Field::TcpFlags => flags(written.mask.unwrap_or_default(), written.value.unwrap_or_default()),
            Field::IpLength => length(written.range.unwrap_or_default()),
            Field::Fragment => fragments(any),
            Field::Payload => {
                payload::parse(written.offset.unwrap_or_default(), written.bytes.unwrap_or_default(), written.mask)
                    .map(Values::Payload)
            }
        }
    }

    /// Whether the union of the values is so much of what there is that the condition does not count.
    #[must_use]
    pub fn is_trivial(&self) -> bool {
        match self {
            Self::Addresses { prefixes, .. } => {
                prefixes::over_share_of_family(prefixes, prefixes::TRIVIAL_ADDRESS_DIVISOR)
            }
            Self::Ports(ranges) => {
                let count: u32 = ranges.iter().map(|range| u32::from(*range.end() - *range.start()) + 1).sum();
                count > PORTS / TRIVIAL_DIVISOR
            }
            Self::Protocols(protocols) => protocols.len() > PROTOCOLS / 2,
            // A mask of no bits is satisfied by whatever flags there are.
            Self::TcpFlags(flags) => flags.mask == 0,
            Self::IpLength(range) => range.end() - range.start() + 1 > LENGTHS / TRIVIAL_DIVISOR,
            // Every packet is in one of the three states.
            Self::Fragments(states) => states.len() == FRAGMENT_NAMES.len(),
            // At least one bit is asked for.
            Self::Payload(_) => false,
        }
    }

    /// Whether whatever satisfies this condition satisfies `other` too.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Addresses { prefixes: mine, .. }, Self::Addresses { prefixes: theirs, .. }) => {
                !prefixes::leaves(mine, theirs)
            }
            (Self::Ports(mine), Self::Ports(theirs)) => mine
                .iter()
                .all(|mine| theirs.iter().any(|their| their.start() <= mine.start() && mine.end() <= their.end())),
            (Self::Protocols(mine), Self::Protocols(theirs)) => mine.iter().all(|mine| theirs.contains(mine)),
            (Self::TcpFlags(mine), Self::TcpFlags(their)) => {
                mine.mask & their.mask == their.mask && mine.value & their.mask == their.value
            }
            (Self::IpLength(mine), Self::IpLength(their)) => their.start() <= mine.start() && mine.end() <= their.end(),
            (Self::Fragments(mine), Self::Fragments(theirs)) => mine.iter().all(|mine| theirs.contains(mine)),
            (Self::Payload(mine), Self::Payload(their)) => mine.is_within(their),
            _ => false,
        }
    }
}

fn addresses(any: &[String]) -> Result<Values, String> {
    let mut entries = Vec::with_capacity(any.len());
    for (index, text) in any.iter().enumerate() {
        let prefix: IpNetwork =
            text.parse().map_err(|_no_prefix| format!("any[{index}] is not an address or prefix"))?;
        let network = IpNetwork::new(prefix.network(), prefix.prefix())
            .map_err(|_no_prefix| format!("any[{index}] is not an address or prefix"))?;
        if let IpNetwork::V6(network) = network
            && network.prefix() >= 96
            && network.network().to_ipv4_mapped().is_some()
        {
            return Err(format!("any[{index}] is an IPv4-mapped address; write it as IPv4"));
        }
        entries.push(network);
    }
    Ok(Values::Addresses { prefixes: prefixes::merge(entries.clone()), entries })
}

fn ports(any: &[String]) -> Result<Values, String> {
    let mut ranges = Vec::with_capacity(any.len());
    for (index, text) in any.iter().enumerate() {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (decimal(first), decimal(last)) {
            (Some(first), Some(last)) if first <= last => ranges.push(first..=last),
            _ => return Err(format!("any[{index}] is not a port or a range of ports (443, 8000-8999)")),
        }
    }
    ranges.sort_unstable_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u16>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(before) if *range.start() <= before.end().saturating_add(1) => {
                *before = *before.start()..=*before.end().max(range.end());
            }
            _ => merged.push(range),
        }
    }
    Ok(Values::Ports(merged))
}

/// Digits only: `u16::from_str` would take a sign.
fn decimal(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn protocols(any: &[String]) -> Result<Values, String> {
    let mut numbers = Vec::with_capacity(any.len());
    for (index, text) in any.iter().enumerate() {
        let named = PROTOCOL_NAMES.iter().find(|(name, _)| name == text).map(|(_, number)| *number);
        let number = named.or_else(|| decimal(text).and_then(|number| u8::try_from(number).ok()));
        numbers.push(number.ok_or_else(|| format!("any[{index}] is not a protocol's number or name (tcp, udp, 47)"))?);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(Values::Protocols(numbers))
}

fn flags(mask: &str, value: &str) -> Result<Values, String> {
    let (mask, value) = (flag_bits("mask", mask)?, flag_bits("value", value)?);
    if value & !mask != 0 {
        return Err("value has a flag that mask does not look at: no packet could satisfy it".to_owned());
    }
    Ok(Values::TcpFlags(FlagValues { mask, value }))
}

/// Flag names separated by commas; an empty text is no flag.
fn flag_bits(key: &str, text: &str) -> Result<u8, String> {
    let mut bits = 0;
    for name in text.split(',').filter(|_| !text.is_empty()) {
        let position = FLAG_NAMES
            .iter()
            .position(|known| *known == name)
            .ok_or_else(|| format!("{key}: not a list of TCP flags; known are {}", FLAG_NAMES.join(",")))?;
        bits |= 1 << position;
    }
    Ok(bits)
}

fn length([first, last]: [u32; 2]) -> Result<Values, String> {
    if first > last || last > LENGTH_MAX {
        return Err(format!("range must be [least, most] with least <= most <= {LENGTH_MAX}"));
    }
    Ok(Values::IpLength(first..=last))
}

fn fragments(any: &[String]) -> Result<Values, String> {
    let mut states = Vec::with_capacity(any.len());
    for (index, text) in any.iter().enumerate() {
        states.push(match text.as_str() {
            "none" => Fragment::None,
            "first" => Fragment::First,
            "later" => Fragment::Later,
            _ => return Err(format!("any[{index}] is not a fragment state; known are {}", FRAGMENT_NAMES.join(", "))),
        });
    }
    states.sort_unstable();
    states.dedup();
    Ok(Values::Fragments(states))
}
