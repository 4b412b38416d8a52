//! See `catena_fuzz::wal`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| catena_fuzz::wal::check(input));
