//! The structure of the workspace itself: which crate may depend on which, where features are declared, which names stand where.
//!
//! ARCHITECTURE.md says why; a change of these rules is a change of that document.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first surprise, in its helpers too"
)]

mod manifests;
mod promises;
mod sources;

use std::path::PathBuf;

/// The root of the workspace.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
