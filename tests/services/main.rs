//! The user service and the gateway, as their clients see them.
//!
//! - [`stand`]: both in this process on real sockets, the gateway over a channel or without a socket; [`wire`]: clients of HTTP/1.1
//!   and HTTP/2 that say exactly what they are told to;
//! - [`matrix`]: the table of requests that a stranger may send, row by row, over both protocols; [`raw`]: those that only bytes
//!   can say;
//! - [`users`]: what users are, the same on each database; [`databases`]: the real ones, whose programs [`servers`]
//!   finds or fetches;
//! - [`article`]: the faults of the article's samples that fall to these two;
//! - [`agreement`]: REST and gRPC answer alike, both ways to the service;
//! - [`deadlines`]: from the edge to the database; [`leaving`]: drains;
//! - [`fleet`]: several instances that the gateway finds through the registry; [`rolling`]: they come and go under load.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first surprise, in its helpers too"
)]

mod agreement;
mod article;
mod databases;
mod deadlines;
mod fleet;
mod leaving;
mod matrix;
mod raw;
mod rolling;
mod servers;
mod stand;
mod users;
mod wire;
