//! What can go wrong with a configuration, sorted by what the caller can do.
//!
//! No text here carries a value of the configuration: values may be secrets, and errors end in logs and answers. Keys, paths,
//! lines and expectations are named instead. It is an enum of its own beside the registry's, since nothing can fail in both.

use std::{fmt, time::Duration};

/// A result of the configuration.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a configuration could not be read, applied or published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name that no key can be made of.
    #[error(
        "{what} {name:?} is not 1 to 128 of a-z, 0-9, '-', '.' and '_' that begins and ends with a letter or digit"
    )]
    BadName {
        /// What was to be named.
        what: &'static str,
        /// The name as given.
        name: String,
    },
    /// More than is accepted.
    #[error("{what}: {actual} where at most {limit} are accepted")]
    TooMuch {
        /// What there is too much of, with its unit.
        what: &'static str,
        /// How much there is.
        actual: usize,
        /// How much there may be.
        limit: usize,
    },
    /// A document that is not of its format.
    #[error("{document} line {line}, column {column}: {reason}")]
    Unreadable {
        /// The document.
        document: String,
        /// The line, from 1; 0 if unknown.
        line: usize,
        /// The column, from 1; 0 if unknown.
        column: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A `${key}` without a default names what is not there.
    #[error("{path}: ${{{key}}} names nothing")]
    Unresolved {
        /// Where the placeholder stands.
        path: String,
        /// What it names.
        key: String,
    },
    /// Placeholders that lead back to where they began.
    #[error("placeholders form a cycle: {chain}")]
    Cycle {
        /// The keys on the way, `a -> b -> a`.
        chain: String,
    },
    /// A placeholder that cannot be read, or whose value does not fit where it stands.
    #[error("{path}: {reason}")]
    BadPlaceholder {
        /// Where it stands.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A sealed value that does not open.
    #[error("{path} {fault}")]
    Sealed {
        /// Where it stands.
        path: String,
        /// Why it does not.
        fault: super::SealFault,
    },
    /// Nothing stands at the path.
    #[error("{path} is not configured")]
    Missing {
        /// The path.
        path: String,
    },
    /// Something stands at the path that is not what is expected there.
    #[error("{path}: expected {expected}, found {found}")]
    Mistyped {
        /// The path.
        path: String,
        /// What is expected.
        expected: String,
        /// The kind of what is there.
        found: &'static str,
    },
    /// Values that their owner or a schema refuses.
    #[error("refused: {}", Listed(.0))]
    Refused(Vec<Violation>),
    /// The document was changed by somebody else.
    #[error("{document} is at version {current}, another than expected")]
    Conflict {
        /// The document.
        document: String,
        /// Its version; 0 if it does not exist.
        current: u64,
    },
    /// There is no such thing.
    #[error("{what} {name:?} does not exist")]
    Absent {
        /// What is looked for.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A file that cannot be used.
    #[error("{path:?}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What the operating system says.
        reason: String,
    },
    /// The store was not reached in time, and no last good configuration is on disk.
    #[error("no configuration within {waited:?} and none from before on disk: {cause}")]
    NotReady {
        /// How long it was waited for.
        waited: Duration,
        /// What went wrong last.
        cause: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] catena_client::Error),
    /// The configuration was closed.
    #[error("the configuration is closed")]
    Closed,
}

/// One value that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where it stands.
    pub path: String,
    /// The rule that it breaks: a schema's keyword, or `valid`.
    pub rule: &'static str,
    /// What is expected. Never what was found.
    pub message: String,
}

impl Error {
    /// The reason as callers compare it and as answers carry it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadName { .. } => "BAD_NAME",
            Self::TooMuch { .. } => "CONFIG_TOO_LARGE",
            Self::Unreadable { .. } => "CONFIG_UNREADABLE",
            Self::Unresolved { .. } | Self::Cycle { .. } | Self::BadPlaceholder { .. } => {
                "CONFIG_UNRESOLVED"
            }
            Self::Sealed { .. } => "CONFIG_SEALED",
            Self::Missing { .. } => "CONFIG_MISSING",
            Self::Mistyped { .. } | Self::Refused(_) => "CONFIG_INVALID",
            Self::Conflict { .. } => "CONFIG_CONFLICT",
            Self::Absent { .. } => "CONFIG_NOT_FOUND",
            Self::File { .. } => "CONFIG_FILE",
            Self::NotReady { .. } => "CONFIG_NOT_READY",
            Self::Store(error) if error.is_transient() => "STORE_UNAVAILABLE",
            Self::Store(_) => "STORE_ERROR",
            Self::Closed => "CONFIG_CLOSED",
        }
    }
}

/// Violations in one line.
struct Listed<'a>(&'a [Violation]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, violation) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{} {}", violation.path, violation.message)?;
        }
        Ok(())
    }
}
