//! World over maps: the kernel's side of [`tap_common::path::world::World`].

use crate::{constant, maps};
use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_boot_ns};
use core::intrinsics::{AtomicOrdering, atomic_cxchg};
use tap_common::abi::cpu::CpuState;
use tap_common::abi::policy::{CapPolicy, Lease, MeasurePolicy};
use tap_common::abi::rule::{ClassMasks, RuleMask};
use tap_common::limits::{IP_LENGTHS, TICK_NS_MAX};
use tap_common::path::transport::MirrorTransport;
use tap_common::path::verdict::Decision;
use tap_common::path::world::{Credit, Dimension, Trie, World};

/// The maps, seen from one CPU.
pub struct KernelWorld {
    cpu: *mut CpuState,
}

impl KernelWorld {
    #[inline(always)]
    pub fn new(cpu: *mut CpuState) -> Self {
        Self { cpu }
    }
}

impl World for KernelWorld {
    #[inline(always)]
    fn settle(&self, decision: &mut Decision) {
        let mut at = core::ptr::from_mut(decision);
        // SAFETY: assigns a register to itself; without `nomem`, so that what was stored is stored before and read again
        // after. The decision lies in a map, whose values the verifier does not track.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) at, options(nostack)) };
        let _ = &mut at;
    }

    #[inline(always)]
    fn transport(&self) -> Option<MirrorTransport> {
        constant::transport()
    }

    #[inline(always)]
    fn now_cached_ns(&mut self) -> u64 {
        if constant::is_laboratory() {
            return injected_ns();
        }
        // SAFETY: the element is this CPU's own for the program's run. The exact clock costs more than everything else
        // together; jiffies are a plain load.
        unsafe {
            let jiffies = bpf_jiffies64();
            if (*self.cpu).jiffies != jiffies {
                (*self.cpu).jiffies = jiffies;
                (*self.cpu).now_cached_ns = bpf_ktime_get_boot_ns();
            }
            (*self.cpu).now_cached_ns
        }
    }

    #[inline(always)]
    fn now_exact_ns(&mut self) -> u64 {
        if constant::is_laboratory() {
            return injected_ns();
        }
        // SAFETY: a helper without arguments, and this CPU's own element.
        unsafe {
            let now_ns = bpf_ktime_get_boot_ns();
            (*self.cpu).now_cached_ns = now_ns;
            now_ns
        }
    }

    #[inline(always)]
    fn tick_ns(&self) -> u64 {
        if constant::is_laboratory() { 0 } else { TICK_NS_MAX }
    }

    #[inline(always)]
    fn lease(&self, slot: u32) -> Option<Lease> {
        let lease = maps::LEASE.get_ptr(slot)?;
        // SAFETY: the map's element; volatile, because the agent writes it while the program runs. A mixture of an old
        // and a new lease begins with one of them and ends with one of them, so it is no longer than both.
        unsafe {
            Some(Lease {
                not_before_ns: core::ptr::read_volatile(&raw const (*lease).not_before_ns),
                deadline_ns: core::ptr::read_volatile(&raw const (*lease).deadline_ns),
            })
        }
    }

    #[inline(always)]
    fn policy(&self, slot: u32) -> Option<&MeasurePolicy> {
        maps::POLICY.get(slot)
    }

    #[inline(always)]
    fn sampling_on(&self) -> bool {
        constant::is_sampling_on()
    }

    #[inline(always)]
    fn cap_on(&self) -> bool {
        constant::is_cap_on()
    }

    #[inline(always)]
    fn cap(&self) -> Option<CapPolicy> {
        maps::CAP_POLICY.get(0).copied()
    }

    #[inline(always)]
    fn credit(&self) -> Credit {
        // SAFETY: this CPU's own element.
        unsafe { (*self.cpu).credit }
    }

    #[inline(always)]
    fn set_credit(&mut self, credit: Credit) {
        // SAFETY: this CPU's own element.
        unsafe { (*self.cpu).credit = credit };
    }

    #[inline(always)]
    fn bucket(&self) -> Option<u64> {
        let word = maps::BUCKET.get_ptr(0)?;
        // SAFETY: the map's element; volatile, because other CPUs write it. The exchange decides, not this read.
        Some(unsafe { core::ptr::read_volatile(word) })
    }

    #[inline(always)]
    fn bucket_exchange(&self, expected: u64, new: u64) -> bool {
        let Some(word) = maps::BUCKET.get_ptr_mut(0) else { return false };
        // SAFETY: the map's element, aligned to 8. Sequentially consistent: with a relaxed ordering this target's
        // compiler drops the fetched value.
        let (_, exchanged) =
            unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, expected, new) };
        exchanged
    }

    #[inline(always)]
    fn uses(&self, dimension: Dimension) -> bool {
        constant::dimensions() & dimension as u32 != 0
    }

    #[inline(always)]
    fn rule_words(&self) -> usize {
        constant::rule_words()
    }

    #[inline(always)]
    fn trie_word(&self, trie: Trie, node: u32, index: u8) -> u32 {
        let node = match trie {
            Trie::Selector4 => maps::SELECTOR4.get(node),
            Trie::Selector6 => maps::SELECTOR6.get(node),
            Trie::Country4 => maps::COUNTRY4.get(node),
            Trie::Country6 => maps::COUNTRY6.get(node),
        };
        match node {
            // An 8-bit index is always inside 256 words.
            Some(words) => words[index as usize],
            None => 0,
        }
    }

    #[inline(always)]
    fn address_masks(&self, class: u32) -> Option<&ClassMasks> {
        maps::ADDRESS_MASKS.get(class)
    }

    #[inline(always)]
    fn port_class(&self, port: u16) -> u32 {
        match maps::PORT_CLASS.get(0) {
            Some(classes) => u32::from(classes[port as usize]),
            None => 0,
        }
    }

    #[inline(always)]
    fn port_masks(&self, class: u32) -> Option<&ClassMasks> {
        maps::PORT_MASKS.get(class)
    }

    #[inline(always)]
    fn protocol_mask(&self, protocol: u8) -> Option<&RuleMask> {
        maps::PROTOCOL_MASK.get(u32::from(protocol))
    }

    #[inline(always)]
    fn tcp_flags_mask(&self, index: u32) -> Option<&RuleMask> {
        maps::TCP_FLAGS_MASK.get(index)
    }

    #[inline(always)]
    fn ip_length_class(&self, length: u32) -> u32 {
        let index = length as usize;
        match maps::IP_LENGTH_CLASS.get(0) {
            Some(classes) if index < IP_LENGTHS => u32::from(classes[index]),
            _ => 0,
        }
    }

    #[inline(always)]
    fn ip_length_mask(&self, class: u32) -> Option<&RuleMask> {
        maps::IP_LENGTH_MASK.get(class)
    }

    #[inline(always)]
    fn fragment_mask(&self, fragment: u8) -> Option<&RuleMask> {
        maps::FRAGMENT_MASK.get(u32::from(fragment))
    }
}

/// The laboratory's time.
#[inline(always)]
fn injected_ns() -> u64 {
    maps::CLOCK.get(0).copied().unwrap_or(0)
}
