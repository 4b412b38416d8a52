//! What every request passes on its way to a handler, over HTTP and gRPC alike, and what handlers answer with.
//!
//! - [`Chain`] is the whole way as one tower layer; its parts are [`recover`], [`trace`], [`observe`], [`admit`] and [`deadline`];
//! - [`Error`] and [`Success`] are the two forms of an answer. An `Error` becomes the envelope over HTTP and a `Status` over gRPC;
//! - [`Record`] is what is known of the current request: its trace, language, route and error;
//! - [`Deadline`] is the current task's; [`Outbound`] makes a call that goes out keep it, and [`LocalCalls`] one that stays in the process;
//! - [`validate`] are the rules on fields, which name every one that fails;
//! - [`serve`] accepts connections with all the limits that hyper leaves open; [`lifecycle`] says when a process is ready and how
//!   it leaves.
//!
//! Nothing here knows a route, a service or a store.

pub mod admit;
pub mod chain;
pub mod deadline;
pub mod envelope;
pub mod error;
pub mod language;
pub mod lifecycle;
pub mod local;
pub mod observe;
pub mod outbound;
pub mod protocol;
pub mod record;
pub mod recover;
pub mod serve;
pub mod trace;
pub mod validate;

pub use chain::{Chain, Limits, RouteLimits};
pub use deadline::Deadline;
pub use envelope::Success;
pub use error::{Error, Reason, Result, reasons};
pub use language::Language;
pub use lifecycle::Health;
pub use local::LocalCalls;
pub use outbound::{Outbound, Transport};
pub use record::Record;
