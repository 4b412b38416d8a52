//! A gRPC client that costs less than the servers it measures.
//!
//! - [`Connection`]: HTTP/2 over one plain TCP connection. Messages are encoded ahead by the caller; a request is a copy of some
//!   hundred bytes into a buffer that one write carries off with its neighbours.
//! - [`Fleet`]: all connections, served by one thread from one epoll set, with a timer for loads that have a timetable.
//!
//! A client library would cost as much as the server: it decodes header blocks, wakes a task and allocates for each call. Here a
//! call is known by its stream's number, and its success by its message, since a gRPC call that fails ends without one.
//!
//! The server's flow control is followed: what its windows do not take waits. A message that fits into a frame passes that by with an
//! addition.
//!
//! What is deliberately absent: TLS, reading of headers and hence of error texts. A run
//! with errors is no measurement; the member's log and a real client tell what was wrong.

mod connection;
mod fleet;
mod frame;
mod hpack;
mod outgoing;
mod unframe;

pub(crate) use connection::{Connection, Event, More};
pub(crate) use fleet::Fleet;
