//! See `tests/fuzz/core.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rblk_fuzz::run("core", bytes));
