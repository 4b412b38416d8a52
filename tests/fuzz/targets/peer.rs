//! See `catena_fuzz::peer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| catena_fuzz::peer::check(input));
