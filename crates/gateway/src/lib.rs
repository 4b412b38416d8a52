//! The REST front door: routes, what their handlers take out of requests, and calls to the services behind.
//!
//! - [`Gateway`] builds the whole: routes inside of the middleware's chain, ready for a listener;
//! - [`routes`] are the handlers, one file each; [`routes::TABLE`] lists them;
//! - [`config_api`] are the routes of the configuration centre, mounted beside them;
//! - [`extract`] takes requests apart: strict JSON, queries and path parameters, whose answers name every field that is wrong;
//! - [`balanced`] is the way to a service through the registry.
//!
//! A service is called by the interface that it was generated from, which may be the service itself in this process or a client over
//! a balanced channel: no handler knows which, and both answer alike. See [`UserCalls`].

pub mod config_api;
pub mod extract;
mod gateway;
pub mod nacos;
pub mod routes;
mod upstream;
mod users;

pub use gateway::{Gateway, GatewayOptions};
pub use upstream::{NO_INSTANCE, balanced};
pub use users::UserCalls;
