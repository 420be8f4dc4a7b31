//! Emit: the header record of a selected packet, into its CPU's own ring.
//!
//! No wake-up: the agent drains on a timer. A full ring loses the record, and says so: the counter and the gap in the
//! CPU's sequence both show it.

use crate::{constant, maps};
use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ringbuf_reserve, bpf_ringbuf_submit};
use tap_common::abi::cpu::CpuState;
use tap_common::abi::record::{KIND_RECORD, Record};
use tap_common::limits::MEASURES_MAX;
use tap_common::path::verdict::Decision;

/// Writes a record for each measure that selects the packet.
#[inline(always)]
pub fn records(cpu: *mut CpuState, decision: &Decision) {
    // SAFETY: a helper without arguments.
    let number = unsafe { bpf_get_smp_processor_id() as u32 };
    let mut slot = 0;
    while slot < MEASURES_MAX as u32 && slot < constant::measures() {
        if decision.selected & (1 << slot) != 0 {
            record(cpu, number, slot, decision);
        }
        slot += 1;
    }
}

#[inline(always)]
fn record(cpu: *mut CpuState, number: u32, slot: u32, decision: &Decision) {
    // SAFETY: this CPU's own element.
    let sequence = unsafe {
        let sequence = (*cpu).sequence;
        (*cpu).sequence = sequence + 1;
        sequence
    };
    if !write(number, sequence, slot, decision)
        // SAFETY: as above.
        && let Some(measure) = unsafe { (*cpu).counters.measures.get_mut(slot as usize) }
    {
        measure.ring_lost += 1;
    }
}

#[inline(always)]
fn write(cpu: u32, sequence: u64, slot: u32, decision: &Decision) -> bool {
    let Some(measure) = maps::tables().policy.measures.get(slot as usize) else { return false };
    let Some(ring) = maps::RINGS.get(cpu) else { return false };
    let ring = core::ptr::from_ref(ring).cast_mut().cast();
    // SAFETY: the inner map is a ring buffer; the reservation is submitted on every path below.
    unsafe {
        let entry = bpf_ringbuf_reserve(ring, Record::BYTES as u64, 0).cast::<Record>();
        if entry.is_null() {
            return false;
        }
        let headers = &decision.headers;
        // Field by field, so that every byte of the entry is written and no stack copy is made.
        (*entry).kind = KIND_RECORD;
        (*entry).length = Record::BYTES as u16;
        (*entry).cpu = cpu;
        (*entry).sequence = sequence;
        (*entry).time_ns = decision.time_ns;
        (*entry).generation = constant::generation();
        // Volatile: the compiler would make it a call of a loop over bytes.
        let rules = (&raw mut (*entry).rules).cast::<u64>();
        core::ptr::write_volatile(rules, decision.rules[0] & measure.rules[0]);
        core::ptr::write_volatile(rules.add(1), decision.rules[1] & measure.rules[1]);
        core::ptr::write_volatile(rules.add(2), decision.rules[2] & measure.rules[2]);
        core::ptr::write_volatile(rules.add(3), decision.rules[3] & measure.rules[3]);
        let ends = entry.cast::<u8>().add(core::mem::offset_of!(Record, source)).cast::<u64>();
        *ends = headers.source[0].to_be();
        *ends.add(1) = headers.source[1].to_be();
        *ends.add(2) = headers.destination[0].to_be();
        *ends.add(3) = headers.destination[1].to_be();
        (*entry).source_port = headers.source_port;
        (*entry).destination_port = headers.destination_port;
        (*entry).protocol = headers.protocol;
        (*entry).tcp_flags = headers.tcp_flags;
        (*entry).ip_version = headers.ip_version;
        (*entry).direction = decision.direction;
        (*entry).line_bytes = decision.line_bytes;
        (*entry).ip_length = headers.ip_length;
        (*entry).fragment = headers.fragment;
        (*entry).measure = slot as u8;
        (*entry).flags = headers.flags;
        (*entry).reserved = 0;
        bpf_ringbuf_submit(entry.cast(), u64::from(BPF_RB_NO_WAKEUP));
    }
    true
}
