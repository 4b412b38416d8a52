//! What can go wrong, sorted by what the caller can do.

use crate::Ulid;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a registration or a look at a service failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name that no key can be made of.
    #[error(
        "{what} {name:?} is not 1 to 128 of a-z, 0-9, '-', '.' and '_' that begins and ends with a letter or digit"
    )]
    BadName {
        /// What was to be named: `service`, `instance` or `namespace`.
        what: &'static str,
        /// The name as given.
        name: String,
    },
    /// An endpoint that is not `scheme://host:port`.
    #[error("endpoint {0:?} is not http, https, grpc or grpcs://host:port")]
    BadEndpoint(String),
    /// An instance that cannot be written.
    #[error("instance {id:?} of {service:?} {reason}")]
    BadInstance {
        /// The service.
        service: String,
        /// The instance.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process holds the name.
    #[error("instance {id:?} of {service:?} is registered by another process at {key:?}")]
    Conflict {
        /// The service.
        service: String,
        /// The instance.
        id: String,
        /// The key that is held.
        key: String,
        /// The other's epoch, if its layout carries one.
        holder_epoch: Option<Ulid>,
    },
    /// More than this process may hold.
    #[error("{what}: {actual} where at most {limit} are held")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there would be.
        actual: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] catena_client::Error),
    /// The file of last known instances cannot be used.
    #[error("file of last known instances {path:?}: {reason}")]
    ColdFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry or the registration was closed.
    #[error("the registry is closed")]
    Closed,
}

impl Error {
    /// The reason as callers compare it and as answers carry it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadName { .. } => "BAD_NAME",
            Self::BadEndpoint(_) => "BAD_ENDPOINT",
            Self::BadInstance { .. } => "BAD_INSTANCE",
            Self::Conflict { .. } => "REGISTRATION_CONFLICT",
            Self::TooMany { .. } => "TOO_MANY",
            Self::Store(error) if error.is_transient() => "STORE_UNAVAILABLE",
            Self::Store(_) => "STORE_ERROR",
            Self::ColdFile { .. } => "COLD_FILE",
            Self::Closed => "REGISTRY_CLOSED",
        }
    }
}
