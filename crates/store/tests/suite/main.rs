//! The store as its users see it: scripts, one for each rule; random operations against a plain model; random watchers against the
//! log of events.

#![allow(
    clippy::unwrap_used,
    reason = "what a test cannot go on without fails it"
)]

mod format;
mod memory;
mod model;
mod pictures;
mod requests;
mod script;
mod scripts;
mod threads;
mod watchers;
mod world;
