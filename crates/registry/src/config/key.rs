//! Where in the store what of the configuration stands.
//!
//! | key | value |
//! |---|---|
//! | `/config/v1/{ns}/{app}/{doc}` | the document, byte for byte, so that every tool can read it |
//! | `/config-meta/v1/{ns}/{app}/{doc}` | its version and format, who wrote it when and why |
//! | `/config-history/v1/{ns}/{app}/{doc}/{version:020}` | meta and content of a version |
//! | `/config-gray/v1/{ns}/{app}/{doc}/{rule}` | a document for some instances, and which |
//! | `/config-listener/v1/{ns}/{app}/{instance}` | what an instance made of its documents; on a lease |
//! | `/config-schema/v1/{ns}/{app}/{doc}` | a JSON schema |
//!
//! A name is checked where it enters, and a prefix ends in `/`, so no name reaches out of its place.

use std::fmt;

use super::{Error, Result};

/// The application whose documents all others of the namespace get too.
pub const SHARED: &str = "_shared";

/// How much of a name an error shows: one more than is allowed.
const NAME_CHARS_SHOWN: usize = 129;

/// An application in a namespace: the owner of documents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppName {
    ns: String,
    app: String,
}

impl AppName {
    /// Checks the names. The application is a name, `_shared`, or `app@profile`.
    pub fn new(ns: &str, app: &str) -> Result<Self> {
        check("namespace", ns)?;
        match app.split_once('@') {
            _ if app == SHARED => {}
            Some((app, profile)) => {
                check("application", app)?;
                check("profile", profile)?;
            }
            None => check("application", app)?,
        }
        Ok(Self {
            ns: ns.to_owned(),
            app: app.to_owned(),
        })
    }

    /// The namespace.
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// The application.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// One of its documents.
    pub fn document(&self, doc: &str) -> Result<DocumentName> {
        check("document", doc)?;
        Ok(DocumentName {
            app: self.clone(),
            doc: doc.to_owned(),
        })
    }

    /// What the keys of a kind begin with.
    pub(crate) fn prefix(&self, kind: Kind) -> String {
        format!("{}/v1/{}/{}/", kind.root(), self.ns, self.app)
    }

    pub(crate) fn listener(&self, instance: &str) -> Result<String> {
        check("instance", instance)?;
        Ok(format!("{}{instance}", self.prefix(Kind::Listener)))
    }
}

/// What stands at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Document,
    Meta,
    History,
    Gray,
    Listener,
    Schema,
}

impl Kind {
    fn root(self) -> &'static str {
        match self {
            Self::Document => "/config",
            Self::Meta => "/config-meta",
            Self::History => "/config-history",
            Self::Gray => "/config-gray",
            Self::Listener => "/config-listener",
            Self::Schema => "/config-schema",
        }
    }
}

/// A document of an application.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentName {
    app: AppName,
    doc: String,
}

impl DocumentName {
    /// Checks the names.
    pub fn new(ns: &str, app: &str, doc: &str) -> Result<Self> {
        AppName::new(ns, app)?.document(doc)
    }

    /// Whose document it is.
    pub fn app(&self) -> &AppName {
        &self.app
    }

    /// The document's own name.
    pub fn doc(&self) -> &str {
        &self.doc
    }

    /// The key of a kind that has one for each document.
    pub(crate) fn key(&self, kind: Kind) -> String {
        format!("{}{}", self.app.prefix(kind), self.doc)
    }

    /// What the keys of a kind begin with that has several for each document.
    pub(crate) fn prefix(&self, kind: Kind) -> String {
        format!("{}/", self.key(kind))
    }

    /// Twenty digits, so that the order of the keys is that of the versions.
    pub(crate) fn history(&self, version: u64) -> String {
        format!("{}{version:020}", self.prefix(Kind::History))
    }

    pub(crate) fn gray(&self, rule: &str) -> Result<String> {
        check("rule", rule)?;
        Ok(format!("{}{rule}", self.prefix(Kind::Gray)))
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.app.ns, self.app.app, self.doc)
    }
}

/// Checks a name, by the grammar of all of the registry's names.
pub(crate) fn check(what: &'static str, name: &str) -> Result<()> {
    crate::name::check(what, name).map_err(|_same| Error::BadName {
        what,
        // A name can be as long as a request; what is wrong with it shows in the beginning or in the length.
        name: name.chars().take(NAME_CHARS_SHOWN).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_written() {
        let name = DocumentName::new("prod", "user@eu", "main.toml").unwrap();
        assert_eq!(
            name.key(Kind::Document),
            "/config/v1/prod/user@eu/main.toml"
        );
        assert_eq!(
            name.key(Kind::Meta),
            "/config-meta/v1/prod/user@eu/main.toml"
        );
        assert_eq!(
            name.key(Kind::Schema),
            "/config-schema/v1/prod/user@eu/main.toml"
        );
        assert_eq!(
            name.history(7),
            "/config-history/v1/prod/user@eu/main.toml/00000000000000000007"
        );
        assert_eq!(
            name.gray("tenth").unwrap(),
            "/config-gray/v1/prod/user@eu/main.toml/tenth"
        );
        assert_eq!(
            name.app().listener("i-1").unwrap(),
            "/config-listener/v1/prod/user@eu/i-1"
        );
        assert_eq!(name.to_string(), "prod/user@eu/main.toml");
    }

    #[test]
    fn names_cannot_leave_their_place() {
        for app in ["_shared", "user", "user@prod", "user.rpc"] {
            assert!(AppName::new("prod", app).is_ok(), "{app}");
        }
        for app in [
            "",
            "_other",
            "user@",
            "@prod",
            "user@a@b",
            "user/x",
            "..",
            "User",
            "_shared@a",
        ] {
            assert!(AppName::new("prod", app).is_err(), "{app}");
        }
        let app = AppName::new("prod", "user").unwrap();
        for doc in ["", "a/b", "../x", "-a", "a\0"] {
            assert!(app.document(doc).is_err(), "{doc}");
            assert!(app.listener(doc).is_err(), "{doc}");
        }
    }
}
