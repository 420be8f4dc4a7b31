//! The XDP program: it holds the frame and the maps against [`tap_common::path::decide`], counts the verdict, and makes a
//! record of a selected packet. Nothing else leaves the kernel.
//!
//! Verdict is not action. In `mirror` mode every frame is dropped in the driver; in `inline` mode every frame is passed,
//! whatever the verdict: failing closed means *no record*, never an outage of the carrier's link.
#![no_std]
#![feature(core_intrinsics, asm_experimental_arch)]
#![allow(internal_features, reason = "core has no atomic read-modify-write for this target")]

pub mod constant;
mod count;
mod emit;
mod frame;
mod maps;
pub mod world;

use aya_ebpf::programs::XdpContext;
use frame::XdpFrame;
use tap_common::abi::counter::FACILITY_VERDICTS;
use tap_common::path::decide;
use tap_common::path::verdict::{Decision, NO_REASON};
use tap_common::path::world::World;
use world::KernelWorld;

/// Decides about one frame, counts the verdicts, makes the records.
#[inline(always)]
pub fn observe(ctx: &XdpContext) {
    observe_in(ctx, |world| world);
}

/// The same in a world made of the kernel's: the benchmark has one that looks addresses up in other maps.
#[inline(always)]
pub fn observe_in<W: World>(ctx: &XdpContext, world_of: impl FnOnce(KernelWorld) -> W) {
    // A per-CPU array of one element always has it; the verifier asks for the check.
    let Some(cpu) = maps::cpu_state() else { return };
    let mut frame = XdpFrame::new(ctx);
    count::entry(cpu);
    // SAFETY: this CPU's own element; the other fields are reached through the pointer, this one only here.
    let decision = unsafe { &mut (*cpu).decision };
    if constant::is_laboratory() {
        reset(decision);
    }
    let mut world = world_of(KernelWorld::new(cpu));
    if decide(&mut frame, &mut world, decision) {
        count::settled(cpu, decision);
        if constant::is_laboratory() {
            maps::show(decision);
        }
        return;
    }
    count::verdicts(cpu, decision);
    if decision.selected != 0 && decision.outcome.0 as usize >= FACILITY_VERDICTS {
        emit::records(cpu, decision);
    }
    if constant::is_logging_reasons() && decision.reason != NO_REASON {
        // A number of `tap_common::abi::counter::Reason`; never a field of the packet.
        aya_log_ebpf::info!(ctx, "reason {}", decision.reason);
    }
    if constant::is_laboratory() {
        maps::show(decision);
    }
}

/// Makes this CPU's last records once more: for the benchmark of the rings.
#[inline(always)]
pub fn record_again() {
    let Some(cpu) = maps::cpu_state() else { return };
    // SAFETY: this CPU's own element, as in `observe`.
    emit::records(cpu, unsafe { &(*cpu).decision });
}

/// Sets a decision to [`Decision::new`], so that what is shown has nothing of an earlier packet: word by word and volatile, for the compiler would make it a call of a loop over
/// bytes, which costs more than the rest of the way.
#[inline(always)]
fn reset(decision: &mut Decision) {
    let words = core::ptr::from_mut(decision).cast::<u64>();
    let mut word = 0;
    while word < size_of::<Decision>() / 8 {
        // SAFETY: inside the decision, which is made of whole words (asserted beside the type) and aligned to them.
        unsafe { core::ptr::write_volatile(words.add(word), 0) };
        word += 1;
    }
    decision.reason = NO_REASON;
}
