//! One etcd-compatible member: etcd's gRPC services and HTTP paths over a replicated store.
//!
//! - [`ServerConfig`] is what a member is told; the binary fills it from etcd's flags.
//! - [`Member`] is a running one: [`Member::start`], [`Member::ready`], [`Member::stop`]. [`Member::kv`] is the same member as a
//!   [`Kv`](catena_client::Kv), without a connection.
//! - [`Indoor`] is a member without sockets, over a node that runs already.
//!
//! ```text
//!            listener ── HTTP/2 ─► v3rpc::Services ── interceptor ── handler ─┐
//!               │                                                             ▼
//!               └────── HTTP/1 ─► http (health, metrics, version) ─────► Server: write, linearize, header
//!                                                                        │             │
//!   lease_clock, announce, compactor ────────────────────────────────────┘     raft::Node, store::Reader
//! ```
//!
//! `server` holds what all of them share; `write` is the way of a write, `lease_calls` that of a question about leases. `error` is
//! the one table from what store and raft refuse to what clients see.
//!
//! What is deliberately absent, because it is not built yet: authentication, TLS and the JSON gateway.

mod announce;
mod authority;
mod bootstrap;
mod budget;
mod compactor;
mod config;
mod connections;
mod cork;
mod embed;
mod error;
mod guard;
mod hall;
mod handover;
mod http;
mod http2;
mod indoor;
mod lease_calls;
mod lease_clock;
mod lessor;
mod listener;
mod member;
mod metrics;
mod observer;
mod server;
mod threads;
mod url;
mod v3rpc;
mod write;

pub use catena_raft::Remedy;
pub use config::{
    AutoCompaction, DEFAULT_QUOTA_BYTES, GRPC_OVERHEAD_BYTES, InitialState, MetricsDetail,
    ServerConfig,
};
pub use indoor::Indoor;
pub use member::{Member, StartError, StopReason};
pub use server::{CLUSTER_VERSION, ETCD_VERSION};
pub use url::{Url, UrlError};
