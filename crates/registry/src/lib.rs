//! Who offers which service, and where: registration and discovery, written once over [`Kv`](catena_client::Kv).
//!
//! - [`Registry`] is both over one store, embedded or remote. It implements [`Registrar`] and [`Discovery`].
//! - A [`Registration`] keeps an [`Instance`] registered through everything that happens to the store ([`register`]).
//! - A [`Watcher`] follows a service: a [`Change`] at a time, the first at once ([`discover`]).
//! - [`Readiness`] and [`Registry::write_metrics`] are what operators see of it.
//! - [`Layout`]s are the ways to write an instance: our own, the article's, kratos', go-zero's and grpc naming's ([`layout`]).
//! - A [`channel`] calls a service: a [`Channel`](channel::Channel) under tonic's clients, an [`HttpClient`](channel::HttpClient).
//! - Which instance takes a call is the choice of a [`balance::Balancer`]; [`health`] asks the instances how they are.
//!
//! An instance's status is its own word and stands in the store; its health is what this caller sees, and stays here.

mod backoff;
pub mod balance;
pub mod channel;
mod clock;
pub mod config;
pub mod discover;
mod error;
pub mod health;
mod instance;
pub mod layout;
mod name;
mod pulse;
pub mod register;
mod registry;
mod series;
mod sight;
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
