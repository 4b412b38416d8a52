//! Which data directory each member had when it was first met.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use catena_runtime::Disk;
use catena_store::codec;
use parking_lot::Mutex;

use crate::{
    Remedy, StartError,
    identity::{read_small, replace},
};

/// The incarnations of the other members, kept in a small file.
pub(super) struct Incarnations {
    disk: Arc<dyn Disk>,
    file: PathBuf,
    known: Mutex<BTreeMap<u64, u64>>,
}

/// What is known of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing.
    New,
    /// The same directory as before.
    Same,
    /// Another directory: it has lost its data.
    Other,
}

impl Incarnations {
    /// Reads the file, if there is one.
    pub(super) fn open(disk: Arc<dyn Disk>, file: PathBuf) -> Result<Self, StartError> {
        let known = match disk.exists(&file) {
            false => BTreeMap::new(),
            true => codec::decode(&read_small(disk.as_ref(), &file)?).map_err(|error| {
                StartError::DataDir {
                    path: file.clone(),
                    what: format!(
                        "the record of the other members' data directories is damaged ({error}); if none of them has lost its \
                         data, remove the file, it is made again: `rm '{}'`",
                        file.display()
                    ),
                    remedy: Remedy::AsSaid,
                }
            })?,
        };
        Ok(Self {
            disk,
            file,
            known: Mutex::new(known),
        })
    }

    /// Compares with what is known.
    pub(super) fn check(&self, id: u64, incarnation: u64) -> Known {
        match self.known.lock().get(&id) {
            None => Known::New,
            Some(known) if *known == incarnation => Known::Same,
            Some(_) => Known::Other,
        }
    }

    /// Whether a data directory of the member is known.
    pub(super) fn has_met(&self, id: u64) -> bool {
        self.known.lock().contains_key(&id)
    }

    /// Notes a member that is met for the first time, durably. Blocks, seldom and briefly.
    pub(super) fn learn(&self, id: u64, incarnation: u64) -> Result<(), StartError> {
        let mut known = self.known.lock();
        known.entry(id).or_insert(incarnation);
        replace(self.disk.as_ref(), &self.file, &codec::encode(&*known))
    }
}
