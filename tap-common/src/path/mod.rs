//! The packet's way through the kernel, a stage a file, in the order of the files below.

pub mod direction;
pub mod parse;
