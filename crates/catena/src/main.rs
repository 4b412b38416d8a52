//! The program; see the library of the same name.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Most of what is allocated for a request is freed by another thread, for which glibc takes a tenth more of a put. Not version 2: there
/// a large block that another thread frees stays with the one that asked for it until that asks again.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    catena::main()
}
