//! How a change becomes what holds: parse → merge → resolve → deserialize → validate → swap → tell, in this order and as a whole.
//!
//! ```text
//! a source's documents ──► newest ──┐ try all of them ─── ok ──► good ──► tree, watched values, then observers
//!                                   └ refused: try the good ones and only what just changed
//!                                         └ refused: everything stays; the documents that changed are reported as rejected
//! ```
//!
//! [`Applier`] is synchronous and knows neither sources nor time: whoever calls it decides the order. A document that was rejected
//! does not hold up the others, nor is it forgotten: it is tried again with every later change, since that may be what it waited for.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use serde_json::Value;

use super::{
    Error, Result,
    held::Mark,
    layer::{Document, Documents, Layer, Parsed, Place},
    resolve::resolve,
    seal::Opener,
    tree,
    watched::{Slot, Staged},
};

/// Watched values of one process.
const SLOTS_MAX: usize = 4096;

/// What holds.
pub(crate) struct Snapshot {
    pub(crate) documents: Documents,
    pub(crate) tree: Value,
}

/// Whose documents a batch holds: all others of the same source are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// One layer that is not the store's.
    Layer(Layer),
    Store,
}

impl Source {
    fn owns(self, place: &Place) -> bool {
        match self {
            Self::Layer(layer) => place.layer == layer,
            Self::Store => place.layer.is_stored(),
        }
    }
}

/// What sources say.
pub(crate) enum News {
    /// All the documents of a source, after each change; if it is the store, as of a revision.
    Said(Source, Vec<Document>, Mark),
    /// A source cannot be read; what it said last holds.
    Silent(Source, Error),
}

/// What became of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentState {
    /// The version that this is said of.
    pub version: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a version of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Applied,
    /// It was refused: the version before still holds.
    Rejected(Error),
    /// It holds, but what it changes is only read at the start.
    RestartRequired,
}

/// States by document, named by layer and name.
pub type Report = BTreeMap<(Layer, Arc<str>), DocumentState>;

type Tell = Box<dyn FnOnce() + Send>;

/// The state behind a configuration.
pub(crate) struct Applier {
    /// What the sources say.
    newest: BTreeMap<Place, Arc<Document>>,
    /// What each of them came to when it was refused last.
    refusals: BTreeMap<Place, Error>,
    current: Arc<ArcSwap<Snapshot>>,
    slots: Vec<Weak<dyn Slot>>,
    opener: Opener,
    /// What takes the place of the store's documents where those are refused, the best first, until this run has proved its own.
    fallbacks: Vec<Vec<Arc<Document>>>,
    /// Whether somebody has said, or shown by taking a change, that what holds works.
    proved: bool,
    /// Paths that are read at the start only, and what stood there then.
    restart: Vec<(String, Option<Value>)>,
    /// Observers that are still to be told, in order; as many as slots at most, for each change is told before the next is applied.
    untold: VecDeque<Tell>,
}

/// A change that nobody refuses.
struct Ready {
    snapshot: Snapshot,
    staged: Vec<Staged>,
}

impl Applier {
    /// Begins with what all sources say. If that is refused, the first of the fallbacks that is not takes the place of what the store
    /// says.
    pub(crate) fn start(
        documents: Vec<Document>,
        fallbacks: Vec<Vec<Arc<Document>>>,
        restart: Vec<String>,
        opener: Opener,
    ) -> Result<Self> {
        let newest: BTreeMap<_, _> = documents
            .into_iter()
            .map(|document| (document.place.clone(), Arc::new(document)))
            .collect();
        let empty = Snapshot {
            documents: Documents::default(),
            tree: Value::Null,
        };
        let mut applier = Self {
            refusals: BTreeMap::new(),
            current: Arc::new(ArcSwap::from_pointee(empty)),
            slots: Vec::new(),
            opener,
            fallbacks,
            proved: false,
            restart: restart.into_iter().map(|path| (path, None)).collect(),
            untold: VecDeque::new(),
            newest,
        };
        match applier.attempt(&applier.newest) {
            Ok(ready) => applier.accept(ready),
            Err(error) => {
                let ready = applier.with_fallback().next();
                applier.accept(ready.ok_or_else(|| error.clone())?);
                applier.refuse_stored(&error);
            }
        }
        applier.note_start();
        Ok(applier)
    }

    /// What holds now is what is read at the start.
    fn note_start(&mut self) {
        let tree = &self.current.load().tree;
        for (path, at_start) in &mut self.restart {
            *at_start = tree::lookup(tree, path).cloned();
        }
    }

    pub(crate) fn current(&self) -> Arc<ArcSwap<Snapshot>> {
        self.current.clone()
    }

    /// Takes all that a source says now. Whether anything new holds; if not, and something is refused, the refusals say why.
    pub(crate) fn apply(&mut self, source: Source, documents: Vec<Document>) -> bool {
        let changed = self.take(source, documents);
        if changed.is_empty() {
            return false;
        }
        for place in &changed {
            self.refusals.remove(place);
        }
        let error = match self.attempt(&self.newest) {
            Ok(ready) => {
                self.refusals.clear();
                // Where nobody watches yet, nobody has agreed.
                if self.slots.iter().any(|slot| slot.strong_count() > 0) {
                    self.confirm();
                }
                self.accept(ready);
                return true;
            }
            Err(error) => error,
        };
        let mut fewer = self.good_documents();
        for place in &changed {
            match self.newest.get(place) {
                Some(document) => fewer.insert(place.clone(), document.clone()),
                None => fewer.remove(place),
            };
        }
        match self.attempt(&fewer) {
            Ok(ready) => {
                self.accept(ready);
                true
            }
            Err(own) => {
                // An error of its own says more than one that another rejected document is to blame for.
                let error = if fewer == self.newest { error } else { own };
                for place in changed {
                    self.refusals.insert(place, error.clone());
                }
                false
            }
        }
    }

    /// Adds a value that is watched from now on. `open` makes it from a tree; if what the store says now does not satisfy it, what the
    /// store said in the last run may.
    pub(crate) fn watch<W>(
        &mut self,
        open: impl Fn(&Value) -> Result<(W, Weak<dyn Slot>)>,
    ) -> Result<W> {
        self.slots.retain(|slot| slot.strong_count() > 0);
        if self.slots.len() >= SLOTS_MAX {
            return Err(Error::TooMuch {
                what: "watched values",
                actual: self.slots.len() + 1,
                limit: SLOTS_MAX,
            });
        }
        let opened = match open(&self.current.load().tree) {
            Ok(opened) => opened,
            Err(error) => {
                let found = self.with_fallback().find_map(|ready| {
                    let opened = open(&ready.snapshot.tree).ok()?;
                    Some((ready, opened))
                });
                let (ready, opened) = found.ok_or_else(|| error.clone())?;
                self.accept(ready);
                self.note_start();
                self.refuse_stored(&error);
                opened
            }
        };
        self.slots.push(opened.1);
        Ok(opened.0)
    }

    /// The process works with what holds: from now on that is the last good configuration.
    pub(crate) fn confirm(&mut self) {
        self.fallbacks.clear();
        self.proved = true;
    }

    /// The store's documents that hold, once they are proved.
    pub(crate) fn proved(&self) -> Option<Vec<Arc<Document>>> {
        if !self.proved {
            return None;
        }
        let current = self.current.load();
        let stored = current.documents.0.iter();
        let stored = stored.filter(|(place, _)| place.layer.is_stored());
        Some(stored.map(|(_, parsed)| parsed.document.clone()).collect())
    }

    /// What is still to be told, in order. Not to be called while this is locked: observers may come back here.
    pub(crate) fn take_untold(&mut self) -> VecDeque<Tell> {
        std::mem::take(&mut self.untold)
    }

    /// What became of each document.
    pub(crate) fn report(&self) -> Report {
        let current = self.current.load();
        let good = &current.documents.0;
        let places: BTreeSet<_> = good.keys().chain(self.newest.keys()).collect();
        let state = |place: &Place| {
            let held = good.get(place);
            let newest = self.newest.get(place);
            let version = newest.map_or(0, |document| document.version);
            let outcome = match self.refusals.get(place) {
                Some(error) => Outcome::Rejected(error.clone()),
                None if held.is_some_and(|held| self.waits_for_restart(&held.tree)) => {
                    Outcome::RestartRequired
                }
                None => Outcome::Applied,
            };
            DocumentState { version, outcome }
        };
        places
            .into_iter()
            .map(|place| ((place.layer, place.name.clone()), state(place)))
            .collect()
    }

    /// Ends all that wait for changes.
    pub(crate) fn close(&mut self) {
        for slot in self.slots.drain(..).filter_map(|slot| slot.upgrade()) {
            slot.close();
        }
    }

    fn waits_for_restart(&self, document: &Value) -> bool {
        let tree = &self.current.load().tree;
        self.restart.iter().any(|(path, at_start)| {
            tree::lookup(document, path).is_some() && tree::lookup(tree, path) != at_start.as_ref()
        })
    }

    /// Puts a batch into what the sources say; the places where something changed.
    fn take(&mut self, source: Source, documents: Vec<Document>) -> BTreeSet<Place> {
        let mut gone: BTreeSet<_> = self
            .newest
            .keys()
            .filter(|place| source.owns(place))
            .cloned()
            .collect();
        let mut changed = BTreeSet::new();
        for document in documents {
            let place = document.place.clone();
            gone.remove(&place);
            if self.newest.get(&place).is_none_or(|had| **had != document) {
                self.newest.insert(place.clone(), Arc::new(document));
                changed.insert(place);
            }
        }
        for place in gone {
            self.newest.remove(&place);
            changed.insert(place);
        }
        changed
    }

    /// What the given documents come to, unless somebody refuses it.
    fn attempt(&self, documents: &BTreeMap<Place, Arc<Document>>) -> Result<Ready> {
        let current = self.current.load();
        let mut parsed = Documents::default();
        for (place, document) in documents {
            let known = current.documents.0.get(place);
            let known = known.filter(|known| Arc::ptr_eq(&known.document, document));
            let read = match known {
                Some(known) => known.clone(),
                None => Parsed::new(document.clone(), &self.opener)?,
            };
            parsed.0.insert(place.clone(), read);
        }
        let tree = resolve(&parsed.merged())?;
        let mut staged = Vec::new();
        for slot in self.slots.iter().filter_map(Weak::upgrade) {
            staged.extend(slot.stage(&current.tree, &tree)?);
        }
        Ok(Ready {
            snapshot: Snapshot {
                documents: parsed,
                tree,
            },
            staged,
        })
    }

    fn accept(&mut self, ready: Ready) {
        self.current.store(Arc::new(ready.snapshot));
        for staged in ready.staged {
            (staged.store)();
            self.untold.push_back(staged.tell);
        }
    }

    /// The fallbacks that nobody refuses, each in place of what the store says.
    fn with_fallback(&self) -> impl Iterator<Item = Ready> {
        self.fallbacks.iter().filter_map(|stored| {
            let others = self.newest.iter();
            let others = others.filter(|(place, _)| !place.layer.is_stored());
            let others = others.map(|(place, document)| (place.clone(), document.clone()));
            let stored = stored.iter();
            let stored = stored.map(|document| (document.place.clone(), document.clone()));
            self.attempt(&others.chain(stored).collect()).ok()
        })
    }

    /// What the store says beyond what holds is refused for this reason.
    fn refuse_stored(&mut self, error: &Error) {
        let good = self.good_documents();
        for (place, document) in &self.newest {
            if place.layer.is_stored() && good.get(place) != Some(document) {
                self.refusals.insert(place.clone(), error.clone());
            }
        }
    }

    fn good_documents(&self) -> BTreeMap<Place, Arc<Document>> {
        let current = self.current.load();
        let good = current.documents.0.iter();
        good.map(|(place, parsed)| (place.clone(), parsed.document.clone()))
            .collect()
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
