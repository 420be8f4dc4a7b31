//! Every constant of userspace that bounds something, with its reason. Units stand in the names.

/// The largest record of a capture file that is read: far above the 262,144 bytes that capturing tools take at most,
/// and small enough that a length that lies does not take the machine's memory.
pub const CAPTURE_RECORD_BYTES_MAX: u32 = 16 << 20;
