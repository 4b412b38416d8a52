//! A member in this process, asked over loopback as clients ask it: each RPC, and the errors that clients recognise by their text.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth;
mod cluster;
mod election;
mod embed;
mod health;
mod http;
mod kv;
mod lease;
mod limits;
mod lock;
mod maintenance;
mod one;
mod restart;
mod three;
mod watch;
