//! See `catena_fuzz::bbolt`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| catena_fuzz::bbolt::check(input));
