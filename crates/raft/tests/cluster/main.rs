//! Members in one process over a network in memory: what a cluster must do, on real files and in real time.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod answers;
mod cluster;
mod failover;
mod membership;
mod network;
mod restore;
mod single;
mod snapshot;
mod three;
