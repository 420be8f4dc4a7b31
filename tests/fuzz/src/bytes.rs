//! Fuzzes `decide` by bytes: see `tests/src/fuzz/bytes.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(error) = tap_tests::fuzz::bytes::check(input) {
        panic!("{error:#}");
    }
});
