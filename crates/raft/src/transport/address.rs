//! Where the members are.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::RwLock;

/// Peer URLs by member id. Looked up when a frame is sent, so that a member that moves is found; cheap to clone, one for all.
#[derive(Clone, Debug, Default)]
pub struct AddressBook {
    urls: Arc<RwLock<BTreeMap<u64, Vec<String>>>>,
}

impl AddressBook {
    /// The URLs of a member; empty if it is unknown.
    pub fn urls(&self, id: u64) -> Vec<String> {
        self.urls.read().get(&id).cloned().unwrap_or_default()
    }

    /// All members known.
    pub fn ids(&self) -> Vec<u64> {
        self.urls.read().keys().copied().collect()
    }

    /// Notes a member that is not in the book yet: one whose addition is not applied here.
    pub fn learn(&self, id: u64, urls: &[String]) {
        if !urls.is_empty() && !self.urls.read().contains_key(&id) {
            self.urls.write().entry(id).or_insert_with(|| urls.to_vec());
        }
    }

    /// Replaces the book.
    pub fn replace(&self, members: impl IntoIterator<Item = (u64, Vec<String>)>) {
        *self.urls.write() = members.into_iter().collect();
    }
}
