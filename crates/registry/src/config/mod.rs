//! Configuration: typed, in layers, changed without a restart, published to all or to some.
//!
//! - [`Config`] is what a process is configured to do. It merges layers, weakest first: what the program brings, files in order, the
//!   store's documents for the namespace, the application and its profile, gray documents, the environment, the command line.
//! - [`Watched`] is a typed part of it that follows changes: loaded without a lock, waited for, observed.
//! - [`ConfigCenter`] writes the store's documents: publishes by comparison, keeps a history, rolls back, gives documents to some
//!   instances first, and knows what became of each version at each instance.
//!
//! ```text
//! files ───────┐  News                    ┌──► Watched<T>, observers
//!              ├───────► Applier ─► tree ─┼──► last good on disk
//! store ───────┘   parse, merge, resolve, └──► listener's record in the store
//! (range, watch)   check, swap
//! ```
//!
//! What holds is always a whole that everybody agreed to: a change that fails anywhere changes nothing and is reported as rejected.
//! Versions of a document are applied in their order, each of them; after a compaction, a long absence or a loss of the store, the
//! newest. While the store is away, what it said last holds, also over a restart ([`StoreOptions::last_good`]).
//!
//! Values of the configuration are in no log, no error and no `Debug`; they leave only where somebody asks for them:
//! [`Config::get`], [`Config::explain`], [`ConfigCenter::get`] and [`ConfigCenter::diff`]. What must not be read in the store either is
//! sealed with a key that the store does not have ([`Keyring`]): of it only [`Config::get`] and [`Watched`] say what it is.

mod apply;
pub mod center;
#[allow(
    clippy::module_inception,
    reason = "the type has the module's name, as in the rest of the workspace"
)]
mod config;
mod error;
mod files;
mod format;
mod gray;
mod held;
mod key;
mod last_good;
mod layer;
mod listener;
mod meta;
mod options;
mod properties;
mod resolve;
mod seal;
mod start;
mod stored;
mod tree;
mod typed;
mod watched;

pub use apply::{DocumentState, Outcome, Report};
pub use center::{Change, ConfigCenter, Current, Expect};
pub use config::{Config, Status, StoreState};
pub use error::{Error, Result, Violation};
pub use format::{DOCUMENT_BYTES_MAX, Format};
pub use gray::{GrayMatch, GrayRule, Identity};
pub use key::{AppName, DocumentName, SHARED};
pub use layer::{Layer, LayerValue};
pub use listener::{Applied, ListenerState};
pub use meta::{Meta, Revision};
pub use options::{ConfigOptions, StoreOptions, environment};
pub use seal::{Keyring, SealFault};
pub use tree::Difference;
pub use watched::{Invalid, Subscription, Watched};
