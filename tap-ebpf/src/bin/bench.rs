//! The benchmark's programs: the same way, behind a pool of flows. Loaded by `cargo xtask bench` only.
//!
//! The pool always has 65,536 entries; fewer flows are repeated in it.
//! `BPF_PROG_TEST_RUN` repeats one frame; a real line does not. Each run takes the next entry of a pool and writes it into the
//! frame (IPv4 without tags, options or fragments), so that look-ups meet as many flows as the pool has. `base` does that and
//! drops: what the program itself costs is the difference.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use tap_ebpf::observe;

/// One flow: addresses and ports as they lie in the frame.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Flow {
    addresses: [u32; 2],
    ports: u32,
}

/// Where the source address is in the frame.
const ADDRESSES: usize = 26;

#[btf_map]
pub static POOL: Array<Flow, 65_536> = Array::new();
#[btf_map]
pub static NEXT: Array<u32, 1> = Array::new();

/// Nothing but the drop.
#[xdp(frags)]
pub fn bare(_ctx: XdpContext) -> u32 {
    XDP_DROP
}

/// The pool and the drop.
#[xdp(frags)]
pub fn base(ctx: XdpContext) -> u32 {
    next_flow(&ctx);
    XDP_DROP
}

/// The pool and the whole way.
#[xdp(frags)]
pub fn pooled(ctx: XdpContext) -> u32 {
    next_flow(&ctx);
    observe(&ctx);
    XDP_DROP
}

/// The whole way on the frame as it is.
#[xdp(frags)]
pub fn constant(ctx: XdpContext) -> u32 {
    observe(&ctx);
    XDP_DROP
}

#[inline(always)]
fn next_flow(ctx: &XdpContext) {
    let Some(next) = NEXT.get_ptr_mut(0) else { return };
    // SAFETY: map elements and the frame's bytes, each checked as the verifier demands; one run at a time.
    unsafe {
        let number = *next;
        *next = number.wrapping_add(1);
        let Some(flow) = POOL.get_ptr(number & 0xffff) else { return };
        let start = core::ptr::read_volatile(&raw const (*ctx.ctx).data) as usize + ADDRESSES;
        let end = core::ptr::read_volatile(&raw const (*ctx.ctx).data_end) as usize;
        if start + 12 > end {
            return;
        }
        core::ptr::write_unaligned(start as *mut [u32; 2], (*flow).addresses);
        core::ptr::write_unaligned((start + 8) as *mut u32, (*flow).ports);
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
