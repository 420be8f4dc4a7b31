//! Warning lists: what many people talk to is no facility of an attacker, however often a feed says so. In come lists of
//! prefixes (plain, or MISP's JSON), out goes the name of the list that holds an entry back. A person may override it for
//! one entry of one list, with a reason; who and why goes into the set.
//!
//! Two lists are always there: prefixes that are too wide, and special-purpose addresses (RFC 6890), which nobody's packets
//! on the way to another network have.

use crate::limits::{IMPORT_IPV4_PREFIX_MIN, IMPORT_IPV6_PREFIX_MIN};
use crate::prefixes::range::{self, Range};
use crate::prefixes::special::Special;
use crate::prefixes::split;
use crate::selectors::set::Override;
use ipnetwork::IpNetwork;
use serde::Deserialize;
use std::collections::BTreeSet;

/// The built-in list of prefixes that are too wide.
pub const OVER_WIDE: &str = "over-wide prefixes";
/// The built-in list of special-purpose addresses.
pub const SPECIAL_PURPOSE: &str = "special-purpose addresses";

struct List {
    name: String,
    ipv4: Vec<Range>,
    ipv6: Vec<Range>,
}

/// All lists, and what was overridden.
pub struct Warnings {
    lists: Vec<List>,
    overrides: Vec<(IpNetwork, Override)>,
    used: BTreeSet<usize>,
}

/// A list as MISP publishes it.
#[derive(Deserialize)]
struct Published {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    list: Vec<String>,
}

impl Warnings {
    /// The lists that are always there. `special` says whether documentation prefixes are special-purpose, too.
    #[must_use]
    pub fn new(special: Special) -> Self {
        let (ipv4, ipv6) = special.ranges();
        let list = List { name: SPECIAL_PURPOSE.to_owned(), ipv4, ipv6 };
        Self { lists: vec![list], overrides: Vec::new(), used: BTreeSet::new() }
    }

    /// Adds a list: MISP's JSON (of addresses or prefixes), or a plain list, which `name` is the name of.
    ///
    /// # Errors
    /// What is wrong, by line or key: a list that is not understood whole would let entries through.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let (name, prefixes) = if bytes.trim_ascii_start().starts_with(b"{") {
            let published: Published = serde_json::from_slice(bytes).map_err(|error| super::stix::place(&error))?;
            if published.kind != "cidr" {
                return Err("type: is not \"cidr\"; only lists of addresses are of use here".to_owned());
            }
            let parse = |(index, text): (usize, &String)| {
                text.parse().map_err(|_prefix| format!("list[{index}] is not an address or prefix"))
            };
            let prefixes = published.list.iter().enumerate().map(parse).collect::<Result<Vec<IpNetwork>, _>>()?;
            (published.name, prefixes)
        } else {
            let text = std::str::from_utf8(bytes).map_err(|_bytes| "is not text (UTF-8)".to_owned())?;
            let mut prefixes = Vec::new();
            for (number, line) in (1..).zip(text.lines()) {
                let line = line.split(['#', ';']).next().unwrap_or_default().trim();
                if !line.is_empty() {
                    let wrong = |_prefix| format!("line {number} is not an address or prefix");
                    prefixes.push(line.parse().map_err(wrong)?);
                }
            }
            (name.to_owned(), prefixes)
        };
        let (ipv4, ipv6) = split(&prefixes);
        self.lists.push(List { name, ipv4: range::union(ipv4), ipv6: range::union(ipv6) });
        Ok(())
    }

    /// Adds a person's words: a JSON list of `{"entry", "list", "reason", "by"}`.
    ///
    /// # Errors
    /// What is wrong, by the index in the list.
    pub fn add_overrides(&mut self, bytes: &[u8]) -> Result<(), String> {
        let words: Vec<Override> = serde_json::from_slice(bytes).map_err(|error| super::stix::place(&error))?;
        for (index, word) in words.into_iter().enumerate() {
            let entry: IpNetwork =
                word.entry.parse().map_err(|_prefix| format!("[{index}].entry is not an address or prefix"))?;
            if word.reason.trim().is_empty() || word.by.trim().is_empty() {
                return Err(format!("[{index}]: needs a person's name (by) and reason"));
            }
            if !self.names().any(|name| name == word.list) {
                return Err(format!("[{index}].list is none of the lists that are read"));
            }
            self.overrides.push((entry, word));
        }
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(OVER_WIDE).chain(self.lists.iter().map(|list| list.name.as_str()))
    }

    /// The first list that holds a prefix back; nothing if none does, or every one that does is overridden.
    pub(super) fn holds(&mut self, prefix: IpNetwork) -> Option<String> {
        let wide = match prefix {
            IpNetwork::V4(prefix) => prefix.prefix() < IMPORT_IPV4_PREFIX_MIN,
            IpNetwork::V6(prefix) => prefix.prefix() < IMPORT_IPV6_PREFIX_MIN,
        };
        let mut on: Vec<String> = wide.then(|| OVER_WIDE.to_owned()).into_iter().collect();
        let (first, last, is_ipv4) = match prefix {
            IpNetwork::V4(prefix) => (u32::from(prefix.network()).into(), u32::from(prefix.broadcast()).into(), true),
            IpNetwork::V6(prefix) => (prefix.network().into(), prefix.broadcast().into(), false),
        };
        for list in &self.lists {
            let ranges = if is_ipv4 { &list.ipv4 } else { &list.ipv6 };
            let next = ranges.partition_point(|range| range.last < first);
            if ranges.get(next).is_some_and(|range| range.first <= last) {
                on.push(list.name.clone());
            }
        }
        let same = |one: IpNetwork| one.network() == prefix.network() && one.prefix() == prefix.prefix();
        on.into_iter().find(|name| {
            let word = self.overrides.iter().position(|(entry, word)| same(*entry) && word.list == *name);
            word.map(|word| self.used.insert(word)).is_none()
        })
    }

    /// The overrides that let an entry in.
    pub(super) fn used(&self) -> Vec<Override> {
        let used = |(index, _): &(usize, &(IpNetwork, Override))| self.used.contains(index);
        self.overrides.iter().enumerate().filter(used).map(|(_, (_, word))| word.clone()).collect()
    }

    /// How many were for no entry.
    pub(super) fn unused(&self) -> usize {
        self.overrides.len() - self.used.len()
    }
}
