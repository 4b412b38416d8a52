//! What keeps an instance from a call, whoever else is there.

use std::collections::BTreeMap;

use crate::{Instance, Scheme, Status};

/// Why an instance takes no calls, whatever the call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// Its operator has turned it off.
    Disabled,
    /// It is starting, draining or down by its own word.
    NotUp,
    /// It has no endpoint of a scheme that the caller speaks.
    NoEndpoint,
    /// The same, but it would have one if the caller spoke TLS.
    OnlyTls,
}

impl Exclusion {
    /// Why `instance` takes no calls from a caller that speaks `schemes`; `None` if it does.
    pub fn of(instance: &Instance, schemes: &[Scheme]) -> Option<Self> {
        if !instance.enabled {
            Some(Self::Disabled)
        } else if instance.status != Status::Up {
            Some(Self::NotUp)
        } else if instance.endpoint(schemes).is_some() {
            None
        } else {
            let schemes: Vec<_> = schemes.iter().map(|scheme| scheme.secure()).collect();
            let secure = instance.endpoint(&schemes);
            Some(secure.map_or(Self::NoEndpoint, |_| Self::OnlyTls))
        }
    }
}

/// Which instances a call may go to, beyond being able to take it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    /// The version that the instance must have.
    pub version: Option<String>,
    /// What its metadata must say, among other things.
    pub labels: BTreeMap<String, String>,
    /// What to do where no instance is as asked.
    pub otherwise: Otherwise,
}

/// What becomes of a call for which no instance is as asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Otherwise {
    /// It fails.
    #[default]
    Fail,
    /// Any instance will do.
    Any,
}

impl Selector {
    /// Whether the selector says nothing.
    pub fn is_empty(&self) -> bool {
        self.version.is_none() && self.labels.is_empty()
    }

    /// Whether `instance` is as asked.
    pub fn admits(&self, instance: &Instance) -> bool {
        let version = self.version.as_ref();
        version.is_none_or(|version| *version == instance.version)
            && has_labels(instance, &self.labels)
    }
}

/// Whether the metadata of `instance` says all of `labels`.
pub(super) fn has_labels(instance: &Instance, labels: &BTreeMap<String, String>) -> bool {
    let mut labels = labels.iter();
    labels.all(|(name, value)| instance.metadata.get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::sim_tests::instance;

    #[test]
    fn exclusion_names_the_first_reason() {
        let good = instance("a");
        let exclusion = |change: fn(&mut Instance)| {
            let mut instance = good.clone();
            change(&mut instance);
            Exclusion::of(&instance, &[Scheme::Grpc])
        };
        assert_eq!(exclusion(|_| {}), None);
        assert_eq!(exclusion(|i| i.enabled = false), Some(Exclusion::Disabled));
        assert_eq!(
            exclusion(|i| i.status = Status::Draining),
            Some(Exclusion::NotUp)
        );
        assert_eq!(
            exclusion(|i| i.endpoints[0].scheme = Scheme::Http),
            Some(Exclusion::NoEndpoint)
        );
        assert_eq!(
            exclusion(|i| i.endpoints[0].scheme = Scheme::Grpcs),
            Some(Exclusion::OnlyTls)
        );
    }

    #[test]
    fn selector_asks_for_version_and_labels() {
        let mut instance = instance("a");
        instance.version = "2".to_owned();
        instance
            .metadata
            .insert("canary".to_owned(), "1".to_owned());
        let mut selector = Selector::default();
        assert!(selector.is_empty() && selector.admits(&instance));
        selector.version = Some("2".to_owned());
        selector.labels.insert("canary".to_owned(), "1".to_owned());
        assert!(!selector.is_empty() && selector.admits(&instance));
        selector.labels.insert("other".to_owned(), "1".to_owned());
        assert!(!selector.admits(&instance));
    }
}
