//! World over maps: the kernel's side of [`tap_common::path::world::World`].

use crate::{constant, maps};
use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_boot_ns, bpf_loop};
use core::ffi::c_void;
use core::intrinsics::{AtomicOrdering, atomic_cxchg};
use tap_common::abi::cpu::CpuState;
use tap_common::abi::policy::{BUCKETS, Bucket, CapPolicy, Lease, Policy, Shared};
use tap_common::abi::rule::{ClassMasks, RuleMask, Signature};
use tap_common::abi::tables::{Exact4, Exact6};
use tap_common::limits::{MEASURES_MAX, TICK_NS_MAX};
use tap_common::path::cap::epoch_of;
use tap_common::path::transport::MirrorTransport;
use tap_common::path::verdict::Decision;
use tap_common::path::world::{Credit, Exact, Step, Trie, World};

/// The maps, seen from one CPU.
#[derive(Clone, Copy)]
pub struct KernelWorld {
    cpu: *mut CpuState,
    /// Null until [`World::prepare`], as the constants after it, which are asked for often: most packets need neither.
    shared: *mut Shared,
    measures: u32,
    laboratory: bool,
}

impl KernelWorld {
    #[inline(always)]
    pub fn new(cpu: *mut CpuState) -> Self {
        Self { cpu, shared: core::ptr::null_mut(), measures: 0, laboratory: false }
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
    fn repeat<S: Step<Self>>(&self, times: u32, state: &mut S) {
        let mut repeated = Repeated { world: *self, state };
        let (step, repeated) = (step::<S> as *mut c_void, (&raw mut repeated).cast::<c_void>());
        // SAFETY: Linux 5.17. Both outlive the loop, and the step takes them as what they are.
        unsafe { bpf_loop(times, step, repeated, 0) };
    }

    #[inline(always)]
    fn transport(&self) -> Option<MirrorTransport> {
        constant::transport()
    }

    #[inline(always)]
    fn now_cached_ns(&mut self) -> u64 {
        // SAFETY: the element is this CPU's own for the program's run. The exact clock costs more than everything else
        // together; jiffies are a plain load.
        unsafe {
            if self.laboratory {
                return self.keep(injected_ns());
            }
            let jiffies = bpf_jiffies64();
            if (*self.cpu).jiffies != jiffies {
                (*self.cpu).jiffies = jiffies;
                return self.keep(bpf_ktime_get_boot_ns());
            }
            (*self.cpu).now_cached_ns
        }
    }

    #[inline(always)]
    fn is_brief(&self) -> bool {
        constant::is_brief()
    }

    #[inline(always)]
    fn prepare(&mut self) -> bool {
        // An array of one element always has it; the verifier asks for the check.
        let Some(shared) = maps::SHARED.get_ptr_mut(0) else { return false };
        self.shared = shared;
        self.measures = constant::measures();
        self.laboratory = constant::is_laboratory();
        true
    }

    #[inline(always)]
    fn ready(&mut self) -> Option<u64> {
        // SAFETY: this CPU's own element, and a helper without arguments.
        unsafe { ((*self.cpu).ready_jiffies == bpf_jiffies64()).then_some((*self.cpu).ready_threshold) }
    }

    #[inline(always)]
    fn set_ready(&mut self, threshold: Option<u64>) {
        // SAFETY: this CPU's own element.
        unsafe {
            // Volatile: the compiler would make the two zeros a call of a loop over bytes.
            let jiffies = if threshold.is_some() { (*self.cpu).jiffies } else { 0 };
            core::ptr::write_volatile(&raw mut (*self.cpu).ready_jiffies, jiffies);
            core::ptr::write_volatile(&raw mut (*self.cpu).ready_threshold, threshold.unwrap_or(0));
        }
    }

    #[inline(always)]
    fn now_exact_ns(&mut self) -> u64 {
        // SAFETY: a helper without arguments.
        let now_ns = if self.laboratory { injected_ns() } else { unsafe { bpf_ktime_get_boot_ns() } };
        self.keep(now_ns)
    }

    #[inline(always)]
    fn epoch_cached(&self) -> u64 {
        // SAFETY: this CPU's own element.
        unsafe { (*self.cpu).epoch_cached }
    }

    #[inline(always)]
    fn tick_ns(&self) -> u64 {
        if self.laboratory { 0 } else { TICK_NS_MAX }
    }

    #[inline(always)]
    fn is_shown(&self) -> bool {
        constant::is_laboratory()
    }

    #[inline(always)]
    fn measures(&self) -> u32 {
        self.measures
    }

    #[inline(always)]
    fn lease(&self, slot: u32) -> Lease {
        let slot = slot as usize;
        if slot >= MEASURES_MAX || self.shared.is_null() {
            return Lease::default();
        }
        // SAFETY: a field of the map's element; volatile, because the agent writes its words, one at a time, while the
        // program runs. A mixture of an old and a new lease begins with one of them and ends with one of them, so it is
        // no longer than both.
        unsafe {
            let lease = (&raw const (*self.shared).leases).cast::<Lease>().add(slot);
            Lease {
                not_before_ns: core::ptr::read_volatile(&raw const (*lease).not_before_ns),
                deadline_ns: core::ptr::read_volatile(&raw const (*lease).deadline_ns),
            }
        }
    }

    #[inline(always)]
    fn sampling_threshold(&self, slot: u32) -> u64 {
        let slot = slot as usize;
        if slot >= MEASURES_MAX || self.shared.is_null() {
            return 0;
        }
        // SAFETY: as above.
        unsafe { core::ptr::read_volatile((&raw const (*self.shared).sampling_thresholds).cast::<u64>().add(slot)) }
    }

    #[inline(always)]
    fn policy(&self) -> &Policy {
        &maps::tables().policy
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
    fn cap(&self, bucket: u32) -> CapPolicy {
        let bucket = bucket as usize;
        if bucket >= BUCKETS || self.shared.is_null() {
            return CapPolicy::default();
        }
        // SAFETY: a field of the map's element. The agent writes it before the first lease, and afterwards only smaller
        // numbers first: a mixture admits no more than the larger of two.
        unsafe {
            let cap = (&raw const (*self.shared).caps).cast::<CapPolicy>().add(bucket);
            CapPolicy {
                epoch_credit_bytes: core::ptr::read_volatile(&raw const (*cap).epoch_credit_bytes),
                chunk_bytes: core::ptr::read_volatile(&raw const (*cap).chunk_bytes),
            }
        }
    }

    #[inline(always)]
    fn credit(&self, bucket: u32) -> Credit {
        // SAFETY: this CPU's own element.
        unsafe { (*self.cpu).credits.get(bucket as usize).copied().unwrap_or_default() }
    }

    #[inline(always)]
    fn set_credit(&mut self, bucket: u32, credit: Credit) {
        // SAFETY: this CPU's own element.
        if let Some(place) = unsafe { (*self.cpu).credits.get_mut(bucket as usize) } {
            *place = credit;
        }
    }

    #[inline(always)]
    fn bucket(&self, bucket: u32) -> u64 {
        match self.word(bucket) {
            // SAFETY: the map's element; volatile, because other CPUs write it. The exchange decides, not this read.
            Some(word) => unsafe { core::ptr::read_volatile(word) },
            None => 0,
        }
    }

    #[inline(always)]
    fn bucket_exchange(&self, bucket: u32, expected: u64, new: u64) -> bool {
        let Some(word) = self.word(bucket) else { return false };
        // SAFETY: the map's element, aligned to 8. Sequentially consistent: with a relaxed ordering this target's
        // compiler drops the fetched value.
        let (_, exchanged) =
            unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, expected, new) };
        exchanged
    }

    #[inline(always)]
    fn dimensions(&self) -> u32 {
        constant::dimensions()
    }

    #[inline(always)]
    fn rule_words(&self) -> usize {
        constant::rule_words()
    }

    #[inline(always)]
    fn no_rules(&self) -> u64 {
        crate::frame::barrier(0) as u64
    }

    #[inline(always)]
    fn trie_root(&self, trie: Trie, index: u16) -> u32 {
        let tables = maps::tables();
        let root = match trie {
            Trie::Selector4 => &tables.selector4_root,
            Trie::Selector6 => &tables.selector6_root,
            Trie::Country4 => &tables.country4_root,
            Trie::Country6 => &tables.country6_root,
        };
        root[index as usize]
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
    fn exact_mask(&self, table: Exact) -> Option<u32> {
        match table {
            Exact::Four => constant::exact4_buckets(),
            Exact::Six => constant::exact6_buckets(),
        }
        .checked_sub(1)
    }

    #[inline(always)]
    fn prefilter_mask(&self, table: Exact) -> u32 {
        match table {
            Exact::Four => constant::prefilter4_words(),
            Exact::Six => constant::prefilter6_words(),
        }
        .wrapping_sub(1)
    }

    #[inline(always)]
    fn prefilter_word(&self, table: Exact, index: u32) -> u64 {
        match table {
            Exact::Four => maps::PREFILTER4.get(index),
            Exact::Six => maps::PREFILTER6.get(index),
        }
        .copied()
        .unwrap_or(0)
    }

    #[inline(always)]
    fn exact4(&self, bucket: u32) -> Option<&Exact4> {
        maps::EXACT4.get(bucket)
    }

    #[inline(always)]
    fn exact6(&self, bucket: u32) -> Option<&Exact6> {
        maps::EXACT6.get(bucket)
    }

    #[inline(always)]
    fn address_masks(&self, class: u32) -> Option<&ClassMasks> {
        match maps::tables().address_masks.get(followed(class)) {
            Some(near) => Some(near),
            None => maps::ADDRESS_MASKS.get(class),
        }
    }

    #[inline(always)]
    fn port_class(&self, port: u16) -> u32 {
        u32::from(maps::tables().port_class[port as usize])
    }

    #[inline(always)]
    fn port_masks(&self, class: u32) -> Option<&ClassMasks> {
        match maps::tables().port_masks.get(followed(class)) {
            Some(near) => Some(near),
            None => maps::PORT_MASKS.get(class),
        }
    }

    #[inline(always)]
    fn protocol_mask(&self, protocol: u8) -> Option<&RuleMask> {
        maps::tables().protocol_mask.get(protocol as usize)
    }

    #[inline(always)]
    fn tcp_flags_mask(&self, index: u32) -> Option<&RuleMask> {
        maps::tables().tcp_flags_mask.get(followed(index))
    }

    #[inline(always)]
    fn ip_length_class(&self, length: u32) -> u32 {
        maps::tables().ip_length_class.get(followed(length)).copied().map_or(0, u32::from)
    }

    #[inline(always)]
    fn ip_length_mask(&self, class: u32) -> Option<&RuleMask> {
        maps::IP_LENGTH_MASK.get(class)
    }

    #[inline(always)]
    fn fragment_mask(&self, fragment: u8) -> Option<&RuleMask> {
        maps::tables().fragment_mask.get(fragment as usize)
    }

    #[inline(always)]
    fn signatures(&self) -> u32 {
        constant::signatures()
    }

    #[inline(always)]
    fn signature(&self, index: u32) -> Option<&Signature> {
        maps::tables().signatures.get(followed(index))
    }
}

impl KernelWorld {
    /// Keeps a time as the cached one.
    #[inline(always)]
    fn keep(&mut self, now_ns: u64) -> u64 {
        // SAFETY: this CPU's own element.
        unsafe {
            (*self.cpu).now_cached_ns = now_ns;
            (*self.cpu).epoch_cached = epoch_of(now_ns);
        }
        now_ns
    }

    #[inline(always)]
    fn word(&self, bucket: u32) -> Option<*mut u64> {
        let bucket = bucket as usize;
        // SAFETY: a field of the map's element.
        (bucket < BUCKETS && !self.shared.is_null()).then(|| unsafe {
            let bucket = (&raw mut (*self.shared).buckets).cast::<Bucket>().add(bucket);
            &raw mut (*bucket).word
        })
    }
}

/// What a step of [`World::repeat`] finds on the program's stack.
struct Repeated<'a, S> {
    world: KernelWorld,
    state: &'a mut S,
}

/// A step, as the helper calls it; 0: go on.
extern "C" fn step<S: Step<KernelWorld>>(index: u32, repeated: *mut Repeated<'_, S>) -> i64 {
    // SAFETY: what `repeat` handed to the helper.
    let repeated = unsafe { &mut *repeated };
    repeated.state.step(&repeated.world, index);
    0
}

/// The laboratory's time.
#[inline(always)]
fn injected_ns() -> u64 {
    maps::CLOCK.get(0).copied().unwrap_or(0)
}

/// An index that is about to be compared with a table's length, as one number of 64 bits: LLVM may otherwise compare one
/// 32-bit copy of it and use another, and verifiers up to 6.1 do not see that they are the same.
#[inline(always)]
fn followed(index: u32) -> usize {
    crate::frame::barrier(index as usize)
}
