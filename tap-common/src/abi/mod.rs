//! What crosses the kernel line: fixed layouts, little-endian as the machine's, no padding, no pointer.
//!
//! Each type states its size in a compile-time assertion; a change of any of them is a new [`ABI_VERSION`], and an agent
//! refuses pinned maps of another version.

pub mod counter;
pub mod cpu;
pub mod policy;
pub mod record;
pub mod rule;
pub mod tables;

/// Version of everything in this module.
pub const ABI_VERSION: u32 = 3;
