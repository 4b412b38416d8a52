//! What a member tells about itself: log lines and metrics.
//!
//! - [`log`]: a [`tracing`] subscriber that writes etcd's log lines, so that what reads etcd's logs reads ours;
//! - [`metrics`]: the series of one member, and its process, in Prometheus' text format.
//!
//! Which lines are written and which series exist is decided where they are used.

pub mod log;
pub mod metrics;
