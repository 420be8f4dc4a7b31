//! Builds the hashed tables of [`tap_common::path::exact`]: every address into the emptier of its two buckets.

use tap_common::abi::tables::{Exact4, Exact6};
use tap_common::limits::PREFILTER_BITS_PER_ADDRESS;
use tap_common::path::exact::places;

/// Upper half of the low 64 bits of an IPv4-mapped address (RFC 4291, 2.5.5.2), as the headers hold it.
const IPV4_MAPPED: u64 = 0x0000_ffff_0000_0000;

/// A hashed table and its prefilter; both empty when there are few addresses.
#[derive(Clone, PartialEq, Eq)]
pub struct ExactTable<B> {
    /// Buckets: a power of two of them, or none.
    pub buckets: Vec<B>,
    /// Bits of the addresses: a power of two of words, or none.
    pub prefilter: Vec<u64>,
}

/// An IPv4 address.
#[derive(Clone, Copy)]
pub struct Key4(pub(super) u32);

/// An IPv6 address as two halves.
#[derive(Clone, Copy)]
pub struct Key6([u64; 2]);

impl From<u128> for Key6 {
    #[allow(clippy::cast_possible_truncation, reason = "the two halves of the number")]
    fn from(address: u128) -> Self {
        Self([(address >> 64) as u64, address as u64])
    }
}

impl From<Key6> for u128 {
    fn from(Key6([high, low]): Key6) -> Self {
        Self::from(high) << 64 | Self::from(low)
    }
}

/// A bucket of entries with such keys.
pub trait Bucket: Copy + Default {
    type Key: Copy;
    /// Entries for each bucket on the average at most, so that nearly every address finds a place.
    const LOAD: usize;

    /// The key as the packet's headers hold it.
    fn halves(key: Self::Key) -> [u64; 2];
    /// Entries in use.
    fn used(&self) -> usize;
    /// Puts an entry in; whether there was room.
    fn put(&mut self, key: Self::Key, class: u32) -> bool;
}

impl Bucket for Exact4 {
    type Key = Key4;
    const LOAD: usize = 6;

    fn halves(Key4(address): Key4) -> [u64; 2] {
        [0, IPV4_MAPPED | u64::from(address)]
    }

    fn used(&self) -> usize {
        self.classes.iter().filter(|class| **class != 0).count()
    }

    fn put(&mut self, Key4(address): Key4, class: u32) -> bool {
        let Ok(class) = u16::try_from(class) else { return false };
        let free = self.keys.iter_mut().zip(&mut self.classes).find(|(_, class)| **class == 0);
        free.map(|(key, place)| (*key, *place) = (address, class)).is_some()
    }
}

impl Bucket for Exact6 {
    type Key = Key6;
    const LOAD: usize = 1;

    fn halves(Key6(halves): Key6) -> [u64; 2] {
        halves
    }

    fn used(&self) -> usize {
        self.classes.iter().filter(|class| **class != 0).count()
    }

    fn put(&mut self, Key6(halves): Key6, class: u32) -> bool {
        let free = self.keys.iter_mut().zip(&mut self.classes).find(|(_, class)| **class == 0);
        free.map(|(key, place)| (*key, *place) = (halves, class)).is_some()
    }
}

impl<B: Bucket> ExactTable<B> {
    /// The table of these addresses and their classes (not 0), and those for which both buckets were full.
    pub(super) fn of(keys: impl ExactSizeIterator<Item = (B::Key, u32)>) -> (Self, Vec<(B::Key, u32)>) {
        let count = keys.len();
        if count == 0 {
            return (Self { buckets: Vec::new(), prefilter: Vec::new() }, Vec::new());
        }
        let buckets = count.div_ceil(B::LOAD).next_power_of_two();
        let words = (count * PREFILTER_BITS_PER_ADDRESS).div_ceil(64).next_power_of_two();
        let mut table = Self { buckets: vec![B::default(); buckets], prefilter: vec![0; words] };
        let left = keys.filter(|(key, class)| !table.put(*key, *class)).collect();
        (table, left)
    }

    /// Buckets, as the load-time constant counts them.
    pub(in crate::load) fn bucket_count(&self) -> u32 {
        u32::try_from(self.buckets.len()).unwrap_or(0)
    }

    /// Words of the prefilter; 1 when there is no table.
    pub(in crate::load) fn prefilter_words(&self) -> u32 {
        u32::try_from(self.prefilter.len()).unwrap_or(0).max(1)
    }

    /// Bytes in the kernel.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.buckets) + size_of_val(&*self.prefilter)
    }

    fn put(&mut self, key: B::Key, class: u32) -> bool {
        let places = places(B::halves(key), self.bucket_count() - 1, self.prefilter_words() - 1);
        let (first, second) = (places.first as usize, places.second as usize);
        let used = |bucket: usize| self.buckets.get(bucket).map_or(usize::MAX, B::used);
        let emptier = if used(first) <= used(second) { first } else { second };
        let put = self.buckets.get_mut(emptier).is_some_and(|bucket| bucket.put(key, class));
        if put && let Some(word) = self.prefilter.get_mut(places.prefilter_word as usize) {
            *word |= 1 << places.prefilter_bit;
        }
        put
    }
}
