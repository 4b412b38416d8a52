//! Watches: a watch is one cursor into history.
//!
//! ```text
//!                 apply ──▶ Hub ──▶ Inbox of each stream whose watchers want the events ──▶ WatchStream::poll
//!                            │        │ no room: struck off, "lagging from revision n"           ▲
//!                            ▼        ▼                                                          │
//!                     recent batches, engine ────────── catch-up, from n on ─────────────────────┘
//! ```
//!
//! A watch is *synced* as long as the [`Hub`] feeds it, and *catching up* from its cursor while it started in the past, its stream
//! was too slow, or the state was replaced by a snapshot. It becomes synced under the hub's lock, at the very revision at which it
//! has everything, so there is neither gap nor repetition. Apply never waits: it does nothing for a slow stream but strike it off.
//!
//! Whatever is due to a stream passes its inbox in order, notices of progress too. So progress never overtakes an event.
//! Events hold the changes that apply made; they are encoded when the first watcher wants them, and once.

mod catch_up;
mod delivery;
mod event;
mod hub;
mod inbox;
mod ranges;
mod stream;

pub(crate) use event::Batch;
pub(crate) use hub::Hub;

pub use delivery::{Delivery, DeliveryKind};
pub use hub::WatchLoad;
pub use inbox::{InboxLoad, Ready};
pub use stream::WatchStream;
