//! The country table: which addresses are domestic, which foreign; everything else is unlisted.
//!
//! In come range CSV, RIR delegated-extended files or flags; out come sorted, disjoint, merged ranges. Special-purpose
//! and multicast ranges are taken out first. Where lines contradict each other about an address, it is unlisted: an
//! address that might be domestic must not pass for foreign, and nothing unlisted is ever selected.

use super::delegated;
use super::range::{self, LAST_IPV4, LAST_IPV6, Range};
use super::special::Special;
use crate::keys::sha256;
use ipnetwork::IpNetwork;
use jiff::civil::Date;
use std::net::IpAddr;
use tap_common::path::direction::AddressClass;

/// What can be wrong with a country table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A line is not what the format asks for.
    #[error("country table, line {line}: {reason}")]
    Line {
        /// Line number from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The table lists nothing.
    #[error("country table: no line lists an address range")]
    Empty,
    /// A prefix is given as domestic and as foreign.
    #[error("--domestic and --foreign both name {0}")]
    Contradiction(IpNetwork),
}

/// Address ranges with their class.
#[derive(Clone, PartialEq, Eq)]
pub struct CountryTable {
    /// IPv4 ranges (first, last, class): sorted, disjoint, merged; never `Unlisted`.
    pub ranges4: Vec<(u32, u32, AddressClass)>,
    /// IPv6 ranges (first, last, class): sorted, disjoint, merged; never `Unlisted`.
    pub ranges6: Vec<(u128, u128, AddressClass)>,
    /// SHA-256 of the bytes the table was read from (for flags: of a text that states them).
    pub sha256: [u8; 32],
    /// Date of the data, where known.
    pub date: Option<Date>,
}

impl std::fmt::Debug for CountryTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CountryTable")
            .field("ranges4", &self.ranges4.len())
            .field("ranges6", &self.ranges6.len())
            .field("sha256", &hex::encode(self.sha256))
            .field("date", &self.date)
            .finish()
    }
}

impl CountryTable {
    /// Reads lines `first,last,CC`: two addresses of one family, both included, and an ISO 3166 code; `JP` is domestic.
    /// Empty lines and lines that begin with `#` are left out. Several files are read as their concatenation.
    ///
    /// # Errors
    /// A line of another form (named by its number), or a table that lists nothing.
    pub fn from_csv(bytes: &[u8], date: Option<Date>, special: Special) -> Result<Self, TableError> {
        let text = utf8(bytes)?;
        let mut listed = Listed::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                csv_line(line, &mut listed).map_err(|reason| TableError::Line { line: index + 1, reason })?;
            }
        }
        listed.table(special, sha256(bytes), date)
    }

    /// Reads RIR delegated-extended statistics (format version 2 or 2.3), one file or several concatenated. Allocated
    /// and assigned ranges are listed, reserved and available ones are not. The date is the oldest end date of the
    /// files' headers.
    ///
    /// # Errors
    /// A line of another form (named by its number), or a table that lists nothing.
    pub fn from_delegated(bytes: &[u8]) -> Result<Self, TableError> {
        let (listed, date) = delegated::read(utf8(bytes)?)?;
        listed.table(Special::TakenOut, sha256(bytes), date)
    }

    /// A table from flags: it replaces everything, special-purpose ranges included; the most specific prefix wins, and
    /// `rest` is the class of what no prefix holds. For `replay`, never for a tap.
    ///
    /// # Errors
    /// A prefix that is both domestic and foreign.
    pub fn from_flags(domestic: &[IpNetwork], foreign: &[IpNetwork], rest: AddressClass) -> Result<Self, TableError> {
        let mut layers: Vec<(u8, IpNetwork, AddressClass)> = Vec::new();
        for (prefixes, class) in [(domestic, AddressClass::Domestic), (foreign, AddressClass::Foreign)] {
            layers.extend(prefixes.iter().filter_map(|prefix| {
                let network = IpNetwork::new(prefix.network(), prefix.prefix()).ok()?;
                Some((prefix.prefix(), network, class))
            }));
        }
        layers.sort_by_key(|(length, prefix, class)| (*length, *prefix, *class as u8));
        layers.dedup();
        for pair in layers.windows(2) {
            if let [(_, one, _), (_, other, _)] = pair
                && one == other
            {
                return Err(TableError::Contradiction(*one));
            }
        }
        let statement = format!("flags {layers:?} rest {rest:?}");
        let mut listed = Listed::default();
        match rest {
            AddressClass::Domestic => listed.domestic = Ranges::everything(),
            AddressClass::Foreign => listed.foreign = Ranges::everything(),
            AddressClass::Unlisted => {}
        }
        // From the least specific to the most: each takes its addresses away from what lies below.
        for (_, prefix, class) in layers {
            let (ipv4, ipv6) = super::split(&[prefix]);
            let own = Ranges { ipv4, ipv6 };
            let (gains, loses) = match class {
                AddressClass::Domestic => (&mut listed.domestic, &mut listed.foreign),
                AddressClass::Foreign | AddressClass::Unlisted => (&mut listed.foreign, &mut listed.domestic),
            };
            *loses = loses.without(&own);
            gains.ipv4.extend(own.ipv4);
            gains.ipv6.extend(own.ipv6);
            *gains = std::mem::take(gains).disjoint();
        }
        Ok(listed.compile(&Ranges::default(), sha256(statement.as_bytes()), None))
    }

    /// The same table with every address of `excluded` unlisted. Digest and date stay those of the data.
    #[must_use]
    pub fn without(&self, excluded: &[IpNetwork]) -> Self {
        let of_class = |wanted: AddressClass| Ranges {
            ipv4: self
                .ranges4
                .iter()
                .filter(|(_, _, class)| *class == wanted)
                .map(|(first, last, _)| Range { first: (*first).into(), last: (*last).into() })
                .collect(),
            ipv6: self
                .ranges6
                .iter()
                .filter(|(_, _, class)| *class == wanted)
                .map(|(first, last, _)| Range { first: *first, last: *last })
                .collect(),
        };
        let listed = Listed { domestic: of_class(AddressClass::Domestic), foreign: of_class(AddressClass::Foreign) };
        let (ipv4, ipv6) = super::split(excluded);
        listed.compile(&Ranges { ipv4, ipv6 }.disjoint(), self.sha256, self.date)
    }

    /// Whether any address of `prefixes` (merged) is domestic.
    #[must_use]
    pub fn names_domestic(&self, prefixes: &[IpNetwork]) -> bool {
        let (ipv4, ipv6) = super::split(prefixes);
        let meets = |first: u128, last: u128, ranges: &[Range]| {
            let next = ranges.partition_point(|range| range.last < first);
            ranges.get(next).is_some_and(|range| range.first <= last)
        };
        let domestic = AddressClass::Domestic;
        self.ranges4
            .iter()
            .any(|(first, last, class)| *class == domestic && meets((*first).into(), (*last).into(), &ipv4))
            || self.ranges6.iter().any(|(first, last, class)| *class == domestic && meets(*first, *last, &ipv6))
    }

    /// The class of an address.
    #[must_use]
    pub fn class(&self, address: IpAddr) -> AddressClass {
        match address {
            IpAddr::V4(address) => find(&self.ranges4, address.into()),
            IpAddr::V6(address) => find(&self.ranges6, address.into()),
        }
    }
}

/// Ranges of both families.
#[derive(Clone, Debug, Default)]
struct Ranges {
    ipv4: Vec<Range>,
    ipv6: Vec<Range>,
}

impl Ranges {
    fn everything() -> Self {
        Self { ipv4: vec![Range { first: 0, last: LAST_IPV4 }], ipv6: vec![Range { first: 0, last: LAST_IPV6 }] }
    }

    fn disjoint(self) -> Self {
        Self { ipv4: range::union(self.ipv4), ipv6: range::union(self.ipv6) }
    }

    fn without(&self, taken: &Self) -> Self {
        Self { ipv4: range::difference(&self.ipv4, &taken.ipv4), ipv6: range::difference(&self.ipv6, &taken.ipv6) }
    }
}

/// What a table's lines say, before contradictions and special-purpose ranges are taken out.
#[derive(Default)]
pub(super) struct Listed {
    domestic: Ranges,
    foreign: Ranges,
}

impl Listed {
    /// Adds a range of one family under the class that its country code gives.
    pub(super) fn add(&mut self, code: &str, ipv6: bool, range: Range) {
        let ranges = match class_of_code(code) {
            AddressClass::Domestic => &mut self.domestic,
            AddressClass::Foreign => &mut self.foreign,
            AddressClass::Unlisted => return,
        };
        if ipv6 { ranges.ipv6.push(range) } else { ranges.ipv4.push(range) }
    }

    fn table(self, special: Special, sha256: [u8; 32], date: Option<Date>) -> Result<CountryTable, TableError> {
        let (ipv4, ipv6) = special.ranges();
        let listed = Self { domestic: self.domestic.disjoint(), foreign: self.foreign.disjoint() };
        let table = listed.compile(&Ranges { ipv4, ipv6 }, sha256, date);
        if table.ranges4.is_empty() && table.ranges6.is_empty() { Err(TableError::Empty) } else { Ok(table) }
    }

    /// Takes contradictions and `special` out and writes the classes side by side. Both classes are disjoint already.
    fn compile(&self, special: &Ranges, sha256: [u8; 32], date: Option<Date>) -> CountryTable {
        let domestic = self.domestic.without(&self.foreign).without(special);
        let foreign = self.foreign.without(&self.domestic).without(special);
        let narrow = |(first, last, class): (u128, u128, AddressClass)| {
            Some((u32::try_from(first).ok()?, u32::try_from(last).ok()?, class))
        };
        CountryTable {
            ranges4: side_by_side(&domestic.ipv4, &foreign.ipv4).into_iter().filter_map(narrow).collect(),
            ranges6: side_by_side(&domestic.ipv6, &foreign.ipv6),
            sha256,
            date,
        }
    }
}

/// `JP` is domestic. Codes that name no country are unlisted: `AP` (a region that Japan belongs to), `XX` and `ZZ`.
fn class_of_code(code: &str) -> AddressClass {
    match code {
        "JP" => AddressClass::Domestic,
        "AP" | "XX" | "ZZ" => AddressClass::Unlisted,
        _ => AddressClass::Foreign,
    }
}

fn side_by_side(domestic: &[Range], foreign: &[Range]) -> Vec<(u128, u128, AddressClass)> {
    let mut both: Vec<_> = domestic.iter().map(|range| (range.first, range.last, AddressClass::Domestic)).collect();
    both.extend(foreign.iter().map(|range| (range.first, range.last, AddressClass::Foreign)));
    both.sort_unstable_by_key(|(first, _, _)| *first);
    both
}

fn find<N: Copy + Ord>(ranges: &[(N, N, AddressClass)], address: N) -> AddressClass {
    let after = ranges.partition_point(|(first, _, _)| *first <= address);
    match after.checked_sub(1).and_then(|index| ranges.get(index)) {
        Some((_, last, class)) if address <= *last => *class,
        _ => AddressClass::Unlisted,
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, TableError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
        TableError::Line { line, reason: "not text (is the file compressed?)".to_owned() }
    })
}

/// Whether `code` has the form of an ISO 3166 code: two capital letters.
pub(super) fn is_country_code(code: &str) -> bool {
    code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn csv_line(line: &str, listed: &mut Listed) -> Result<(), String> {
    let mut fields = line.split(',');
    let (Some(first), Some(last), Some(code), None) = (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("not of the form first,last,CC".to_owned());
    };
    if !is_country_code(code) {
        return Err(format!("{code:?} is not a country code of two capital letters"));
    }
    let address = |text: &str| text.parse::<IpAddr>().map_err(|_no_address| format!("{text:?} is not an IP address"));
    let (range, ipv6) = match (address(first)?, address(last)?) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            (Range { first: u32::from(first).into(), last: u32::from(last).into() }, false)
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => (Range { first: first.into(), last: last.into() }, true),
        _ => return Err("the two addresses are of different families".to_owned()),
    };
    if range.first > range.last {
        return Err("the range ends before it begins".to_owned());
    }
    listed.add(code, ipv6, range);
    Ok(())
}

#[cfg(test)]
mod tests;
