//! Why there is nobody to call.

use std::fmt;

/// No instance may take the call. Says how many are known, and how many each step of the choice took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoInstance {
    /// How many instances discovery knows.
    pub known: usize,
    /// Turned off by their operator.
    pub disabled: usize,
    /// Starting, draining or down by their own word.
    pub not_up: usize,
    /// Without an endpoint of a scheme that the caller speaks.
    pub no_endpoint: usize,
    /// With endpoints behind TLS only, which the caller does not speak.
    pub only_tls: usize,
    /// Of another version, or without a label that the call asks for.
    pub not_selected: usize,
    /// Of weight 0 beside others, or not of the caller's subset.
    pub outside: usize,
    /// Found dead by checks.
    pub unhealthy: usize,
    /// Put aside because calls to them failed.
    pub ejected: usize,
    /// Tried by this call already.
    pub tried: usize,
}

impl NoInstance {
    /// The reason by which callers know this error.
    pub const REASON: &str = "NO_INSTANCE";
}

impl fmt::Display for NoInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: of {} known instances", Self::REASON, self.known)?;
        let counts = [
            (self.disabled, "disabled"),
            (self.not_up, "not up"),
            (self.no_endpoint, "without a usable endpoint"),
            (self.only_tls, "behind TLS, which the caller does not speak"),
            (self.not_selected, "of other version or labels"),
            (self.outside, "of weight 0 or outside the subset"),
            (self.unhealthy, "unhealthy"),
            (self.ejected, "ejected"),
            (self.tried, "tried"),
        ];
        let mut separator = ' ';
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            if separator == ',' {
                f.write_str(",")?;
            }
            write!(f, " {count} {what}")?;
            separator = ',';
        }
        if separator == ' ' {
            f.write_str(" none is left")?;
        }
        Ok(())
    }
}

impl std::error::Error for NoInstance {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_says_what_took_the_instances_away() {
        let error = NoInstance {
            known: 5,
            disabled: 1,
            not_up: 3,
            tried: 1,
            ..NoInstance::default()
        };
        assert_eq!(
            error.to_string(),
            "NO_INSTANCE: of 5 known instances 1 disabled, 3 not up, 1 tried"
        );
        assert_eq!(
            NoInstance::default().to_string(),
            "NO_INSTANCE: of 0 known instances none is left"
        );
    }
}
