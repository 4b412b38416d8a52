//! Documents for some instances, and then for all or for none.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result};
use catena_registry::config::{
    ConfigCenter, Expect, Format, GrayMatch, GrayRule, center::PUBLISHED_BYTES_MAX,
};

use super::{Author, FORMATS, Name, published, read};
use crate::run::report::table;

/// What can be done with gray documents.
#[derive(clap::Subcommand, Clone, Debug)]
pub(in crate::ctl) enum Verb {
    /// Give a document to some instances; a rule of this name is replaced
    ///
    /// It is for the instances that --id names, and for those that have every --label and fall into --percent.
    Put {
        #[command(flatten)]
        name: Name,
        /// The rule's name
        rule: String,
        /// The file with the document as these instances get it; - for standard input
        file: PathBuf,
        #[command(flatten)]
        to: To,
        /// Which counts where several rules match an instance: the highest
        #[arg(
            long,
            value_name = "NUMBER",
            default_value_t = 0,
            allow_negative_numbers = true
        )]
        priority: i32,
        /// How it is written; without it, as the document is
        #[arg(long, value_name = "FORMAT", value_parser = FORMATS)]
        format: Option<String>,
    },
    /// List the rules of a document
    Ls {
        #[command(flatten)]
        name: Name,
    },
    /// Give a rule's document to all: publish it, and take the rule away
    Promote {
        #[command(flatten)]
        name: Name,
        /// The rule's name
        rule: String,
        #[command(flatten)]
        author: Author,
    },
    /// Take a rule away: its instances go back to what all others have
    Abort {
        #[command(flatten)]
        name: Name,
        /// The rule's name
        rule: String,
    },
}

/// Which instances.
#[derive(clap::Args, Clone, Debug)]
#[group(required = true, multiple = true)]
pub(in crate::ctl) struct To {
    /// How many of the instances, 0 to 100, in steps of a hundredth
    #[arg(long, value_name = "PERCENT")]
    percent: Option<f64>,
    /// A label that they must have; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Instances by id, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    id: Vec<String>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a label is written NAME=VALUE".to_owned()),
    }
}

/// Does it.
pub(super) async fn run(center: &ConfigCenter, namespace: &str, verb: Verb) -> Result<()> {
    match verb {
        Verb::Put {
            name,
            rule,
            file,
            to,
            priority,
            format,
        } => {
            let name = name.document(namespace)?;
            let content = String::from_utf8(read(&file, PUBLISHED_BYTES_MAX)?);
            let gray = GrayRule {
                priority,
                matches: GrayMatch {
                    labels: to.label.into_iter().collect(),
                    percent: to.percent,
                    ids: to.id,
                },
                format: format.as_deref().and_then(Format::from_name),
                content: content
                    .map_err(|_quoting| anyhow::anyhow!("{} is not UTF-8", file.display()))?,
            };
            center.gray(&name, &rule, &gray).await?;
            let whose = whose(&gray.matches);
            crate::print(&format!("{name}: rule {rule} gives a document to {whose}"));
        }
        Verb::Ls { name } => list(&center.rules(&name.document(namespace)?).await?),
        Verb::Promote { name, rule, author } => {
            let name = name.document(namespace)?;
            let promoted = center
                .promote(&name, &rule, &author.name(), Expect::Any)
                .await;
            published(&name, &promoted.with_context(|| no_rule(&rule))?);
        }
        Verb::Abort { name, rule } => {
            let name = name.document(namespace)?;
            let aborted = center.abort(&name, &rule).await;
            aborted.with_context(|| no_rule(&rule))?;
            crate::print(&format!("{name}: rule {rule} is taken away"));
        }
    }
    Ok(())
}

/// What to look at when a rule cannot be acted upon.
fn no_rule(rule: &str) -> String {
    format!("rule {rule} stays as it is (`catena ctl config gray ls` lists the rules)")
}

fn list(rules: &BTreeMap<String, GrayRule>) {
    let mut rows = vec![["RULE", "PRIORITY", "BYTES", "FOR"].map(str::to_owned)];
    rows.extend(rules.iter().map(|(name, gray)| {
        [
            name.clone(),
            gray.priority.to_string(),
            gray.content.len().to_string(),
            whose(&gray.matches),
        ]
    }));
    crate::print(table(&rows).trim_end());
}

/// Which instances a rule is for, in words.
fn whose(matches: &GrayMatch) -> String {
    let mut drawn = Vec::new();
    if let Some(percent) = matches.percent {
        drawn.push(format!("{percent} % of the instances"));
    }
    for (label, value) in &matches.labels {
        drawn.push(format!("{label}={value}"));
    }
    let mut whose = Vec::new();
    if !drawn.is_empty() {
        whose.push(drawn.join(" with "));
    }
    if !matches.ids.is_empty() {
        whose.push(matches.ids.join(", "));
    }
    match whose.is_empty() {
        true => "nobody".to_owned(),
        false => whose.join(", and "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_says_whom_it_is_for() {
        let matches = |percent, labels: &[(&str, &str)], ids: &[&str]| GrayMatch {
            labels: labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            percent,
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        for (matches, text) in [
            (matches(Some(10.0), &[], &[]), "10 % of the instances"),
            (
                matches(None, &[("zone", "a")], &["u-1", "u-2"]),
                "zone=a, and u-1, u-2",
            ),
            (
                matches(Some(0.5), &[("zone", "a")], &[]),
                "0.5 % of the instances with zone=a",
            ),
            (matches(None, &[], &[]), "nobody"),
        ] {
            assert_eq!(whose(&matches), text);
        }
    }
}
