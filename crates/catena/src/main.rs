//! The program; see the library of the same name.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Most of what is allocated for a request is freed by another thread, and a large value is asked for anew each time: glibc takes a
/// tenth more of a put and twice as much of a value of 1 MiB.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    catena::main()
}
