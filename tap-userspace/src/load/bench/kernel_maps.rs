//! The kernel's own maps for the program that looks addresses up in them, with the classes that the generation's tables give.
//!
//! In: the set's prefixes, the country table, the tables compiled from both. Out: filled maps: full-length addresses in a hash
//! map, the others in a longest-prefix trie, the country table in another. IPv4 alone.

use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, LpmTrie, MapData};
use ipnetwork::IpNetwork;
use tap_common::path::world::World as _;

use crate::load::host::{HostWorld, LaboratoryConfig};
use crate::load::{LoadError, Tables};
use crate::prefixes::country::CountryTable;

const HASH_ADDRESSES: &str = "HASH_ADDRESSES";
const LPM_PREFIXES: &str = "LPM_PREFIXES";
const LPM_COUNTRY: &str = "LPM_COUNTRY";

/// What the maps are filled from.
#[derive(Clone, Copy)]
pub struct KernelMaps<'a> {
    /// The set's prefixes, merged.
    pub prefixes: &'a [IpNetwork],
    /// The country table.
    pub country: &'a CountryTable,
}

/// An entry: address, length, and what the look-up gives.
type Entry = (u32, u8, u32);

/// The entries of the three maps.
#[derive(Default)]
pub(super) struct Entries {
    addresses: Vec<Entry>,
    prefixes: Vec<Entry>,
    country: Vec<Entry>,
}

impl Entries {
    pub(super) fn of(maps: Option<KernelMaps<'_>>, tables: &Tables) -> Self {
        let mut entries = Self::default();
        let Some(maps) = maps else { return entries };
        let world = HostWorld::new(tables, LaboratoryConfig::default());
        for prefix in maps.prefixes {
            if let IpNetwork::V4(prefix) = prefix {
                let first = u32::from(prefix.network());
                let class = world.selector_class(4, [0, 0xffff_0000_0000 | u64::from(first)]);
                let of_kind = if prefix.prefix() == 32 { &mut entries.addresses } else { &mut entries.prefixes };
                of_kind.push((first, prefix.prefix(), class));
            }
        }
        for (first, last, class) in &maps.country.ranges4 {
            blocks(*first, *last, |address, length| entries.country.push((address, length, *class as u32)));
        }
        entries
    }

    /// Elements that the maps need.
    pub(super) fn elements(&self) -> [(&'static str, u32); 3] {
        [(HASH_ADDRESSES, &self.addresses), (LPM_PREFIXES, &self.prefixes), (LPM_COUNTRY, &self.country)]
            .map(|(name, entries)| (name, u32::try_from(entries.len()).unwrap_or(u32::MAX).max(1)))
    }

    pub(super) fn fill(&self, ebpf: &mut Ebpf) -> Result<(), LoadError> {
        let map = ebpf.take_map(HASH_ADDRESSES).ok_or(LoadError::Missing { what: HASH_ADDRESSES })?;
        let mut map: HashMap<MapData, u32, u32> =
            HashMap::try_from(map).map_err(|error| LoadError::map(HASH_ADDRESSES, error))?;
        for (address, _, class) in &self.addresses {
            map.insert(address.to_be(), class, 0).map_err(|error| LoadError::map(HASH_ADDRESSES, error))?;
        }
        for (name, entries) in [(LPM_PREFIXES, &self.prefixes), (LPM_COUNTRY, &self.country)] {
            let map = ebpf.take_map(name).ok_or(LoadError::Missing { what: name })?;
            let mut map: LpmTrie<MapData, u32, u32> =
                LpmTrie::try_from(map).map_err(|error| LoadError::map(name, error))?;
            for (address, length, class) in entries {
                let key = Key::new(u32::from(*length), address.to_be());
                map.insert(&key, class, 0).map_err(|error| LoadError::map(name, error))?;
            }
        }
        Ok(())
    }
}

/// The fewest prefixes that make up a range.
fn blocks(first: u32, last: u32, mut take: impl FnMut(u32, u8)) {
    let (mut next, last) = (u64::from(first), u64::from(last));
    while next <= last {
        let fits = (last - next + 1).ilog2();
        let bits = next.trailing_zeros().min(fits).min(32);
        take(u32::try_from(next).unwrap_or(u32::MAX), u8::try_from(32 - bits).unwrap_or(0));
        next += 1 << bits;
    }
}

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn a_range_is_the_fewest_prefixes() {
        let mut found = Vec::new();
        blocks(0x0a00_0001, 0x0a00_0006, |address, length| found.push((address & 0xff, length)));
        assert_eq!(found, [(1, 32), (2, 31), (4, 31), (6, 32)]);
        found.clear();
        blocks(0, u32::MAX, |address, length| found.push((address, length)));
        assert_eq!(found, [(0, 0)]);
    }
}
