//! RIR delegated-extended statistics: `registry|cc|type|start|value|date|status|…`.
//!
//! Source: "RIR statistics exchange format" of the Number Resource Organization. `value` counts addresses for IPv4 (not
//! always a power of two) and is a prefix length for IPv6.

use super::country::{Listed, TableError, is_country_code};
use super::range::{LAST_IPV4, Range};
use jiff::civil::Date;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Reads the lines of one or several files.
pub(super) fn read(text: &str) -> Result<(Listed, Option<Date>), TableError> {
    let mut listed = Listed::default();
    let mut oldest: Option<Date> = None;
    for (index, line) in text.lines().enumerate() {
        let wrong = |reason: String| TableError::Line { line: index + 1, reason };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split('|').collect();
        match fields.as_slice() {
            // Header: version|registry|serial|records|startdate|enddate|UTCoffset
            ["2" | "2.3", _registry, _serial, _records, _start, end, _offset] => {
                let end = Date::strptime("%Y%m%d", end)
                    .map_err(|_no_date| wrong(format!("end date {end:?} is not YYYYMMDD")))?;
                oldest = Some(oldest.map_or(end, |before| before.min(end)));
            }
            [_, _, _, _, _, "summary"] | [_, _, "asn", ..] | [_, _, _, _, _, _, "available" | "reserved", ..] => {}
            [_, code, kind @ ("ipv4" | "ipv6"), start, value, _date, "allocated" | "assigned", ..] => {
                if !is_country_code(code) {
                    return Err(wrong(format!("{code:?} is not a country code of two capital letters")));
                }
                let ipv6 = *kind == "ipv6";
                let range = if ipv6 { ipv6_range(start, value) } else { ipv4_range(start, value) };
                listed.add(code, ipv6, range.map_err(wrong)?);
            }
            _ => return Err(wrong("not a line of delegated-extended statistics".to_owned())),
        }
    }
    Ok((listed, oldest))
}

fn ipv4_range(start: &str, value: &str) -> Result<Range, String> {
    let first: Ipv4Addr = start.parse().map_err(|_no_address| format!("{start:?} is not an IPv4 address"))?;
    let count: u32 = value.parse().map_err(|_no_number| format!("{value:?} is not a number of addresses"))?;
    let first = u128::from(u32::from(first));
    let last = first + u128::from(count.checked_sub(1).ok_or("a range of 0 addresses")?);
    if last > LAST_IPV4 {
        Err("the range goes beyond the last IPv4 address".to_owned())
    } else {
        Ok(Range { first, last })
    }
}

fn ipv6_range(start: &str, value: &str) -> Result<Range, String> {
    let first: Ipv6Addr = start.parse().map_err(|_no_address| format!("{start:?} is not an IPv6 address"))?;
    let prefix = value
        .parse()
        .ok()
        .and_then(|length| ipnetwork::Ipv6Network::new(first, length).ok())
        .ok_or_else(|| format!("{value:?} is not a prefix length"))?;
    Ok(Range { first: prefix.network().into(), last: prefix.broadcast().into() })
}
