//! Fuzzes `decide` by operations: see `tests/src/fuzz/operations.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(error) = tap_tests::fuzz::operations::check(input) {
        panic!("{error:#}");
    }
});
