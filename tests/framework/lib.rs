//! What the suites stand on: real programs and members as real processes.
//!
//! - [`peers`]: the pinned real etcd, etcdctl and etcdutl, built or fetched once into `target/peers`;
//! - [`Target`]: whose members a test runs, a real etcd's or ours, with the same classic flags;
//! - [`Cluster`] and [`Member`]: members on free loopback ports that a test starts, kills, pauses and stops;
//! - [`Pool`]: clusters that test cases share;
//! - [`Client`]: etcd's gRPC services over plain stubs, with no retry and no failover in between;
//! - [`WatchStream`]: one watch stream, message by message; [`message`]: short ways to write requests;
//! - [`Load`]: writers that run while members fall, and what they were promised;
//! - [`history`]: what clients and watchers saw; [`judge`]: whether a store may have done that; [`mix`]: what clients ask for;
//! - [`Tool`]: a command line program against a cluster, run to its end or followed line by line;
//! - [`CpuShare`]: processes that are held to a part of a processor;
//! - [`wait_until`]: the only way in which a test waits.
//!
//! Whatever a test started ends with the value that stands for it: dropping a [`Cluster`] kills its members, and only those, and
//! removes their data. If the test is failing at that moment, the end of each member's log is printed.

mod cgroup;
mod client;
mod cluster;
pub mod history;
mod http;
mod in_process;
pub mod judge;
mod load;
mod member;
pub mod message;
pub mod mix;
pub mod peers;
mod pool;
mod ports;
mod suite;
mod target;
mod tool;
mod wait;
mod watch;

pub use cgroup::CpuShare;
pub use client::{Client, prefix_end};
pub use cluster::{Cluster, Setup};
pub use http::{Answer, get, request};
pub use load::{Load, kept};
pub use member::{Member, Place};
pub use pool::Pool;
pub use ports::{free as free_port, free_row};
pub use suite::{Left, leave_out};
pub use target::Target;
pub use tool::{Finished, Running, Tool};
pub use wait::wait_until;
pub use watch::{WatchStream, describe};
