//! The same decisions with the kernel's own maps: full-length IPv4 addresses in a hash map, IPv4 prefixes and the country table
//! in longest-prefix tries. Everything else, IPv6 too, is the product's.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{HashMap, LpmTrie};
use aya_ebpf::macros::btf_map;
use tap_common::abi::policy::{CapPolicy, Lease, Policy};
use tap_common::abi::rule::{ClassMasks, RuleMask, Signature};
use tap_common::abi::tables::{Exact4, Exact6};
use tap_common::path::transport::MirrorTransport;
use tap_common::path::verdict::Decision;
use tap_common::path::world::{Credit, Exact, Trie, World};
use tap_ebpf::world::KernelWorld;

/// Address to class.
#[btf_map]
pub static HASH_ADDRESSES: HashMap<u32, u32, 1> = HashMap::new();
/// Prefix to class.
#[btf_map]
pub static LPM_PREFIXES: LpmTrie<u32, u32, 1> = LpmTrie::new();
/// Prefix to the number of its side.
#[btf_map]
pub static LPM_COUNTRY: LpmTrie<u32, u32, 1> = LpmTrie::new();

/// The kernel's world with other look-ups of IPv4 addresses.
pub struct KernelMaps(pub KernelWorld);

/// Passes methods on to the world inside.
macro_rules! inside {
    ($($name:ident[$this:ident: $($reference:tt)+] ($($argument:ident: $kind:ty),*) $(-> $result:ty)?;)*) => {$(
        #[inline(always)]
        fn $name($($reference)+ $this, $($argument: $kind),*) $(-> $result)? {
            $this.0.$name($($argument),*)
        }
    )*};
}

impl World for KernelMaps {
    #[inline(always)]
    fn selector_class(&self, ip_version: u8, address: [u64; 2]) -> u32 {
        if ip_version != 4 {
            return self.0.selector_class(ip_version, address);
        }
        let address = (address[1] as u32).to_be();
        // SAFETY: the class is copied at once; nothing changes the map while the program runs.
        match unsafe { HASH_ADDRESSES.get(&address) } {
            Some(class) => *class,
            None => LPM_PREFIXES.get(&Key::new(32, address)).copied().unwrap_or(0),
        }
    }

    #[inline(always)]
    fn country_class(&self, ip_version: u8, address: [u64; 2]) -> u32 {
        if ip_version != 4 {
            return self.0.country_class(ip_version, address);
        }
        LPM_COUNTRY.get(&Key::new(32, (address[1] as u32).to_be())).copied().unwrap_or(0)
    }

    inside! {
        settle[self: &] (decision: &mut Decision);
        transport[self: &] () -> Option<MirrorTransport>;
        now_cached_ns[self: &mut] () -> u64;
        is_brief[self: &] () -> bool;
        prepare[self: &mut] () -> bool;
        ready[self: &mut] () -> Option<u64>;
        set_ready[self: &mut] (threshold: Option<u64>);
        now_exact_ns[self: &mut] () -> u64;
        epoch_cached[self: &] () -> u64;
        tick_ns[self: &] () -> u64;
        measures[self: &] () -> u32;
        lease[self: &] (slot: u32) -> Lease;
        sampling_threshold[self: &] (slot: u32) -> u64;
        policy[self: &] () -> &Policy;
        is_shown[self: &] () -> bool;
        sampling_on[self: &] () -> bool;
        cap_on[self: &] () -> bool;
        cap[self: &] (bucket: u32) -> CapPolicy;
        credit[self: &] (bucket: u32) -> Credit;
        set_credit[self: &mut] (bucket: u32, credit: Credit);
        bucket[self: &] (bucket: u32) -> u64;
        bucket_exchange[self: &] (bucket: u32, expected: u64, new: u64) -> bool;
        dimensions[self: &] () -> u32;
        rule_words[self: &] () -> usize;
        no_rules[self: &] () -> u64;
        trie_root[self: &] (trie: Trie, index: u16) -> u32;
        trie_word[self: &] (trie: Trie, node: u32, index: u8) -> u32;
        exact_mask[self: &] (table: Exact) -> Option<u32>;
        prefilter_mask[self: &] (table: Exact) -> u32;
        prefilter_word[self: &] (table: Exact, index: u32) -> u64;
        exact4[self: &] (bucket: u32) -> Option<&Exact4>;
        exact6[self: &] (bucket: u32) -> Option<&Exact6>;
        address_masks[self: &] (class: u32) -> Option<&ClassMasks>;
        port_class[self: &] (port: u16) -> u32;
        port_masks[self: &] (class: u32) -> Option<&ClassMasks>;
        protocol_mask[self: &] (protocol: u8) -> Option<&RuleMask>;
        tcp_flags_mask[self: &] (index: u32) -> Option<&RuleMask>;
        ip_length_class[self: &] (length: u32) -> u32;
        ip_length_mask[self: &] (class: u32) -> Option<&RuleMask>;
        fragment_mask[self: &] (fragment: u8) -> Option<&RuleMask>;
        signatures[self: &] () -> u32;
        signature[self: &] (index: u32) -> Option<&Signature>;
    }
}
