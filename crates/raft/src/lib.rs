//! Consensus: openraft bound to our log, state machine and peer network. The only crate that names openraft.
//!
//! - [`Node`] is a running member: it proposes, reads, changes members, hands over;
//! - [`Config`] and [`identity`] say who it is and where its files lie;
//! - [`transport`] carries frames between members over gRPC; anything else that is a [`catena_runtime::Network`] will do.
//!
//! ```text
//!  propose ─► propose (batches) ─┬─► consensus ─► log ──────────────► wal        one ordered stream, one sync a batch
//!  read    ─► read (rounds) ─────┤      │  ▲
//!  members ─► members (plans) ───┘      │  │ receive ◄─ service ◄─── peers
//!                │ to the leader        ▼  │
//!                └─► network ─► peers   machine ─► store::apply ─► pending: answers whoever waits here
//!                                          └─ commit ─► engine      behind the log, in atomic batches
//! ```
//!
//! A proposal travels with a ticket and is answered by the apply of the member that proposed it, never over the network. So a
//! forwarded one is answered even if the leader that took it is gone, and the answer always tells of state that this member has.
//!
//! Above the trait `consensus::Consensus` nothing has a type parameter; below it everything is generic over [`types::Types`], so that a
//! simulation runs the same code on its own runtime.
//!
//! What is deliberately absent: leases and watches (`server` drives them, from [`Node::leadership`] and the store's reader), checks of
//! requests, texts for clients, TLS between members.

mod batch;
mod behind;
mod blocking;
mod compact;
mod config;
mod consensus;
#[cfg(test)]
mod durability_test;
mod error;
mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
mod heard;
pub mod id;
pub mod identity;
mod log;
pub mod logbook;
mod machine;
mod members;
mod method;
mod network;
mod node;
mod observer;
mod pace;
mod pending;
mod propose;
mod read;
mod receive;
mod remedy;
pub mod restore;
mod service;
mod shared;
mod sole;
mod start;
mod status;
mod stop;
#[cfg(test)]
mod suite;
mod transfer;
pub mod transport;
pub mod types;
mod wire;

pub use config::{Config, Expected};
pub use error::{CallError, MemberError, MoveError, ProposeError, ReadError, StartError, Stop};
pub use node::{Handler, METHOD_FREE, Node};
pub use observer::{AppliedEntry, Ballot, Observer};
pub use read::ReadDesk;
pub use remedy::Remedy;
pub use status::{Leadership, PeerStatus, Role, Status};
