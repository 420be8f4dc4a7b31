//! Maps: what the program shares with the agent. Names and layouts are those of `tap_common::abi`.
//!
//! Shared by all generations of a tap, by pinning: `CPU`, `BUCKET`, `CAP_POLICY`, `LEASE`, `RINGS`, `INSTANCE`. The others
//! are made afresh for each generation, with as many elements as its rules need.

use aya_ebpf::btf_maps::{Array, ArrayOfMaps, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use tap_common::abi::cpu::CpuState;
use tap_common::abi::policy::{CapPolicy, Instance, Lease, MeasurePolicy};
use tap_common::abi::rule::{ClassMasks, RuleMask};
use tap_common::limits::{CPUS_MAX, IP_LENGTHS, MEASURES_MAX, RING_BYTES};
use tap_common::path::verdict::Decision;

/// A node of a trie: see `tap_common::path::trie`.
pub type Node = [u32; 256];

#[btf_map]
pub static CPU: PerCpuArray<CpuState, 1> = PerCpuArray::new();
#[btf_map]
pub static BUCKET: Array<u64, 1> = Array::new();
#[btf_map]
pub static CAP_POLICY: Array<CapPolicy, 1> = Array::new();
#[btf_map]
pub static LEASE: Array<Lease, MEASURES_MAX> = Array::new();
#[btf_map]
pub static RINGS: ArrayOfMaps<RingBuf<(), { RING_BYTES as usize }>, CPUS_MAX> = ArrayOfMaps::new();
#[btf_map]
pub static INSTANCE: Array<Instance, 1> = Array::new();

#[btf_map]
pub static POLICY: Array<MeasurePolicy, MEASURES_MAX> = Array::new();
#[btf_map]
pub static SELECTOR4: Array<Node, 256> = Array::new();
#[btf_map]
pub static SELECTOR6: Array<Node, 256> = Array::new();
#[btf_map]
pub static COUNTRY4: Array<Node, 256> = Array::new();
#[btf_map]
pub static COUNTRY6: Array<Node, 256> = Array::new();
#[btf_map]
pub static ADDRESS_MASKS: Array<ClassMasks, 1> = Array::new();
#[btf_map]
pub static PORT_CLASS: Array<[u16; 65_536], 1> = Array::new();
#[btf_map]
pub static PORT_MASKS: Array<ClassMasks, 1> = Array::new();
#[btf_map]
pub static PROTOCOL_MASK: Array<RuleMask, 256> = Array::new();
#[btf_map]
pub static TCP_FLAGS_MASK: Array<RuleMask, 257> = Array::new();
#[btf_map]
pub static IP_LENGTH_CLASS: Array<[u16; IP_LENGTHS], 1> = Array::new();
#[btf_map]
pub static IP_LENGTH_MASK: Array<RuleMask, 1> = Array::new();
#[btf_map]
pub static FRAGMENT_MASK: Array<RuleMask, 3> = Array::new();

/// Laboratory only: the injected time, and the decision about the last packet.
#[btf_map]
pub static CLOCK: Array<u64, 1> = Array::new();
#[btf_map]
pub static SHOWN: Array<Decision, 1> = Array::new();

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
