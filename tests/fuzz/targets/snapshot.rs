//! See `catena_fuzz::snapshot`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| catena_fuzz::snapshot::check(input));
