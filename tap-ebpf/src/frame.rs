//! Frame over XDP's buffer: the kernel's side of [`tap_common::path::frame::Frame`].

use aya_ebpf::helpers::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;
use tap_common::limits::{HEADER_BYTES_MAX, TRANSPORT_BYTES_MAX};
use tap_common::path::frame::Frame;

/// The linear part of a frame, and the length of the whole.
pub struct XdpFrame {
    data: usize,
    data_end: usize,
    length: u32,
}

impl XdpFrame {
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        // SAFETY: the context is the kernel's. Volatile: otherwise LLVM may pass the two pointers on as 32-bit numbers,
        // and the verifier loses sight of them.
        unsafe {
            Self {
                data: core::ptr::read_volatile(&raw const (*ctx.ctx).data) as usize,
                data_end: core::ptr::read_volatile(&raw const (*ctx.ctx).data_end) as usize,
                // Linux 5.18; counts the later buffers too, unlike `data_end - data`.
                length: bpf_xdp_get_buff_len(ctx.ctx) as u32,
            }
        }
    }
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn length(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        if offset > HEADER_BYTES_MAX - N as u32 {
            return None;
        }
        let start = self.data + offset as usize;
        if barrier(start + N) > self.data_end {
            return None;
        }
        // SAFETY: `start .. start + N` was just compared with the buffer's end, as the verifier demands; the target
        // allows misaligned access.
        Some(unsafe { core::ptr::read_unaligned(start as *const [u8; N]) })
    }

    #[inline(always)]
    fn advance(&mut self, bytes: u32) {
        // The verifier must see the bound: a pointer into the packet may move by a small number only.
        let bytes = bytes.min(TRANSPORT_BYTES_MAX);
        self.data += bytes as usize;
        self.length = self.length.saturating_sub(bytes);
    }
}

/// Hides `end` from the optimiser: it would turn `start + 1 > end` into `start >= end`, from which the verifier learns
/// nothing. It must be a real instruction, because an empty one gives two line records for one place (`EINVAL` at load).
#[inline(always)]
fn barrier(end: usize) -> usize {
    let mut end = end;
    // SAFETY: assigns a register to itself.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) end, options(pure, nomem, nostack)) };
    end
}
