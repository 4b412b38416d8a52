//! Who offers which service, and where: registration and discovery, written once over [`Kv`](catena_client::Kv).
//!
//! - [`Registry`] is both over one store, embedded or remote. It implements [`Registrar`] and [`Discovery`].
//! - A [`Registration`] keeps an [`Instance`] registered through everything that happens to the store ([`register`]).
//! - A [`Watcher`] follows a service: a [`Change`] at a time, the first at once ([`discover`]).
//! - [`Readiness`] and [`Registry::write_metrics`] are what operators see of it.
//! - [`Layout`]s are the ways to write an instance: our own, the article's, kratos', go-zero's and grpc naming's ([`layout`]).
//!
//! What is deliberately absent: calls to the instances, and any notion of their health. An instance's status is its own word.

mod backoff;
pub mod balance;
mod clock;
pub mod discover;
mod error;
mod instance;
pub mod layout;
mod name;
mod pulse;
pub mod register;
mod registry;
mod status;
mod ulid;

pub use discover::{Change, Discovery, ServiceInfo, Snapshot, Updated, Watcher};
pub use error::{Error, Result};
pub use instance::{Endpoint, Instance, Scheme, Status, WEIGHT_DEFAULT, WEIGHT_MAX};
pub use layout::{Layout, Override, ServiceSettings};
pub use name::ServiceName;
pub use register::{
    ClientSlot, OnConflict, RegState, RegisterOptions, Registrar, Registration, Subscriber,
};
pub use registry::{Registry, RegistryOptions};
pub use status::Readiness;
pub use ulid::{NotUlid, Ulid};
