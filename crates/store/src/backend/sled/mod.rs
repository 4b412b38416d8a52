//! sled 0.34.7: a log-structured tree; chosen by `--storage-engine sled`.
//!
//! All buckets lie in one tree, keys behind a byte for the bucket, so that a batch is atomic. Three things are added to sled:
//! - durability: its `flush()` uses `sync_file_range`, which neither flushes the device nor makes the file's size durable, so each
//!   one is followed by syncs of its files and their directories;
//! - views: see [`preimages`];
//! - detection of damage: sled takes a damaged end of its log for a torn one and drops it, silently. So each batch is counted
//!   inside and outside of sled, and opening counts what is there: see [`usage`];
//! - generations: sled goes on opening files by path (its blobs), so a directory in use cannot be renamed. Each set of files has a
//!   numbered directory, and the file `CURRENT` names the one in use.
//!
//! Its cost against redb, measured: seven times the CPU for a put, eight times the time to open, a file that grows with what was
//! written rather than with what is stored, until it is defragmented, and memory beyond its cache setting. It runs only on a real
//! disk.

mod files;
mod preimages;
mod usage;
mod view;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use catena_runtime::Disk;
use parking_lot::{Mutex, RwLock};

use self::{
    files::{CURRENT, Generation, SyncedFiles, current_generation},
    preimages::{Held, MEMORY_BYTES_MAX, Preimages},
    usage::{Usage, Written, pair_bytes},
    view::Snapshot,
};
use super::{Bucket, Change, Sizes, View, directory, rewrite::Files};
use crate::error::Fatal;

/// Memory for pages. sled takes more than this: its accounting leaves out what its garbage collection still holds.
const CACHE_BYTES: u64 = 64 << 20;

/// How often and after which time a lock is tried again.
const LOCK_TRIES: u32 = 50;
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// sled's directory within ours.
const DIR: &str = "sled";

/// The tree of all pairs, and the one where preimages go that memory has no room for.
const DATA: &str = "data";
const SPILLED: &str = "preimages";

/// A key behind its bucket's byte.
type Key = Bytes;

/// An open sled.
pub(super) struct Sled {
    data: sled::Tree,
    preimages: RwLock<Preimages>,
    files: Mutex<SyncedFiles>,
    usage: Mutex<Usage>,
    written: Written,
    physical: AtomicU64,
    database: sled::Db,
    /// Dropped last: it removes the files, if they were replaced, when sled has closed them.
    generation: Generation,
}

/// A batch as it is written.
struct Prepared {
    /// What its keys hold, each once.
    held: Vec<(Key, Held)>,
    batch: sled::Batch,
    /// What is stored when it is written.
    usage: Usage,
}

impl Sled {
    /// Opens the generation in use, or makes the first.
    pub(super) fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self, Fatal> {
        let home = dir.join(DIR);
        let current = home.join(CURRENT);
        if !disk.exists(&current) {
            disk.create_dir_all(&home)
                .map_err(|error| directory::io_error(&home, error))?;
            directory::sync_dir_of(disk.as_ref(), &home)?;
            let started = |name: &str| name.parse::<u64>().is_ok();
            directory::sweep(disk.as_ref(), &home, started, |path| {
                disk.remove_dir_all(path)
            })?;
            let new = Self::open_generation(disk, &home, 0)?;
            new.promote()?;
            return Ok(new);
        }
        let generation = current_generation(disk.as_ref(), &home)?;
        // First the lock, then the sweep: what another process is writing is not left over.
        let open = Self::open_generation(disk, &home, generation)?;
        let left_over = |name: &str| name.parse().is_ok_and(|number: u64| number != generation);
        directory::sweep(disk.as_ref(), &home, left_over, |path| {
            disk.remove_dir_all(path)
        })?;
        Ok(open)
    }

    /// Makes an empty generation in `dir` that no open finds until it is promoted.
    pub(super) fn create(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self, Fatal> {
        let home = dir.join(DIR);
        disk.create_dir_all(&home)
            .map_err(|error| directory::io_error(&home, error))?;
        let names = disk
            .list(&home)
            .map_err(|error| directory::io_error(&home, error))?;
        let numbers = names.iter().filter_map(|name| name.parse::<u64>().ok());
        let mut number = numbers.max().map_or(0, |newest| newest + 1);
        // Another one may be made at the same time.
        while !Written::create(disk.as_ref(), &home.join(number.to_string()))? {
            number += 1;
        }
        Self::open_generation(disk, &home, number)
    }

    fn open_generation(disk: &Arc<dyn Disk>, home: &Path, generation: u64) -> Result<Self, Fatal> {
        let dir = home.join(generation.to_string());
        let Some(real) = disk.real_path(&dir) else {
            return Err(Fatal::Engine("sled runs only on a real disk".to_owned()));
        };
        disk.create_dir_all(&dir)
            .map_err(|error| directory::io_error(&dir, error))?;
        let database = open_files(&real).map_err(|error| opening(&dir, error))?;
        let data = database.open_tree(DATA).map_err(fatal)?;
        let written = Written::open(disk.as_ref(), &dir)?;
        let usage = usage::verify(&data, &written, &dir)?;
        database.drop_tree(SPILLED).map_err(fatal)?;
        let spilled = database.open_tree(SPILLED).map_err(fatal)?;
        let open = Self {
            data,
            preimages: RwLock::new(Preimages::new(spilled, MEMORY_BYTES_MAX)),
            files: Mutex::new(SyncedFiles::open(disk, dir)?),
            usage: Mutex::new(usage),
            written,
            physical: AtomicU64::new(0),
            database,
            generation: Generation {
                disk: Arc::clone(disk),
                home: home.to_owned(),
                number: generation,
            },
        };
        open.flush()?;
        Ok(open)
    }

    /// Makes all that is written durable, which sled's own flush does not.
    fn flush(&self) -> Result<(), Fatal> {
        self.database.flush().map_err(fatal)?;
        self.files.lock().sync(self.generation.disk.as_ref())?;
        self.physical.store(
            self.database.size_on_disk().map_err(fatal)?,
            Ordering::Relaxed,
        );
        Ok(())
    }

    /// Makes ready to write a batch.
    fn prepare(&self, changes: &[Change]) -> Result<Prepared, Fatal> {
        let mut seen: BTreeMap<Key, (Held, u64)> = BTreeMap::new();
        let mut batch = sled::Batch::default();
        let mut usage = *self.usage.lock();
        usage.batches += 1;
        for change in changes {
            let (bucket, key) = change.key();
            let key = key_of(bucket, key);
            let taken = match change {
                Change::Put(_, key_in_bucket, value) => {
                    batch.insert(&key[..], &value[..]);
                    pair_bytes(key_in_bucket, value)
                }
                Change::Delete(..) => {
                    batch.remove(&key[..]);
                    0
                }
            };
            let stored = match seen.entry(key) {
                Entry::Occupied(entry) => &mut entry.into_mut().1,
                Entry::Vacant(entry) => {
                    let held = self.data.get(entry.key()).map_err(fatal)?;
                    let held = held.map(|value| Bytes::copy_from_slice(&value));
                    let freed = held
                        .as_ref()
                        .map_or(0, |held| pair_bytes(&entry.key()[1..], held));
                    &mut entry.insert((held, freed)).1
                }
            };
            usage.bytes = usage.bytes + taken - std::mem::replace(stored, taken);
        }
        batch.insert(&usage::KEY, &usage.encode());
        let held = seen
            .into_iter()
            .map(|(key, (held, _))| (key, held))
            .collect();
        Ok(Prepared { held, batch, usage })
    }
}

impl Files for Sled {
    fn write(&self, changes: &[Change]) -> Result<(), Fatal> {
        let Prepared { held, batch, usage } = self.prepare(changes)?;
        self.preimages.write().leave(held)?;
        self.data.apply_batch(batch).map_err(fatal)?;
        self.flush()?;
        self.written.note(usage)?;
        *self.usage.lock() = usage;
        self.preimages.write().publish()
    }

    fn view(self: &Arc<Self>) -> Result<Box<dyn View>, Fatal> {
        Ok(Box::new(Snapshot::new(Arc::clone(self))))
    }

    fn sizes(&self) -> Sizes {
        let physical = self.physical.load(Ordering::Relaxed);
        Sizes {
            physical,
            in_use: self.usage.lock().bytes.min(physical),
        }
    }

    fn create_beside(&self) -> Result<Self, Fatal> {
        let Generation { disk, home, .. } = &self.generation;
        Self::create(disk, home.parent().unwrap_or(home))
    }

    fn promote(&self) -> Result<(), Fatal> {
        let Generation { disk, home, number } = &self.generation;
        let current = home.join(CURRENT);
        directory::sync_dir_of(disk.as_ref(), &current)?;
        directory::write_small(disk.as_ref(), &current, &format!("{number}\n"))
    }
}

fn key_of(bucket: Bucket, key: &[u8]) -> Key {
    let mut out = Vec::with_capacity(key.len() + 1);
    out.push(bucket.tag());
    out.extend_from_slice(key);
    out.into()
}

/// Opens sled's files. Its threads let go of a lock a moment after it is closed, so one that is held is tried again.
fn open_files(dir: &Path) -> Result<sled::Db, sled::Error> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    for _ in 0..LOCK_TRIES {
        match config.open() {
            Err(error) if is_locked(&error) => std::thread::sleep(LOCK_WAIT),
            opened => return opened,
        }
    }
    config.open()
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("acquire lock"))
}

/// An error at opening, by what the operator can do about it.
fn opening(dir: &Path, error: sled::Error) -> Fatal {
    match error {
        error if is_locked(&error) => Fatal::Locked {
            path: dir.to_owned(),
        },
        sled::Error::Io(error) => directory::io_error(dir, error),
        error => damaged(dir, &error.to_string()),
    }
}

fn damaged(dir: &Path, what: &str) -> Fatal {
    Fatal::Damaged {
        path: dir.to_owned(),
        what: what.to_owned(),
    }
}

fn fatal(error: sled::Error) -> Fatal {
    Fatal::Engine(format!("sled: {error}"))
}
