//! See `tests/fuzz/pair.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rblk_fuzz::run("pair", bytes));
