//! What a process tells about itself: log lines, metrics, and its last words.
//!
//! - [`log`]: a [`tracing`] subscriber that writes etcd's log lines, so that what reads etcd's logs reads ours;
//! - [`metrics`]: the series of one member, and its process, in Prometheus' text format;
//! - [`mod@panic`]: what becomes of a panic.
//!
//! Which lines are written and which series exist is decided where they are used.

pub mod log;
pub mod metrics;
pub mod panic;
