//! What `cargo xtask fuzz` feeds and asks: three targets, each a function of bytes that any test can call.
//!
//! In: the fuzzer's bytes. Out: nothing, or what was wrong. [`bytes`] reads them as a frame, [`operations`] as a list of
//! things that happen to a facility; [`imports`] as a file of indicators. The answers come from [`model`] and [`naive`], which share nothing with the product but
//! its limits, the flow hash and the text of the selector sets. A crash becomes a file in `tests/regressions/`.

pub mod bytes;
pub mod imports;
pub mod model;
pub mod naive;
pub mod operations;
pub mod planted;
pub mod seeds;
pub mod world;

/// Longest input that is made; frames longer than this differ from shorter ones in nothing that is looked at, and jumbo
/// frames are within it.
pub const INPUT_BYTES_MAX: usize = 10_000;

/// The targets, by name, as folders of `tests/regressions/` and programs of `tests/fuzz/` are called.
pub const TARGETS: [&str; 3] = ["bytes", "operations", "imports"];

/// The targets that decide packets, in which a fault is planted to show that they find it.
pub const DECIDING: [&str; 2] = ["bytes", "operations"];
