//! What a process knows of the store's documents, and which of them are its own.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use catena_client::pb::KeyValueView;
use tracing::warn;

use super::{
    Format, GrayRule, Identity,
    key::{AppName, Kind},
    layer::{Document, Layer, Place},
    meta::Meta,
};

/// Whose documents a process gets.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// Layer and owner, weakest first.
    pub(crate) apps: Vec<(Layer, AppName)>,
    pub(crate) identity: Identity,
}

/// A document and what is known of it.
#[derive(Clone)]
struct Stored {
    bytes: Bytes,
    mod_revision: i64,
    /// Absent if the document was written by hand.
    meta: Option<Meta>,
}

/// Owner, by its place in the scope, and document.
type Name = (usize, String);

/// What the store says, as of a revision of a cluster.
#[derive(Clone, Default)]
pub(crate) struct Held {
    documents: BTreeMap<Name, Stored>,
    rules: BTreeMap<Name, BTreeMap<String, GrayRule>>,
    /// Documents that outlived the loss of the store's later revisions, until the store says something newer of them.
    kept: BTreeMap<Place, Document>,
    pub(crate) mark: Mark,
}

/// A revision of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Mark {
    pub(crate) cluster: u64,
    pub(crate) revision: i64,
}

impl Mark {
    /// Whether a store at `now` has forgotten what one at `self` knew: it was restored from a backup, wiped or replaced.
    pub(crate) fn is_lost_in(self, now: Self) -> bool {
        self.revision > 0 && (now.cluster != self.cluster || now.revision < self.revision)
    }
}

/// What stands at a key below one of the prefixes that are read.
pub(crate) struct Found<'a> {
    /// Owner, by its place in the scope.
    pub(crate) app: usize,
    pub(crate) kind: Kind,
    /// The key behind the prefix.
    pub(crate) rest: &'a str,
}

impl Held {
    /// Nothing yet but up to where was read.
    pub(crate) fn since(mark: Mark) -> Self {
        Self {
            mark,
            ..Self::default()
        }
    }

    /// Takes a key as it stands. The meta of a document must come after the document.
    pub(crate) fn put(&mut self, found: &Found<'_>, kv: &KeyValueView) {
        match found.kind {
            Kind::Document => self.put_document(found.app, found.rest, kv, None),
            Kind::Meta => {
                let name = (found.app, found.rest.to_owned());
                if let Some(stored) = self.documents.get_mut(&name) {
                    stored.meta = meta_of(kv, stored.mod_revision);
                }
            }
            Kind::Gray => self.put_rule(found, kv),
            Kind::History | Kind::Listener | Kind::Schema => {}
        }
    }

    /// Takes a document with its meta as of the same revision. Never one that is older than what is held.
    pub(crate) fn put_document(
        &mut self,
        app: usize,
        doc: &str,
        kv: &KeyValueView,
        meta: Option<&KeyValueView>,
    ) {
        let name = (app, doc.to_owned());
        let newer = self
            .documents
            .get(&name)
            .is_none_or(|had| had.mod_revision < kv.mod_revision);
        if newer {
            let stored = Stored {
                bytes: kv.value.clone(),
                mod_revision: kv.mod_revision,
                meta: meta.and_then(|meta| meta_of(meta, kv.mod_revision)),
            };
            self.documents.insert(name, stored);
        }
    }

    fn put_rule(&mut self, found: &Found<'_>, kv: &KeyValueView) {
        let Some((doc, rule)) = found.rest.split_once('/') else {
            return;
        };
        match serde_json::from_slice(&kv.value) {
            Ok(parsed) => {
                let rules = self.rules.entry((found.app, doc.to_owned())).or_default();
                rules.insert(rule.to_owned(), parsed);
            }
            // What it says stays out of the log; the last that could be read stays in force.
            Err(_quoting) => warn!(document = doc, rule, "a gray rule cannot be read"),
        }
    }

    /// A key was deleted at a revision.
    pub(crate) fn delete(&mut self, found: &Found<'_>, revision: i64) {
        match found.kind {
            Kind::Document => {
                let name = (found.app, found.rest.to_owned());
                let older = |had: &Stored| had.mod_revision < revision;
                if self.documents.get(&name).is_some_and(older) {
                    self.documents.remove(&name);
                }
            }
            Kind::Gray => {
                if let Some((doc, rule)) = found.rest.split_once('/') {
                    let name = (found.app, doc.to_owned());
                    if let Some(rules) = self.rules.get_mut(&name) {
                        rules.remove(rule);
                    }
                }
            }
            Kind::Meta | Kind::History | Kind::Listener | Kind::Schema => {}
        }
    }

    /// What is kept although the store does not know it gives way: the store has said something newer.
    pub(crate) fn release(&mut self, scope: &Scope, found: &Found<'_>) {
        let doc = found.rest.split('/').next().unwrap_or_default();
        if let Some((layer, app)) = scope.apps.get(found.app) {
            for layer in [*layer, Layer::Gray] {
                self.kept.remove(&place(layer, app, doc));
            }
        }
    }

    /// Whether a store with this meta has another history than the one that was followed: at a revision that is known, another
    /// publication stands than the one that is known. So a store is recognised that was set back and has gone on beyond.
    pub(crate) fn is_contradicted(&self, app: usize, doc: &str, meta: &KeyValueView) -> bool {
        let held = self.documents.get(&(app, doc.to_owned()));
        // One that was deleted by hand leaves its meta behind.
        let Some(held) = held.filter(|_| meta.mod_revision <= self.mark.revision) else {
            return false;
        };
        match &held.meta {
            Some(known) => meta_of(meta, held.mod_revision).as_ref() != Some(known),
            // Written by hand, after its last publication.
            None => held.mod_revision < meta.mod_revision,
        }
    }

    /// Whether the store that `now` was read from has lost what is held here.
    pub(crate) fn is_lost_in(&self, now: &Self) -> bool {
        let other = |(name, stored): (&Name, &Stored)| {
            let known = self.documents.get(name);
            stored.mod_revision <= self.mark.revision
                && known.is_some_and(|known| known.meta != stored.meta)
        };
        self.mark.is_lost_in(now.mark) || now.documents.iter().any(other)
    }

    /// After the store has lost what it knew: keeps those documents of `before` that it has no longer, or only as they were before.
    /// The time of publication decides, since versions are given again.
    pub(crate) fn keep(&mut self, scope: &Scope, before: Vec<Document>) {
        let now: BTreeMap<_, _> = self
            .documents(scope)
            .into_iter()
            .map(|document| (document.place.clone(), document.at_ms))
            .collect();
        let lost = before.into_iter().filter(|document| {
            now.get(&document.place)
                .is_none_or(|at_ms| *at_ms < document.at_ms)
        });
        self.kept = lost
            .map(|document| (document.place.clone(), document))
            .collect();
    }

    /// The documents of this process: those of its applications, except where a rule gives it another one.
    pub(crate) fn documents(&self, scope: &Scope) -> Vec<Document> {
        let mut documents = BTreeMap::new();
        for (name, stored) in &self.documents {
            let (index, doc) = name;
            let Some((layer, app)) = scope.apps.get(*index) else {
                continue;
            };
            let meta = stored.meta.as_ref();
            let format = meta.map(|meta| meta.format);
            let format = format
                .or_else(|| Format::of_file(doc))
                .unwrap_or(Format::Text);
            let version = meta.map_or(0, |meta| meta.version);
            let at_ms = meta.map_or(0, |meta| meta.at_ms);
            let document = match self.rule_for(name, &scope.identity) {
                Some(rule) => Document {
                    place: place(Layer::Gray, app, doc),
                    format: rule.format.unwrap_or(format),
                    bytes: Bytes::from(rule.content.clone()),
                    version,
                    at_ms,
                },
                None => Document {
                    place: place(*layer, app, doc),
                    format,
                    bytes: stored.bytes.clone(),
                    version,
                    at_ms,
                },
            };
            documents.insert(document.place.clone(), document);
        }
        for (place, kept) in &self.kept {
            documents.insert(place.clone(), kept.clone());
        }
        documents.into_values().collect()
    }

    fn rule_for(&self, name: &Name, identity: &Identity) -> Option<&GrayRule> {
        let rules = self.rules.get(name)?.iter();
        let matching = rules.filter(|(rule, gray)| gray.is_for(rule, identity));
        let first_of_highest = matching.rev().max_by_key(|(_, gray)| gray.priority);
        first_of_highest.map(|(_, gray)| gray)
    }
}

fn place(layer: Layer, app: &AppName, doc: &str) -> Place {
    let name: Arc<str> = format!("{}/{doc}", app.app()).into();
    Place { layer, name }
}

/// A meta, if it was written with the document.
fn meta_of(kv: &KeyValueView, document: i64) -> Option<Meta> {
    if kv.mod_revision != document {
        return None;
    }
    serde_json::from_slice(&kv.value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SHARED;

    fn scope(instance: &str) -> Scope {
        let app = |app| AppName::new("prod", app).unwrap();
        Scope {
            apps: vec![
                (Layer::Shared, app(SHARED)),
                (Layer::App, app("user")),
                (Layer::Profile, app("user@eu")),
            ],
            identity: Identity {
                instance: instance.to_owned(),
                ..Identity::default()
            },
        }
    }

    fn kv(value: &str, mod_revision: i64) -> KeyValueView {
        KeyValueView {
            value: value.to_owned().into(),
            mod_revision,
            ..KeyValueView::default()
        }
    }

    fn meta(version: u64, mod_revision: i64) -> KeyValueView {
        let text =
            format!(r#"{{"version":{version},"format":"toml","sha256":"","at_ms":{version}}}"#);
        kv(&text, mod_revision)
    }

    fn found(app: usize, kind: Kind, rest: &str) -> Found<'_> {
        Found { app, kind, rest }
    }

    fn said(held: &Held, instance: &str) -> Vec<(Layer, String, u64)> {
        let documents = held.documents(&scope(instance)).into_iter();
        let said = documents.map(|document| {
            let text = String::from_utf8(document.bytes.to_vec()).unwrap();
            (document.place.layer, text, document.version)
        });
        said.collect()
    }

    #[test]
    fn an_older_document_never_comes_after_a_newer() {
        let mut held = Held::default();
        held.put_document(1, "main", &kv("new", 9), Some(&meta(2, 9)));
        held.put_document(1, "main", &kv("old", 8), Some(&meta(1, 8)));
        assert_eq!(said(&held, "x"), [(Layer::App, "new".to_owned(), 2)]);
    }

    #[test]
    fn a_document_written_by_hand_has_no_version() {
        let mut held = Held::default();
        held.put_document(1, "main.toml", &kv("published", 8), Some(&meta(3, 8)));
        held.put_document(1, "main.toml", &kv("by hand", 9), Some(&meta(3, 8)));
        let documents = held.documents(&scope("x"));
        assert_eq!(
            (documents[0].version, documents[0].format),
            (0, Format::Toml)
        );
    }

    #[test]
    fn a_rule_s_document_takes_the_place_of_the_other() {
        let mut held = Held::default();
        held.put(&found(1, Kind::Document, "main"), &kv("for all", 5));
        held.put(&found(1, Kind::Meta, "main"), &meta(4, 5));
        let rule = |priority: i32, content: &str| {
            kv(
                &format!(
                    r#"{{"priority":{priority},"match":{{"ids":["x"]}},"content":"{content}"}}"#
                ),
                6,
            )
        };
        held.put(&found(1, Kind::Gray, "main/b"), &rule(1, "b"));
        held.put(&found(1, Kind::Gray, "main/c"), &rule(2, "c"));
        held.put(&found(1, Kind::Gray, "main/a"), &rule(1, "a"));
        held.put(&found(1, Kind::Gray, "main/z"), &kv("no json", 7));
        assert_eq!(said(&held, "x"), [(Layer::Gray, "c".to_owned(), 4)]);
        assert_eq!(said(&held, "y"), [(Layer::App, "for all".to_owned(), 4)]);
        held.delete(&found(1, Kind::Gray, "main/c"), 8);
        assert_eq!(said(&held, "x"), [(Layer::Gray, "a".to_owned(), 4)]);
        held.delete(&found(1, Kind::Document, "main"), 4);
        assert_eq!(
            said(&held, "y").len(),
            1,
            "what was deleted before is not what is held"
        );
        held.delete(&found(1, Kind::Document, "main"), 9);
        assert_eq!(said(&held, "x"), []);
    }

    #[test]
    fn what_a_restored_store_has_lost_is_kept_until_it_says_something_new() {
        let mut before = Held::default();
        before.put_document(1, "main", &kv("seven", 70), Some(&meta(7, 70)));
        before.put_document(1, "gone", &kv("one", 71), Some(&meta(1, 71)));
        let lost = before.documents(&scope("x"));
        let mut held = Held::default();
        held.put_document(1, "main", &kv("five", 50), Some(&meta(5, 50)));
        held.keep(&scope("x"), lost);
        let kept = [
            (Layer::App, "one".to_owned(), 1),
            (Layer::App, "seven".to_owned(), 7),
        ];
        assert_eq!(said(&held, "x"), kept);
        let main = found(1, Kind::Document, "main");
        held.put_document(1, "main", &kv("six", 51), Some(&meta(6, 51)));
        held.release(&scope("x"), &main);
        let six = [
            (Layer::App, "one".to_owned(), 1),
            (Layer::App, "six".to_owned(), 6),
        ];
        assert_eq!(said(&held, "x"), six);
    }

    #[test]
    fn a_store_that_went_another_way_is_recognised_by_its_documents() {
        let mark = |revision| Mark {
            cluster: 1,
            revision,
        };
        let mut held = Held::since(mark(9));
        held.put_document(1, "main", &kv("five", 9), Some(&meta(5, 9)));
        let mut same = held.clone();
        same.mark = mark(20);
        same.put_document(1, "main", &kv("six", 15), Some(&meta(6, 15)));
        assert!(!held.is_lost_in(&same));
        assert!(!held.is_contradicted(1, "main", &meta(5, 9)));
        assert!(
            !held.is_contradicted(1, "main", &meta(6, 15)),
            "it is still to come"
        );
        assert!(!held.is_contradicted(1, "deleted", &meta(6, 5)));
        for other_way in [(2, 7), (2, 9)] {
            let (version, revision) = other_way;
            let mut other = Held::since(mark(20));
            let meta = meta(version, revision);
            other.put_document(1, "main", &kv("two", revision), Some(&meta));
            assert!(held.is_lost_in(&other));
            assert!(held.is_contradicted(1, "main", &meta));
        }
    }

    #[test]
    fn a_store_is_lost_by_its_cluster_or_its_revision() {
        let mark = |cluster, revision| Mark { cluster, revision };
        assert!(!mark(0, 0).is_lost_in(mark(1, 1)));
        assert!(!mark(1, 5).is_lost_in(mark(1, 5)));
        assert!(mark(1, 5).is_lost_in(mark(1, 4)));
        assert!(mark(1, 5).is_lost_in(mark(2, 9)));
    }
}
