//! Members in one thread on virtual time, with a disk that forgets what was not synced and a network that drops and delays.
//!
//! Each run draws all its chances from one seed. A failure prints the seed and the command that runs it again. One chance is not
//! ours: `tokio::sync::watch` wakes several waiters in an order of its own, so what happens at the same instant may change places.

#![allow(clippy::unwrap_used, reason = "a test")]

mod world;

mod disk;
mod network;

mod cluster;

mod clients;
mod invariants;

mod cluster_faults;

mod cluster_test;
mod disk_test;
mod network_test;
mod wal_test;
