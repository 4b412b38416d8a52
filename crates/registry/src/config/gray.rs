//! Documents that some instances get before the others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Error, Format, Result, key};

/// What a percentage is counted in: hundredths.
const PARTS: u64 = 10_000;

/// A document for some instances, and which. Promoting it gives it to all.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct GrayRule {
    /// Where several rules for one document match an instance, the highest counts; of equal ones the first by name.
    #[serde(default)]
    pub priority: i32,
    /// Which instances.
    #[serde(rename = "match")]
    pub matches: GrayMatch,
    /// How the content is written; without it, as the document is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The whole document, as these instances get it.
    pub content: String,
}

/// `Debug` leaves the content out.
impl std::fmt::Debug for GrayRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrayRule")
            .field("priority", &self.priority)
            .field("matches", &self.matches)
            .finish_non_exhaustive()
    }
}

/// Which instances a rule is for: those that are named, and those that have all the labels and fall into the percentage. A rule
/// that gives neither labels nor a percentage is for the named ones only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrayMatch {
    /// Labels that an instance must have, each with this value.
    pub labels: BTreeMap<String, String>,
    /// How many of the instances, 0 to 100, in steps of a hundredth. An instance that falls into a percentage falls into every
    /// higher one of the same rule too.
    pub percent: Option<f64>,
    /// Instances by id.
    pub ids: Vec<String>,
}

/// Who asks for documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The instance's id.
    pub instance: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl GrayRule {
    /// Whether the rule can be followed.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
        key::check("rule", name)?;
        let percent = self.matches.percent.unwrap_or(0.0);
        if !(0.0..=100.0).contains(&percent) {
            return Err(Error::Refused(vec![super::Violation {
                path: "match.percent".to_owned(),
                rule: "maximum",
                message: "must be from 0 to 100".to_owned(),
            }]));
        }
        Ok(())
    }

    /// Whether the rule of this name is for an instance.
    pub fn is_for(&self, name: &str, identity: &Identity) -> bool {
        let GrayMatch {
            labels,
            percent,
            ids,
        } = &self.matches;
        if ids.contains(&identity.instance) {
            return true;
        }
        let labelled = labels
            .iter()
            .all(|(label, value)| identity.labels.get(label) == Some(value));
        match percent {
            Some(percent) => labelled && part(&identity.instance, name) < parts(*percent),
            None => labelled && !labels.is_empty(),
        }
    }
}

/// A percentage in hundredths.
fn parts(percent: f64) -> u64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and 0 to 10,000 is what is meant"
    )]
    let parts = (percent * 100.0).round() as u64;
    parts
}

/// Where an instance falls among the parts. It must be the same in every release: sha256 is.
fn part(instance: &str, rule: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(instance);
    hash.update([0]);
    hash.update(rule);
    let hash = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(first) % PARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(instance: &str, labels: &[(&str, &str)]) -> Identity {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Identity {
            instance: instance.to_owned(),
            labels: labels.collect(),
        }
    }

    fn rule(text: &str) -> GrayRule {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn ten_percent_of_a_thousand_are_about_a_hundred() {
        for name in ["tenth", "canary", "r1", "r2", "r3"] {
            let tenth = rule(r#"{"match":{"percent":10},"content":""}"#);
            let fifth = rule(r#"{"match":{"percent":20},"content":""}"#);
            let identities = (0..1000).map(|n| identity(&format!("user-{n}"), &[]));
            let chosen: Vec<_> = identities.filter(|id| tenth.is_for(name, id)).collect();
            assert!(
                (80..=120).contains(&chosen.len()),
                "{name}: {}",
                chosen.len()
            );
            assert!(
                chosen.iter().all(|id| fifth.is_for(name, id)),
                "more percent, the same and more"
            );
        }
    }

    #[test]
    fn where_an_instance_falls_never_changes() {
        assert_eq!(part("user-1", "tenth"), 1615);
        assert_eq!(part("user-2", "tenth"), 331);
    }

    #[test]
    fn labels_ids_and_percent_go_together() {
        let labelled = rule(r#"{"match":{"labels":{"zone":"a"}},"content":""}"#);
        assert!(labelled.is_for("r", &identity("x", &[("zone", "a"), ("b", "c")])));
        assert!(!labelled.is_for("r", &identity("x", &[("zone", "b")])));
        let named = rule(r#"{"match":{"ids":["x"]},"content":""}"#);
        assert!(named.is_for("r", &identity("x", &[])));
        assert!(!named.is_for("r", &identity("y", &[])));
        let all =
            rule(r#"{"match":{"percent":100,"labels":{"zone":"a"},"ids":["y"]},"content":""}"#);
        assert!(all.is_for("r", &identity("x", &[("zone", "a")])));
        assert!(!all.is_for("r", &identity("x", &[])));
        assert!(all.is_for("r", &identity("y", &[])));
        let none = rule(r#"{"match":{"percent":0},"content":""}"#);
        assert!(!(0..1000).any(|n| none.is_for("r", &identity(&n.to_string(), &[]))));
        let nobody = rule(r#"{"match":{},"content":""}"#);
        assert!(!nobody.is_for("r", &identity("x", &[])));
    }

    #[test]
    fn a_percentage_beyond_a_hundred_is_refused() {
        for percent in ["-1", "101"] {
            let rule = rule(&format!(
                r#"{{"match":{{"percent":{percent}}},"content":""}}"#
            ));
            assert_eq!(rule.check("r").unwrap_err().reason(), "CONFIG_INVALID");
        }
    }
}
