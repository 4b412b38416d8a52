//! redb: one file of checksummed pages, copy on write; the default.
//!
//! One table per bucket, and one more with [`Usage`]. Each batch is one transaction with one fsync: redb's one-phase commit, where
//! the checksums tell after a crash whether the last commit is whole. So a start after a crash verifies every page, and a clean
//! start does the same, since otherwise redb would trust (or panic on) pages that the disk has damaged. That is one more reading of
//! the file beside the one that builds the key index, about two seconds per GiB on a busy machine.
//!
//! redb's own `compact()` is not used: it refuses to run beside a reader.

mod disk;
mod unsynced;
mod view;

use std::{
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ::redb::{
    Database, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction,
};
use catena_runtime::{Disk, File, OpenMode};
use parking_lot::Mutex;

use self::{disk::Storage, view::Snapshot};
use super::{Bucket, Change, Sizes, View, directory, rewrite::Files};
use crate::error::Fatal;

/// Memory for pages. The key index answers most questions without the engine, and the records that are asked for again are kept apart
/// from it; so this serves the pages of the batch being written, and behind it stands the system's page cache.
const CACHE_BYTES: usize = 8 << 20;

/// redb's file within the directory.
const FILE: &str = "db.redb";

/// What redb keeps beside each pair: the ends of key and value.
const PAIR_OVERHEAD_BYTES: u64 = 8;

/// Unit in which the system counts what a file takes.
const BLOCK_BYTES: u64 = 512;

/// The table of [`Usage`], and its only key.
const USAGE: TableDefinition<'static, &str, (u64, u64)> = TableDefinition::new("usage");
const USAGE_KEY: &str = "usage";

/// An open file of redb.
pub(super) struct Redb {
    disk: Arc<dyn Disk>,
    /// Where it lies now.
    path: Mutex<PathBuf>,
    /// Whether the next open would find it.
    in_place: AtomicBool,
    usage: Mutex<Usage>,
    physical: AtomicU64,
    file: Arc<dyn File>,
    database: Database,
}

/// What is stored, counted as it is written because counting it in the tree would walk the tree.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    pairs: u64,
    bytes: u64,
}

impl Redb {
    /// Opens the file in `dir`, or makes it.
    pub(super) fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self, Fatal> {
        let path = dir.join(FILE);
        if !disk.exists(&path) {
            sweep(disk, dir)?;
            // Under another name at first: a crash leaves no file that is half made.
            let new = Self::create(disk, dir)?;
            new.promote()?;
            return Ok(new);
        }
        // First the lock, then the sweep: what another process is writing is not left over.
        let file = disk.open(&path, OpenMode::Write);
        let file = file.map_err(|error| directory::io_error(&path, error))?;
        let file = unsynced::settled(disk, &path, file)?;
        let open = Self::open_file(disk, path, file, true)?;
        sweep(disk, dir)?;
        Ok(open)
    }

    /// Makes a file in `dir` that no open finds until it is promoted.
    pub(super) fn create(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self, Fatal> {
        let (file, path) = create_new(disk, dir)?;
        Self::open_file(disk, path, file, false)
    }

    fn open_file(
        disk: &Arc<dyn Disk>,
        path: PathBuf,
        file: Arc<dyn File>,
        in_place: bool,
    ) -> Result<Self, Fatal> {
        let is_ours = file
            .try_lock()
            .map_err(|error| directory::io_error(&path, error))?;
        if !is_ours {
            return Err(locked(&path));
        }
        let len = file
            .len()
            .map_err(|error| directory::io_error(&path, error))?;
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(len > 0)
            .create_with_backend(Storage::new(
                Arc::clone(&file),
                Arc::clone(disk),
                path.parent().unwrap_or(&path).to_owned(),
            ))
            .map_err(|error| fatal(&path, error))?;
        let usage = prepare(&database).map_err(|error| fatal(&path, error))?;
        let open = Self {
            disk: Arc::clone(disk),
            path: Mutex::new(path),
            in_place: AtomicBool::new(in_place),
            usage: Mutex::new(usage),
            physical: AtomicU64::new(0),
            file,
            database,
        };
        open.measure()?;
        Ok(open)
    }

    /// Notes what the file takes on disk. redb doubles its file when it grows, so most of its length may be a hole; a disk that does
    /// not tell has none.
    fn measure(&self) -> Result<(), Fatal> {
        let path = self.path.lock();
        let allocated = match self.disk.real_path(&path) {
            Some(path) => std::fs::metadata(path).map(|file| file.blocks() * BLOCK_BYTES),
            None => self.file.len(),
        };
        let allocated = allocated.map_err(|error| directory::io_error(&path, error))?;
        self.physical.store(allocated, Ordering::Relaxed);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.path.lock().clone()
    }

    fn fatal(&self, error: impl Into<::redb::Error>) -> Fatal {
        fatal(&self.path.lock(), error)
    }

    fn commit(&self, changes: &[Change]) -> Result<Usage, ::redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let mut usage = *self.usage.lock();
        {
            let mut tables = Tables::new(&transaction);
            for change in changes {
                tables.make(change, &mut usage)?;
            }
        }
        record(&transaction, usage)?;
        transaction.commit()?;
        Ok(usage)
    }
}

impl Files for Redb {
    fn write(&self, changes: &[Change]) -> Result<(), Fatal> {
        let usage = self.commit(changes).map_err(|error| self.fatal(error))?;
        *self.usage.lock() = usage;
        self.measure()
    }

    fn view(self: &Arc<Self>) -> Result<Box<dyn View>, Fatal> {
        let transaction = self
            .database
            .begin_read()
            .map_err(|error| self.fatal(error))?;
        Ok(Box::new(Snapshot::new(Arc::clone(self), transaction)))
    }

    fn sizes(&self) -> Sizes {
        let usage = *self.usage.lock();
        let physical = self.physical.load(Ordering::Relaxed);
        Sizes {
            physical,
            in_use: physical.min(usage.bytes + usage.pairs * PAIR_OVERHEAD_BYTES),
        }
    }

    fn create_beside(&self) -> Result<Self, Fatal> {
        let path = self.path();
        Self::create(&self.disk, path.parent().unwrap_or(&path))
    }

    fn promote(&self) -> Result<(), Fatal> {
        let mut path = self.path.lock();
        let place = path.with_file_name(FILE);
        directory::replace(self.disk.as_ref(), &path, &place)?;
        *path = place;
        self.in_place.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Redb {
    fn drop(&mut self) {
        if !self.in_place.load(Ordering::Relaxed) {
            // The next open tries again.
            let _left_for_next_open = self.disk.remove(&self.path());
        }
    }
}

/// The tables that a batch touches, each opened once.
struct Tables<'a> {
    transaction: &'a WriteTransaction,
    open: [Option<Table<'a, &'static [u8], &'static [u8]>>; Bucket::ALL.len()],
}

impl<'a> Tables<'a> {
    fn new(transaction: &'a WriteTransaction) -> Self {
        Self {
            transaction,
            open: Default::default(),
        }
    }

    fn make(&mut self, change: &Change, usage: &mut Usage) -> Result<(), ::redb::Error> {
        let (bucket, key) = change.key();
        let slot = &mut self.open[usize::from(bucket.tag())];
        let table = match slot {
            Some(table) => table,
            None => slot.insert(self.transaction.open_table(table(bucket))?),
        };
        let old = match change {
            Change::Put(_, _, value) => {
                usage.pairs += 1;
                usage.bytes += change.bytes() as u64;
                table.insert(&key[..], &value[..])?
            }
            Change::Delete(..) => table.remove(&key[..])?,
        };
        if let Some(old) = old {
            usage.pairs -= 1;
            usage.bytes -= (key.len() + old.value().len()) as u64;
        }
        Ok(())
    }
}

/// Removes files that were being written.
fn sweep(disk: &Arc<dyn Disk>, dir: &Path) -> Result<(), Fatal> {
    let left_over = |name: &str| name.starts_with(FILE) && name.ends_with(".new");
    directory::sweep(disk.as_ref(), dir, left_over, |path| disk.remove(path))
}

/// The table of a bucket.
fn table(bucket: Bucket) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(bucket.name())
}

/// Makes the tables of a new file, reads the usage of an old one.
fn prepare(database: &Database) -> Result<Usage, ::redb::Error> {
    let transaction = database.begin_write()?;
    let recorded = transaction
        .open_table(USAGE)?
        .get(USAGE_KEY)?
        .map(|found| found.value());
    if let Some((pairs, bytes)) = recorded {
        transaction.abort()?;
        return Ok(Usage { pairs, bytes });
    }
    for bucket in Bucket::ALL {
        transaction.open_table(table(bucket))?;
    }
    let usage = Usage::default();
    record(&transaction, usage)?;
    transaction.commit()?;
    Ok(usage)
}

fn record(transaction: &WriteTransaction, usage: Usage) -> Result<(), ::redb::Error> {
    let mut table = transaction.open_table(USAGE)?;
    table.insert(USAGE_KEY, (usage.pairs, usage.bytes))?;
    Ok(())
}

/// An empty file in `dir` that no open finds, and its path.
fn create_new(disk: &Arc<dyn Disk>, dir: &Path) -> Result<(Arc<dyn File>, PathBuf), Fatal> {
    let mut number = 0;
    loop {
        let path = dir.join(format!("{FILE}.{number}.new"));
        match disk.open(&path, OpenMode::CreateNew) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(directory::io_error(&path, error)),
        }
    }
}

/// An error of redb by what the operator can do about it.
fn fatal(path: &Path, error: impl Into<::redb::Error>) -> Fatal {
    use ::redb::Error;
    let damaged = |what: String| Fatal::Damaged {
        path: path.to_owned(),
        what,
    };
    match error.into() {
        Error::Corrupted(what) => damaged(what),
        Error::Io(error)
            if matches!(
                error.kind(),
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof
            ) =>
        {
            damaged(error.to_string())
        }
        Error::Io(error) => directory::io_error(path, error),
        Error::DatabaseAlreadyOpen => locked(path),
        Error::PreviousIo => Fatal::Engine(format!(
            "{}: an earlier access to the file failed, start the member again",
            path.display()
        )),
        error @ (Error::TableDoesNotExist(_)
        | Error::TableTypeMismatch { .. }
        | Error::TypeDefinitionChanged { .. }
        | Error::TableIsMultimap(_)
        | Error::TableIsNotMultimap(_)
        | Error::UpgradeRequired(_)
        | Error::RepairAborted) => damaged(error.to_string()),
        error => Fatal::Engine(format!("{}: {error}", path.display())),
    }
}

fn locked(path: &Path) -> Fatal {
    Fatal::Locked {
        path: path.to_owned(),
    }
}
