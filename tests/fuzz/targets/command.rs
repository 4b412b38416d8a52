//! See `catena_fuzz::command`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| catena_fuzz::command::check(input));
