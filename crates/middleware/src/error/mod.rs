//! The one error that leaves a service, over HTTP or gRPC.
//!
//! An [`Error`] has the code of HTTP, a reason that programs compare, and a message that people read. What broke underneath is its
//! source: it is logged where the request ends and never serialised, so no text of a database or a store reaches a client.
//!
//! - [`table`]: the codes of gRPC and of HTTP, each way;
//! - `status`: to and from `google.rpc.Status`, whose `ErrorInfo` kratos reads and writes as well;
//! - `answer`: the envelope over HTTP.

mod answer;
mod reason;
mod status;
pub mod table;

use std::{
    borrow::Cow, collections::BTreeMap, error::Error as StdError, fmt, sync::Arc, time::Duration,
};

pub use answer::{ErrorBody, RETRY_AFTER_MAX};
pub use reason::{Reason, reasons};

use crate::{language::Language, validate::Violation};

/// A result of a service.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a client is told went wrong, and what is only logged about it.
#[derive(Clone)]
pub struct Error(Box<Parts>);

#[derive(Clone)]
struct Parts {
    code: u16,
    reason: Cow<'static, str>,
    message: Cow<'static, str>,
    metadata: BTreeMap<String, String>,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of the catalogue, its message in the language of the current request.
    pub fn of(reason: &'static Reason) -> Self {
        Self::new(
            reason.code,
            reason.name,
            reason.message(Language::current()),
        )
    }

    /// An error with a reason of its own: HTTP's status code, a name in UPPER_SNAKE, and a text for people.
    pub fn new(
        code: u16,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Parts {
            code,
            reason: reason.into(),
            message: message.into(),
            metadata: BTreeMap::new(),
            violations: Vec::new(),
            retry_after: None,
            source: None,
        }))
    }

    /// A fault of ours: the client learns that there was one, the log learns what.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::of(&reasons::INTERNAL).with_source(source)
    }

    /// A request whose fields break rules, all of which are named.
    pub fn invalid(violations: Vec<Violation>) -> Self {
        let mut error = Self::of(&reasons::VALIDATION_FAILED);
        error.0.violations = violations;
        error
    }

    /// Another text for people.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = message.into();
        self
    }

    /// One more fact for programs.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key.into(), value.into());
        self
    }

    /// Fields that break rules.
    #[must_use]
    pub fn with_violations(mut self, violations: Vec<Violation>) -> Self {
        self.0.violations = violations;
        self
    }

    /// When the client may try again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// What broke underneath. It is logged, never sent.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// HTTP's status code.
    pub fn code(&self) -> u16 {
        self.0.code
    }

    /// What programs compare.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What people read.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Facts for programs.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// The fields that break rules.
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// When the client may try again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether it has this reason of the catalogue.
    pub fn is(&self, reason: &Reason) -> bool {
        self.0.code == reason.code && self.0.reason == reason.name
    }

    /// The whole chain of causes in one line, for the log alone.
    pub fn causes(&self) -> Option<String> {
        let mut cause: &dyn StdError = self.0.source.as_deref()?;
        let mut text = cause.to_string();
        while let Some(next) = cause.source() {
            text = format!("{text}: {next}");
            cause = next;
        }
        Some(text)
    }
}

/// Code and reason make an error what it is; texts and facts vary with the language and the request.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        self.0.code == other.0.code && self.0.reason == other.0.reason
    }
}

impl Eq for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.code, self.0.reason, self.0.message)
    }
}

/// As [`fmt::Display`], with the causes: what a failing test or a log wants to see.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        for violation in self.violations() {
            write!(f, "; {violation}")?;
        }
        self.causes()
            .map_or(Ok(()), |causes| write!(f, " ({causes})"))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.0.source.as_deref()?;
        Some(source)
    }
}
