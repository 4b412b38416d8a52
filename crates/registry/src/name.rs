//! Names of which keys are made.
//!
//! A name is parsed once, where it enters; behind that, a key cannot escape its prefix. Prefixes end in `/`, so that `user` never
//! finds `user-admin`.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{Error, Result};

/// The longest name.
const NAME_BYTES_MAX: usize = 128;

/// The name of a service: `[a-z0-9]([-a-z0-9._]{0,126}[a-z0-9])?`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Checks a name.
    pub fn new(name: &str) -> Result<Self> {
        check("service", name)?;
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Checks a name: of a service, an instance or a namespace, as `what` says.
pub(crate) fn check(what: &'static str, name: &str) -> Result<()> {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    let good = bytes.len() <= NAME_BYTES_MAX
        && ends
            .iter()
            .all(|end| end.is_some_and(|byte| alphanumeric(*byte)))
        && bytes
            .iter()
            .all(|byte| alphanumeric(*byte) || b"-._".contains(byte));
    if good {
        return Ok(());
    }
    Err(Error::BadName {
        what,
        // A name can be as long as a request; what is wrong with it shows in the beginning or in the length.
        name: name.chars().take(NAME_BYTES_MAX + 1).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_grammar_says() {
        let longest = "a".repeat(128);
        for good in ["a", "7", "user", "user.rpc", "a-b_c.d", longest.as_str()] {
            assert!(ServiceName::new(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(129);
        for bad in [
            "", "-a", "a-", ".", "User", "a/b", "a b", "ä", "a\0", "..", "user/", &too_long,
        ] {
            let error = ServiceName::new(bad).unwrap_err();
            assert_eq!(error.reason(), "BAD_NAME", "{bad}");
        }
    }
}
