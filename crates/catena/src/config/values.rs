//! What was given for which flag, and where.

use std::{collections::BTreeMap, time::Duration};

use catena_server::Url;

use super::{
    flags::{self, Flag, Treatment},
    notice::Notice,
    syntax,
};

/// A value and the place that it comes from.
#[derive(Clone, Debug)]
struct Given {
    text: String,
    /// As its author wrote it: `--name`, `ETCD_NAME`, or a key of the configuration file.
    origin: String,
}

/// The values of all flags: those given, else the defaults of the table. Every text is checked when it is set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    given: BTreeMap<&'static str, Given>,
    /// Whether they come from a configuration file, to which one rule of etcd's does not apply.
    pub(crate) from_file: bool,
    /// What is to be logged once logging is set up.
    pub(crate) notices: Vec<Notice>,
}

impl Values {
    /// Sets a flag, under its current name; the last call wins. The error says what is wrong with `text`.
    pub(crate) fn set(
        &mut self,
        flag: &'static Flag,
        text: &str,
        origin: &str,
    ) -> Result<(), String> {
        let target = match flag.treatment {
            Treatment::Renamed(name) => {
                self.notices.push(Notice::Renamed {
                    flag: flag.name,
                    now: format!("--{name}"),
                });
                flags::find(name).expect("a flag is renamed to one in the table")
            }
            Treatment::Gate(name) => {
                let now = format!("--feature-gates={name}=true");
                self.notices.push(Notice::Renamed {
                    flag: flag.name,
                    now,
                });
                flag
            }
            Treatment::Gone => {
                self.notices.push(Notice::Gone { flag: flag.name });
                flag
            }
            Treatment::Built | Treatment::Tuning(_) | Treatment::Refused(_) => flag,
        };
        target.kind.check(text)?;
        let (text, origin) = (text.to_owned(), origin.to_owned());
        self.given.insert(target.name, Given { text, origin });
        Ok(())
    }

    /// Whether the flag was given, be it with its default.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Where the flag was given.
    pub(crate) fn origin(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(|given| given.origin.as_str())
    }

    /// The value as text.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.given.get(name) {
            Some(given) => &given.text,
            None => {
                flags::find(name)
                    .expect("callers name flags of the table")
                    .default
            }
        }
    }

    /// Whether the flag has a value that differs from its default in meaning, not only in writing.
    pub(crate) fn differs(&self, flag: &Flag) -> bool {
        let text = self.text(flag.name);
        match flag.kind {
            syntax::Kind::Bool => syntax::bool_of(text) != syntax::bool_of(flag.default),
            syntax::Kind::Int => syntax::int_of(text) != syntax::int_of(flag.default),
            syntax::Kind::Uint | syntax::Kind::Uint32 => {
                syntax::uint_of(text) != syntax::uint_of(flag.default)
            }
            syntax::Kind::Duration => syntax::nanos_of(text) != syntax::nanos_of(flag.default),
            syntax::Kind::Text
            | syntax::Kind::Urls
            | syntax::Kind::UrlsOrNone
            | syntax::Kind::OneOf(_)
            | syntax::Kind::Gates
            | syntax::Kind::Ignored => text != flag.default,
        }
    }

    /// What was given, as a command line.
    #[cfg(fuzzing)]
    pub(crate) fn as_flags(&self) -> Vec<String> {
        let given = self.given.iter();
        given
            .map(|(name, given)| format!("--{name}={}", given.text))
            .collect()
    }

    /// The value of a boolean flag.
    pub(crate) fn bool(&self, name: &str) -> bool {
        syntax::bool_of(self.text(name)).expect("checked when it was set")
    }

    /// The value of a signed number.
    pub(crate) fn int(&self, name: &str) -> i64 {
        syntax::int_of(self.text(name)).expect("checked when it was set")
    }

    /// The value of an unsigned number.
    pub(crate) fn uint(&self, name: &str) -> u64 {
        syntax::uint_of(self.text(name)).expect("checked when it was set")
    }

    /// The value of a duration; below zero is zero.
    pub(crate) fn duration(&self, name: &str) -> Duration {
        syntax::duration_of(self.text(name)).expect("checked when it was set")
    }

    /// The value of a list of URLs.
    pub(crate) fn urls(&self, name: &str) -> Vec<Url> {
        match self.text(name) {
            "" => Vec::new(),
            text => syntax::urls_of(text).expect("checked when it was set"),
        }
    }
}
