//! The benchmark's world: addresses drawn from the real country table, so that look-ups go where a real line's would.
//!
//! In: the table in `tests/country`. Out: selector sets, and flows that they select or do not. Drawing begins with a fixed
//! seed: every run measures the same world.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context as _, Result};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use tap_common::abi::rule::ConditionKind;
use tap_common::path::direction::{AddressClass, Direction};
use tap_userspace::load::bench::{Flow, KernelMaps, Template};
use tap_userspace::load::{MeasureParameters, Tables};
use tap_userspace::prefixes::country::CountryTable;
use tap_userspace::prefixes::special::Special;
use tap_userspace::selectors::rule::{AddressItem, AddressValues};
use tap_userspace::selectors::{CheckedRule, CheckedSet};

use crate::random::Random;

/// The port that the rules ask for and every flow goes to, so that only addresses decide.
pub(super) const PORT: u16 = 443;
/// What follows the first four bytes of an IPv6 flow's addresses.
const IPV6_REST: u128 = 0x1;

/// The country table, and what is drawn from it.
pub struct World {
    country: CountryTable,
    foreign: Region,
    domestic: Region,
    random: Random,
}

/// How an address condition names an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `source-address`: one look-up.
    Source,
    /// `address`: either end, two look-ups.
    Either,
}

/// Selectors of one set, and the ranges they cover.
pub struct Selectors {
    prefixes: Vec<IpNetwork>,
    ranges: Vec<(u128, u128)>,
}

/// IPv4 ranges of one class, to draw from evenly.
struct Region {
    /// First address, and how many addresses lie in the ranges up to and with this one.
    ranges: Vec<(u32, u64)>,
    addresses: u64,
}

impl World {
    /// Reads the country table: one line of every `step`.
    ///
    /// # Errors
    /// It is not there, or not a table.
    pub fn read(step: usize) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("country");
        let mut text = String::new();
        for name in ["ipv4.csv", "ipv6.csv"] {
            let file = folder.join(name);
            let whole = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
            text.extend(whole.split_inclusive('\n').step_by(step));
        }
        let country = CountryTable::from_csv(text.as_bytes(), None, Special::TakenOut)?;
        let foreign = Region::of(&country, AddressClass::Foreign);
        let domestic = Region::of(&country, AddressClass::Domestic);
        Ok(Self { country, foreign, domestic, random: Random::from_seed(3) })
    }

    /// `count` full-length addresses, evenly from foreign space.
    pub fn addresses(&mut self, count: usize) -> Selectors {
        let mut drawn = BTreeSet::new();
        while drawn.len() < count {
            drawn.insert(self.foreign.draw(&mut self.random));
        }
        Selectors::new(
            drawn.into_iter().map(|address| IpNetwork::from(IpAddr::from(Ipv4Addr::from(address)))).collect(),
        )
    }

    /// `count` selectors: every second one a full-length address, the others prefixes of 20 to 28 bits, mostly 24.
    ///
    /// # Errors
    /// Never for these lengths.
    pub fn mixed(&mut self, count: usize) -> Result<Selectors> {
        let mut drawn = BTreeSet::new();
        while drawn.len() < count {
            let length = if drawn.len() % 2 == 0 { 32 } else { self.random.pick([20, 22, 24, 24, 24, 24, 26, 28]) };
            drawn.insert(whole(IpNetwork::new(Ipv4Addr::from(self.foreign.draw(&mut self.random)).into(), length)?)?);
        }
        Ok(Selectors::new(drawn.into_iter().collect()))
    }

    /// `count` selectors, of which `prefixes` are shorter than an address.
    ///
    /// # Errors
    /// Never for these lengths.
    pub fn mostly_addresses(&mut self, count: usize, prefixes: usize) -> Result<Selectors> {
        let mut drawn: BTreeSet<IpNetwork> = self.addresses(count - prefixes).prefixes.into_iter().collect();
        while drawn.len() < count {
            let length = self.random.pick([20, 22, 24, 24, 24, 24, 26, 28]);
            drawn.insert(whole(IpNetwork::new(Ipv4Addr::from(self.foreign.draw(&mut self.random)).into(), length)?)?);
        }
        Ok(Selectors::new(drawn.into_iter().collect()))
    }

    /// The same for IPv6: every second one full-length, the others prefixes of 32 to 64 bits.
    ///
    /// # Errors
    /// As above.
    pub fn mixed6(&mut self, count: usize) -> Result<Selectors> {
        let mut drawn = BTreeSet::new();
        while drawn.len() < count {
            let length = if drawn.len() % 2 == 0 { 128 } else { self.random.pick([32, 40, 48, 48, 56, 64]) };
            drawn.insert(whole(IpNetwork::new(Ipv6Addr::from(self.foreign6()).into(), length)?)?);
        }
        Ok(Selectors::new(drawn.into_iter().collect()))
    }

    /// `count` foreign hosts.
    pub fn hosts(&mut self, count: usize) -> Vec<Ipv4Addr> {
        (0..count).map(|_| Ipv4Addr::from(self.foreign.draw(&mut self.random))).collect()
    }

    /// A domestic host.
    pub fn domestic_host(&mut self) -> Ipv4Addr {
        Ipv4Addr::from(self.domestic.draw(&mut self.random))
    }

    /// Flows from foreign sources to domestic ends that `selectors` do not name.
    pub fn elsewhere(&mut self, count: usize, selectors: &Selectors) -> Vec<Flow> {
        (0..count)
            .map(|_| {
                let source = self.outside(selectors, false);
                let destination = self.outside(selectors, true);
                self.flow(source, destination)
            })
            .collect()
    }

    /// Flows from sources that `selectors` name, to domestic ends.
    pub fn inside(&mut self, count: usize, selectors: &Selectors) -> Vec<Flow> {
        (0..count)
            .map(|_| {
                let (first, last) = selectors.draw(&mut self.random);
                let width = u64::try_from(last - first).unwrap_or(u64::MAX).saturating_add(1);
                let source = u32::try_from(first).unwrap_or(0).wrapping_add(low32(self.random.below(0..width)));
                let destination = self.outside(selectors, true);
                self.flow(source, destination)
            })
            .collect()
    }

    /// IPv6 flows that `selectors` do not name: their first four bytes differ, the rest is the template's.
    pub fn elsewhere6(&mut self, count: usize, selectors: &Selectors) -> Vec<Flow> {
        (0..count)
            .map(|_| {
                let [source, destination] = [0; 2].map(|_| {
                    loop {
                        let head = (self.foreign6() >> 96) << 96;
                        if !selectors.holds(head | IPV6_REST) {
                            return u32::try_from(head >> 96).unwrap_or(0);
                        }
                    }
                });
                self.flow(source, destination)
            })
            .collect()
    }

    /// Tables of a set that asks for `selectors` at `end`, and for TCP to port 443; directions as Art. 32 has them.
    ///
    /// # Errors
    /// The set does not fit a generation.
    pub fn tables(&self, selectors: &Selectors, end: End, sampling_ppm: u32) -> Result<Tables> {
        let parameters = MeasureParameters {
            directions: 1 << Direction::ForeignToDomestic as u32,
            conditions_min: 2,
            sampling_ppm,
            sampling_seed: 7,
        };
        Ok(Tables::compile(&set(selectors, end), &parameters, &self.country)?)
    }

    /// The same selectors and country table for the kernel's own maps.
    #[must_use]
    pub fn kernel_maps<'a>(&'a self, selectors: &'a Selectors) -> KernelMaps<'a> {
        KernelMaps { prefixes: &selectors.prefixes, country: &self.country }
    }

    fn flow(&mut self, source: u32, destination: u32) -> Flow {
        let port = 1_024 + u16::try_from(self.random.below(0..60_000)).unwrap_or(0);
        Flow::new(source.to_be_bytes(), destination.to_be_bytes(), port, PORT)
    }

    fn outside(&mut self, selectors: &Selectors, domestic: bool) -> u32 {
        let region = if domestic { &self.domestic } else { &self.foreign };
        loop {
            let address = region.draw(&mut self.random);
            if !selectors.holds(address.into()) {
                return address;
            }
        }
    }

    /// An IPv6 address out of any foreign range, each range as likely as the other: evenly by address would be a few
    /// providers' alone.
    fn foreign6(&mut self) -> u128 {
        loop {
            let index = self.random.index(0..self.country.ranges6.len());
            if let Some((first, last, AddressClass::Foreign)) = self.country.ranges6.get(index) {
                let bits = (u128::from(self.random.bits()) << 64) | u128::from(self.random.bits());
                return first + bits % (last - first).max(1);
            }
        }
    }
}

impl Selectors {
    fn new(prefixes: Vec<IpNetwork>) -> Self {
        let prefixes = tap_userspace::prefixes::merge(prefixes);
        let mut ranges: Vec<(u128, u128)> = prefixes
            .iter()
            .map(|prefix| match prefix {
                IpNetwork::V4(prefix) => (u32::from(prefix.network()).into(), u32::from(prefix.broadcast()).into()),
                IpNetwork::V6(prefix) => (prefix.network().into(), prefix.broadcast().into()),
            })
            .collect();
        ranges.sort_unstable();
        Self { prefixes, ranges }
    }

    /// The same and one host more.
    #[must_use]
    pub fn with(&self, host: Ipv4Addr) -> Self {
        let host = IpNetwork::from(IpAddr::from(host));
        Self::new(self.prefixes.iter().copied().chain([host]).collect())
    }

    fn holds(&self, address: u128) -> bool {
        let next = self.ranges.partition_point(|(_, last)| *last < address);
        self.ranges.get(next).is_some_and(|(first, _)| *first <= address)
    }

    fn draw(&self, random: &mut Random) -> (u128, u128) {
        self.ranges.get(random.index(0..self.ranges.len())).copied().unwrap_or((0, 0))
    }
}

impl Region {
    fn of(country: &CountryTable, wanted: AddressClass) -> Self {
        let mut addresses = 0;
        let ranges = country
            .ranges4
            .iter()
            .filter(|(_, _, class)| *class == wanted)
            .map(|(first, last, _)| {
                addresses += u64::from(last - first) + 1;
                (*first, addresses)
            })
            .collect();
        Self { ranges, addresses }
    }

    fn draw(&self, random: &mut Random) -> u32 {
        let number = random.below(0..self.addresses);
        let index = self.ranges.partition_point(|(_, up_to)| *up_to <= number);
        let before = index.checked_sub(1).and_then(|index| self.ranges.get(index)).map_or(0, |(_, up_to)| *up_to);
        let first = self.ranges.get(index).map_or(0, |(first, _)| *first);
        first.wrapping_add(low32(number - before))
    }
}

fn low32(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0)
}

/// The prefix with its host bits zero.
fn whole(prefix: IpNetwork) -> Result<IpNetwork> {
    Ok(match prefix {
        IpNetwork::V4(prefix) => Ipv4Network::new(prefix.network(), prefix.prefix())?.into(),
        IpNetwork::V6(prefix) => Ipv6Network::new(prefix.network(), prefix.prefix())?.into(),
    })
}

fn set(selectors: &Selectors, end: End) -> CheckedSet {
    let values = AddressValues {
        item: AddressItem::FacilityAddress,
        prefixes: selectors.prefixes.clone(),
        entries: selectors.prefixes.clone(),
    };
    let (source_address, address) = match end {
        End::Source => (Some(values), None),
        End::Either => (None, Some(values)),
    };
    let rule = CheckedRule {
        id: "bench".to_owned(),
        act: "bench".to_owned(),
        source_address,
        destination_address: None,
        address,
        source_port: None,
        destination_port: Some(vec![PORT..=PORT]),
        port: None,
        protocol: Some(vec![6]),
        tcp_flags: None,
        ip_length: None,
        fragment: None,
        payload: None,
        counted: vec![ConditionKind::Address, ConditionKind::Port],
    };
    CheckedSet {
        measure: "bench".to_owned(),
        version: 1,
        sha256: [0; 32],
        rules: vec![rule],
        scope: None,
        ends: Vec::new(),
    }
}

/// A TCP segment of 66 bytes over IPv4.
#[must_use]
pub fn ipv4() -> Template {
    let mut frame = ETHERNET.to_vec();
    frame.extend([8, 0, 0x45, 0, 0, 52, 0, 0, 0x40, 0, 64, 6, 0, 0, 11, 0, 0, 1, 133, 1, 2, 3]);
    frame.extend(TCP);
    Template { frame, source_at: 26, destination_at: 30, ports_at: 34 }
}

/// The same segment over IPv6, behind hop-by-hop and destination options.
#[must_use]
pub fn ipv6() -> Template {
    let mut frame = ETHERNET.to_vec();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 48, 0, 64]);
    frame.extend(IPV6_REST.to_be_bytes());
    frame.extend(IPV6_REST.to_be_bytes());
    // Next header, length, and a PadN option of six bytes.
    frame.extend([60, 0, 1, 4, 0, 0, 0, 0]);
    frame.extend([6, 0, 1, 4, 0, 0, 0, 0]);
    frame.extend(TCP);
    Template { frame, source_at: 22, destination_at: 38, ports_at: 70 }
}

/// Two hardware addresses.
const ETHERNET: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
/// An acknowledging TCP header with time stamps.
const TCP: [u8; 32] =
    [0x9c, 0x40, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 1, 0x80, 0x10, 0, 0xff, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
