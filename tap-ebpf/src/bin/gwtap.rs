//! The program on the mirror port.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use tap_ebpf::{constant, observe};

/// Entry point; frames may span several buffers (`xdp.frags`, Linux 5.18).
#[xdp(frags)]
#[inline(always)]
pub fn gwtap(ctx: XdpContext) -> u32 {
    observe(&ctx);
    if constant::is_inline() { XDP_PASS } else { XDP_DROP }
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
