//! See `catena_fuzz::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| catena_fuzz::config::check(input));
