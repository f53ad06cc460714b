//! See `tests/fuzz/frames.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rblk_fuzz::run("frames", bytes));
