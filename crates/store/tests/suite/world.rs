//! A store over an engine in memory, and what a member does with it.

use std::sync::Arc;

use bytes::Bytes;
use catena_store::{
    Command, Entry, Error, Options, Outcome, Position, Reader, Request, Response, Sealed, Store,
};

use crate::memory::Memory;

pub(crate) struct World {
    pub(crate) backend: Arc<Memory>,
    pub(crate) store: Store,
    pub(crate) options: Options,
    /// Index of the next entry.
    pub(crate) next_index: u64,
    sealed: Vec<Sealed>,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let backend = Arc::new(Memory::default());
        Self {
            store: Store::open(backend.clone(), options.clone()).unwrap(),
            backend,
            options,
            next_index: 0,
            sealed: Vec::new(),
        }
    }

    pub(crate) fn reader(&self) -> Reader {
        self.store.reader()
    }

    pub(crate) fn apply_all(
        &mut self,
        requests: Vec<Request>,
        membership: Option<Bytes>,
    ) -> Vec<Outcome> {
        let position = Position {
            term: 1,
            index: self.next_index,
        };
        self.next_index += 1;
        let commands = requests.into_iter().map(Command::internal).collect();
        let entry = Entry {
            position,
            membership,
            commands,
        };
        self.store.apply(entry).unwrap()
    }

    pub(crate) fn apply(&mut self, request: Request) -> Result<Response, Error> {
        self.apply_all(vec![request], None).remove(0).result
    }

    /// Seals what was applied.
    pub(crate) fn seal(&mut self) -> bool {
        let sealed = self.store.seal();
        let is_some = sealed.is_some();
        self.sealed.extend(sealed);
        is_some
    }

    /// Commits the oldest sealed batch.
    pub(crate) fn commit(&mut self) -> bool {
        if self.sealed.is_empty() {
            return false;
        }
        let sealed = self.sealed.remove(0);
        self.store.committer().commit(sealed).unwrap();
        true
    }

    /// Brings everything to the engine.
    pub(crate) fn flush(&mut self) {
        self.seal();
        while self.commit() {}
    }

    /// Finishes all compactions.
    pub(crate) fn maintain(&mut self) {
        while self.store.maintain().unwrap() {}
    }

    /// Opens the store again over what the engine has.
    pub(crate) fn restart(&mut self) {
        self.sealed.clear();
        self.store = Store::open(self.backend.clone(), self.options.clone()).unwrap();
        self.next_index = self
            .store
            .applied()
            .map_or(0, |position| position.index + 1);
    }

    /// Installs the snapshot of another world, as a follower does that was away too long.
    pub(crate) fn install(&mut self, from: &World) {
        self.backend = Arc::new(Memory::copy_of(&from.reader().snapshot()));
        let prepared = Store::prepare(self.backend.clone()).unwrap();
        self.store.install(prepared);
        self.next_index = from.next_index;
    }
}
