//! The commands, one file each.

mod full;
mod growth;
mod micro;
mod one;
mod quick;
mod scenarios;
mod services;

pub(crate) use full::Full;
pub(crate) use growth::Growth;
pub(crate) use micro::Micro;
pub(crate) use one::One;
pub(crate) use quick::Quick;
pub(crate) use scenarios::Scenarios;
pub(crate) use services::Services;
