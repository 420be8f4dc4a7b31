//! Fuzzes the import of indicator files and the STIX pattern parser: see `tests/src/fuzz/imports.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(error) = tap_tests::fuzz::imports::check(input) {
        panic!("{error:#}");
    }
});
