//! Maps: what the program shares with the agent. Names and layouts are those of `tap_common::abi`.
//!
//! Shared by all generations of a tap, by pinning: `CPU`, `SHARED`, `RINGS`, `INSTANCE`. The others are made afresh for each
//! generation, with as many elements as its rules need; so is the data section that [`tables`] reads. (`SHARED` is none: the
//! loader sets a data section to zero whenever it opens it, and a bucket that forgets what it gave gives it again.)

use aya_ebpf::btf_maps::{Array, ArrayOfMaps, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use core::cell::UnsafeCell;
use tap_common::abi::cpu::CpuState;
use tap_common::abi::policy::{Instance, Shared};
use tap_common::abi::rule::{ClassMasks, RuleMask};
use tap_common::abi::tables::{Exact4, Exact6, FixedTables, Node};
use tap_common::limits::{CPUS_MAX, RING_BYTES_MAX};
use tap_common::path::verdict::Decision;

/// `BPF_F_MMAPABLE`: the agent stores single words.
const MAPPED: usize = 1 << 10;

#[btf_map]
pub static CPU: PerCpuArray<CpuState, 1> = PerCpuArray::new();
#[btf_map]
pub static SHARED: Array<Shared, 1, MAPPED> = Array::new();
#[btf_map]
pub static RINGS: ArrayOfMaps<RingBuf<(), { RING_BYTES_MAX as usize }>, CPUS_MAX> = ArrayOfMaps::new();
#[btf_map]
pub static INSTANCE: Array<Instance, 1> = Array::new();

#[btf_map]
pub static SELECTOR4: Array<Node, 1, MAPPED> = Array::new();
#[btf_map]
pub static SELECTOR6: Array<Node, 1, MAPPED> = Array::new();
#[btf_map]
pub static COUNTRY4: Array<Node, 1, MAPPED> = Array::new();
#[btf_map]
pub static COUNTRY6: Array<Node, 1, MAPPED> = Array::new();
#[btf_map]
pub static EXACT4: Array<Exact4, 1, MAPPED> = Array::new();
#[btf_map]
pub static EXACT6: Array<Exact6, 1, MAPPED> = Array::new();
#[btf_map]
pub static PREFILTER4: Array<u64, 1, MAPPED> = Array::new();
#[btf_map]
pub static PREFILTER6: Array<u64, 1, MAPPED> = Array::new();
#[btf_map]
pub static ADDRESS_MASKS: Array<ClassMasks, 1, MAPPED> = Array::new();
#[btf_map]
pub static PORT_MASKS: Array<ClassMasks, 1, MAPPED> = Array::new();
#[btf_map]
pub static IP_LENGTH_MASK: Array<RuleMask, 1, MAPPED> = Array::new();

/// Laboratory only: the injected time, and the decision about the last packet.
#[btf_map]
pub static CLOCK: Array<u64, 1> = Array::new();
#[btf_map]
pub static SHOWN: Array<Decision, 1> = Array::new();

/// The generation's data section. The agent fills it before the program is attached; nothing writes it afterwards.
#[repr(transparent)]
struct Section(UnsafeCell<FixedTables>);

// SAFETY: the program only reads it.
unsafe impl Sync for Section {}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss")]
// SAFETY: all zero is a value of every field: they are numbers.
static TABLES: Section = Section(UnsafeCell::new(unsafe { core::mem::zeroed() }));

/// The tables of fixed size.
#[inline(always)]
pub fn tables() -> &'static FixedTables {
    // SAFETY: written by the agent only, before the program runs.
    unsafe { &*TABLES.0.get() }
}

/// This CPU's state.
#[inline(always)]
pub fn cpu_state() -> Option<*mut CpuState> {
    CPU.get_ptr_mut(0)
}

/// Laboratory: shows the decision whole.
#[inline(always)]
pub fn show(decision: &Decision) {
    if let Some(shown) = SHOWN.get_ptr_mut(0) {
        // SAFETY: the map's element has the type's size; one test run at a time writes it.
        unsafe { *shown = *decision };
    }
}
