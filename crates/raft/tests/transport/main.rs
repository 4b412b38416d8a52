//! Members over loopback, through the real transport: that they work, and whom they refuse.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod members;
mod refusals;
mod traffic;
