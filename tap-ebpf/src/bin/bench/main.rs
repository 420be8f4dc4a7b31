//! The benchmark's programs: the same way, behind a pool of flows. Loaded by `cargo xtask bench` only.
//!
//! `BPF_PROG_TEST_RUN` repeats one frame; a real line does not. Each run takes the next entry of a pool and writes it into the
//! frame, where load-time constants say, so that look-ups meet as many flows as the pool has. `base` does that and drops:
//! what the program itself costs is the difference.
#![no_std]
#![no_main]

mod kernel_maps;

use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::btf_maps::{Array, PerCpuArray};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use kernel_maps::KernelMaps;
use tap_ebpf::{observe, observe_in, record_again};

/// One flow: addresses and ports as they lie in the frame.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Flow {
    addresses: [u32; 2],
    ports: u32,
}

/// Flows of the pool, a power of two, less one.
#[unsafe(no_mangle)]
static POOL_MASK: u32 = 0;
/// Where the first four bytes of the source address lie in the frame.
#[unsafe(no_mangle)]
static SOURCE_AT: u32 = 26;
/// The same for the destination address.
#[unsafe(no_mangle)]
static DESTINATION_AT: u32 = 30;
/// Where the two ports lie, behind the addresses.
#[unsafe(no_mangle)]
static PORTS_AT: u32 = 34;
/// Interface that `generate` sends out of.
#[unsafe(no_mangle)]
static INTERFACE: u32 = 0;

macro_rules! load_time {
    ($name:ident) => {
        // SAFETY: the static is initialised and never written; volatile, because its value is set after compilation.
        unsafe { core::ptr::read_volatile(&raw const $name) }
    };
}

#[btf_map]
pub static POOL: Array<Flow, 1> = Array::new();
/// The next flow's number, for each CPU.
#[btf_map]
pub static NEXT: PerCpuArray<u32, 1> = PerCpuArray::new();

/// Nothing but the drop.
#[xdp(frags)]
#[inline(always)]
pub fn bare(_ctx: XdpContext) -> u32 {
    XDP_DROP
}

/// The pool and the drop.
#[xdp(frags)]
#[inline(always)]
pub fn base(ctx: XdpContext) -> u32 {
    next_flow(&ctx);
    XDP_DROP
}

/// The pool and the whole way.
#[xdp(frags)]
#[inline(always)]
pub fn pooled(ctx: XdpContext) -> u32 {
    next_flow(&ctx);
    observe(&ctx);
    XDP_DROP
}

/// The whole way on the frame as it is.
#[xdp(frags)]
#[inline(always)]
pub fn constant(ctx: XdpContext) -> u32 {
    observe(&ctx);
    XDP_DROP
}

/// The pool and the whole way, with the kernel's own maps of addresses.
#[xdp(frags)]
#[inline(always)]
pub fn kernel_maps(ctx: XdpContext) -> u32 {
    next_flow(&ctx);
    observe_in(&ctx, KernelMaps);
    XDP_DROP
}

/// The records of this CPU's last decision once more, and nothing else.
#[xdp(frags)]
#[inline(always)]
pub fn again(_ctx: XdpContext) -> u32 {
    record_again();
    XDP_DROP
}

/// The pool, and out of an interface: the traffic of the live cases.
#[xdp(frags)]
pub fn generate(ctx: XdpContext) -> u32 {
    next_flow(&ctx);
    let interface = load_time!(INTERFACE);
    // SAFETY: a helper that takes numbers.
    unsafe { bpf_redirect(interface, 0) as u32 }
}

#[inline(always)]
fn next_flow(ctx: &XdpContext) {
    let (mask, ports_at) = (load_time!(POOL_MASK), load_time!(PORTS_AT) as usize);
    let (source_at, destination_at) = (load_time!(SOURCE_AT) as usize, load_time!(DESTINATION_AT) as usize);
    let Some(next) = NEXT.get_ptr_mut(0) else { return };
    // SAFETY: map elements, this CPU's own; the frame's bytes are checked as the verifier demands: each of the three places
    // is a constant to it.
    unsafe {
        let number = *next;
        *next = number.wrapping_add(1);
        let Some(flow) = POOL.get_ptr(number & mask) else { return };
        let start = core::ptr::read_volatile(&raw const (*ctx.ctx).data) as usize;
        let end = core::ptr::read_volatile(&raw const (*ctx.ctx).data_end) as usize;
        if start + ports_at + 4 > end {
            return;
        }
        let [source, destination] = (*flow).addresses;
        core::ptr::write_unaligned((start + source_at) as *mut u32, source);
        core::ptr::write_unaligned((start + destination_at) as *mut u32, destination);
        core::ptr::write_unaligned((start + ports_at) as *mut u32, (*flow).ports);
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // No reachable path panics: the verifier refuses a program that has one.
    loop {}
}

/// The licence that the kernel checks for helpers that ask for a GPL-compatible program.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
