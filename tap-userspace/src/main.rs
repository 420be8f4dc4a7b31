//! The `gwtap` binary.

fn main() {}
