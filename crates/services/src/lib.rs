//! The services. They are siblings that never import one another; each has its schema, its rules and its gRPC surface.
//!
//! - [`user`]: who there is: the article's `example.UserService` and `catena.user.v1.Users`, over one directory;
//! - [`database`]: SQLite, MariaDB or PostgreSQL by URL, whose statements end when the request's deadline does.
//!
//! A service is a router of gRPC services inside of the middleware's chain, to which the binary gives a listener. Callers in the same
//! process call its handlers by their types.

pub mod database;
pub mod user;
