//! Frame: the bytes of one packet, as the stages may read them.
//!
//! In: whatever holds the bytes (the driver's buffer in the kernel, a slice on the host). Out: fixed-width loads in
//! network byte order. Slices never appear: the verifier ties a pointer's range to a compare with the buffer's end, and
//! only a fixed width compiles to that. Bounded by [`HEADER_BYTES_MAX`].

use crate::limits::{HEADER_BYTES_MAX, TRANSPORT_BYTES_MAX};

/// Fields at their places in a frame of the commonest shape: Ethernet without tags, IPv4 without options, TCP or UDP. All in
/// host byte order; what they mean is the reader's to find out.
#[derive(Clone, Copy, Debug)]
pub struct CommonFields {
    /// EtherType, IP version and header length, type of service (offset 12).
    pub kind: u32,
    /// Total length, identification, flags and fragment offset, time to live, protocol (offset 16).
    pub length_to_protocol: u64,
    /// Source address (offset 26).
    pub source: u32,
    /// Destination address (offset 30).
    pub destination: u32,
    /// Ports (offset 34).
    pub ports: u32,
    /// TCP's data offset and flags (offset 46).
    pub tcp: u16,
}

/// Bytes that [`Frame::load_common`] wants to see.
pub const COMMON_BYTES: u32 = 48;

/// Fixed-width access to a frame's first [`HEADER_BYTES_MAX`] bytes.
pub trait Frame {
    /// The same frame, whose bytes were looked up once more: for code that the verifier follows by itself.
    #[must_use]
    fn afresh(&self) -> Self;
    /// Bytes of the whole frame, later buffers included. In the kernel it is a call.
    fn length(&self) -> u32;
    /// Bytes of the first buffer: at most [`Frame::length`], and free.
    fn first_buffer_length(&self) -> u32;
    /// `N` bytes at `offset`; `None` when they are not all present within [`HEADER_BYTES_MAX`].
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;
    /// The frame begins `bytes` further on, at most [`TRANSPORT_BYTES_MAX`], and is that much shorter.
    fn advance(&mut self, bytes: u32);

    /// A byte at `offset`.
    #[inline(always)]
    fn load_u8(&self, offset: u32) -> Option<u8> {
        self.load::<1>(offset).map(u8::from_be_bytes)
    }

    /// A big-endian 16-bit number at `offset`.
    #[inline(always)]
    fn load_u16(&self, offset: u32) -> Option<u16> {
        self.load::<2>(offset).map(u16::from_be_bytes)
    }

    /// A big-endian 32-bit number at `offset`.
    #[inline(always)]
    fn load_u32(&self, offset: u32) -> Option<u32> {
        self.load::<4>(offset).map(u32::from_be_bytes)
    }

    /// A big-endian 64-bit number at `offset`.
    #[inline(always)]
    fn load_u64(&self, offset: u32) -> Option<u64> {
        self.load::<8>(offset).map(u64::from_be_bytes)
    }

    /// Twenty bytes at `offset`, an IPv4 header without options: checked once.
    #[inline(always)]
    fn load_20(&self, offset: u32) -> Option<(u64, u64, u32)> {
        let last = self.load_u32(offset.checked_add(16)?)?;
        Some((self.load_u64(offset)?, self.load_u64(offset.checked_add(8)?)?, last))
    }

    /// Forty bytes at `offset`, an IPv6 header: checked once.
    #[inline(always)]
    fn load_40(&self, offset: u32) -> Option<[u64; 5]> {
        let last = self.load_u64(offset.checked_add(32)?)?;
        let (second, third) = (self.load_u64(offset.checked_add(8)?)?, self.load_u64(offset.checked_add(16)?)?);
        Some([self.load_u64(offset)?, second, third, self.load_u64(offset.checked_add(24)?)?, last])
    }

    /// The fields at the places of the commonest shape: checked once, and at offsets known to the compiler.
    #[inline(always)]
    fn load_common(&self) -> Option<CommonFields> {
        Some(CommonFields {
            kind: self.load_u32(12)?,
            length_to_protocol: self.load_u64(16)?,
            source: self.load_u32(26)?,
            destination: self.load_u32(30)?,
            ports: self.load_u32(34)?,
            tcp: self.load_u16(46)?,
        })
    }

    /// The first four and the last two of fourteen bytes at `offset`, a TCP header up to its flags: checked once.
    #[inline(always)]
    fn load_14(&self, offset: u32) -> Option<(u32, u16)> {
        let last = self.load_u16(offset.checked_add(12)?)?;
        Some((self.load_u32(offset)?, last))
    }
}

/// A frame held in memory: the host's side.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    bytes: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// A frame of these bytes; a frame longer than `u32::MAX` bytes is cut there.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }
}

impl Frame for Bytes<'_> {
    fn afresh(&self) -> Self {
        *self
    }

    fn length(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn first_buffer_length(&self) -> u32 {
        self.length()
    }

    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(N)?;
        if end > HEADER_BYTES_MAX as usize {
            return None;
        }
        self.bytes.get(start..end)?.try_into().ok()
    }

    fn advance(&mut self, bytes: u32) {
        self.bytes = self.bytes.get(bytes.min(TRANSPORT_BYTES_MAX) as usize..).unwrap_or_default();
    }
}
