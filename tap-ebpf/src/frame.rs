//! Frame over XDP's buffer: the kernel's side of [`tap_common::path::frame::Frame`].

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;
use tap_common::limits::{HEADER_BYTES_MAX, TRANSPORT_BYTES_MAX};
use tap_common::path::frame::{COMMON_BYTES, CommonFields, Frame};

/// The first buffer of a frame.
pub struct XdpFrame {
    context: *mut xdp_md,
    data: usize,
    data_end: usize,
    /// Bytes of a mirror transport that were taken off.
    removed: u32,
}

impl XdpFrame {
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        // SAFETY: the context is the kernel's. Volatile: otherwise LLVM may pass the two pointers on as 32-bit numbers,
        // and the verifier loses sight of them.
        unsafe {
            Self {
                context: ctx.ctx,
                data: core::ptr::read_volatile(&raw const (*ctx.ctx).data) as usize,
                data_end: core::ptr::read_volatile(&raw const (*ctx.ctx).data_end) as usize,
                removed: 0,
            }
        }
    }

    /// Reads the bounds again, behind what was removed.
    #[inline(always)]
    fn look_up(&mut self) {
        // The verifier must see the bound: a pointer into the packet may move by a small number only.
        let removed = self.removed.min(TRANSPORT_BYTES_MAX);
        // SAFETY: the context is the kernel's.
        unsafe {
            self.data = core::ptr::read_volatile(&raw const (*self.context).data) as usize + removed as usize;
            self.data_end = core::ptr::read_volatile(&raw const (*self.context).data_end) as usize;
        }
        self.removed = removed;
    }

    /// The address of `bytes` bytes at `offset`, if they are there.
    #[inline(always)]
    fn at(&self, offset: u32, bytes: u32) -> Option<usize> {
        if offset > HEADER_BYTES_MAX - bytes {
            return None;
        }
        let start = self.data + offset as usize;
        if barrier(start + bytes as usize) > self.data_end {
            return None;
        }
        Some(start)
    }
}

/// Reads a big-endian number inside a range that [`XdpFrame::at`] has checked.
macro_rules! read {
    ($number:ty, $at:expr) => {
        // SAFETY: the bytes were just compared with the buffer's end, as the verifier demands; the target allows misaligned
        // access.
        <$number>::from_be(unsafe { core::ptr::read_unaligned(($at) as *const $number) })
    };
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn afresh(&self) -> Self {
        let mut frame = Self { context: self.context, data: 0, data_end: 0, removed: self.removed };
        frame.look_up();
        frame
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is the kernel's. Linux 5.18; counts the later buffers too.
        let length = unsafe { bpf_xdp_get_buff_len(self.context) as u32 };
        length.saturating_sub(self.removed)
    }

    #[inline(always)]
    fn first_buffer_length(&self) -> u32 {
        (self.data_end - self.data) as u32
    }

    #[inline(always)]
    fn load_20(&self, offset: u32) -> Option<(u64, u64, u32)> {
        let at = self.at(offset, 20)?;
        Some((read!(u64, at), read!(u64, at + 8), read!(u32, at + 16)))
    }

    #[inline(always)]
    fn load_40(&self, offset: u32) -> Option<[u64; 5]> {
        let at = self.at(offset, 40)?;
        Some([read!(u64, at), read!(u64, at + 8), read!(u64, at + 16), read!(u64, at + 24), read!(u64, at + 32)])
    }

    #[inline(always)]
    fn load_common(&self) -> Option<CommonFields> {
        let at = self.at(0, COMMON_BYTES)?;
        Some(CommonFields {
            kind: read!(u32, at + 12),
            length_to_protocol: read!(u64, at + 16),
            source: read!(u32, at + 26),
            destination: read!(u32, at + 30),
            ports: read!(u32, at + 34),
            tcp: read!(u16, at + 46),
        })
    }

    #[inline(always)]
    fn load_14(&self, offset: u32) -> Option<(u32, u16)> {
        let at = self.at(offset, 14)?;
        Some((read!(u32, at), read!(u16, at + 12)))
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let start = self.at(offset, N as u32)?;
        // SAFETY: `start .. start + N` was just compared with the buffer's end, as the verifier demands; the target
        // allows misaligned access.
        Some(unsafe { core::ptr::read_unaligned(start as *const [u8; N]) })
    }

    #[inline(always)]
    fn advance(&mut self, bytes: u32) {
        self.removed = bytes;
        // Read afresh: what was compared on the way here differs from way to way, and the verifier would follow each.
        self.look_up();
    }
}

/// Hides a number from the optimiser. Of an end it would turn `start + 1 > end` into `start >= end`, from which the verifier learns
/// nothing. It must be a real instruction, because an empty one gives two line records for one place (`EINVAL` at load).
#[inline(always)]
pub(crate) fn barrier(end: usize) -> usize {
    let mut end = end;
    // SAFETY: assigns a register to itself.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) end, options(pure, nomem, nostack)) };
    end
}
