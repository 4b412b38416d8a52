//! The gateway and the user service beside bare servers that make the same query, in one run.
//!
//! ```text
//! cargo run --release -p catena-benches -- services
//! ```
//!
//! Both subjects are this program, started anew, on one file of SQLite: [`ours`] is the gateway with the user service in its process and
//! the service's own port, logging as they always do; [`bare`] is axum and tonic with nothing around the handler. Rounds take turns,
//! and of each figure the median is told. [`load`] asks in a closed loop, on one thread that both subjects suffer from alike.
//!
//! The two have no cache, so none is told apart.

mod bare;
mod load;
mod ours;
mod subject;

pub(crate) use load::{Asked, Load};
pub(crate) use subject::{Role, Subject, serve};
