//! Files in memory.

use std::{
    collections::BTreeMap,
    io::{Error, ErrorKind, Result},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use catena_runtime::{Disk, File, OpenMode, Random, Runtime};

/// A disk without faults: what is wrong with its files is the input.
#[derive(Default)]
pub struct Memory {
    files: Mutex<BTreeMap<PathBuf, Arc<Bytes>>>,
}

/// A file.
#[derive(Default)]
pub struct Bytes(Mutex<Vec<u8>>);

impl Bytes {
    /// With this in it.
    pub fn new(bytes: &[u8]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(bytes.to_vec())))
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().expect("no holder of the lock panics")
    }
}

impl Memory {
    /// Everything on it.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = self.files();
        let contents = files.iter();
        contents
            .map(|(path, file)| (path.clone(), file.bytes().clone()))
            .collect()
    }

    /// Puts a file there.
    pub fn put(&self, path: PathBuf, bytes: &[u8]) {
        self.files().insert(path, Bytes::new(bytes));
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<Bytes>>> {
        self.files.lock().expect("no holder of the lock panics")
    }
}

impl Disk for Memory {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        let mut files = self.files();
        match (files.get(path).cloned(), mode) {
            (Some(_), OpenMode::CreateNew) => Err(ErrorKind::AlreadyExists.into()),
            (Some(file), _) => Ok(file),
            (None, OpenMode::Read | OpenMode::Write) => Err(ErrorKind::NotFound.into()),
            (None, OpenMode::CreateNew | OpenMode::Create) => {
                let file = Arc::<Bytes>::default();
                files.insert(path.to_owned(), file.clone());
                Ok(file)
            }
        }
    }

    fn create_dir_all(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> Result<Vec<String>> {
        let files = self.files();
        let inside = files.keys().filter(|file| file.parent() == Some(path));
        let names = inside.filter_map(|file| file.file_name());
        Ok(names
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.files().keys().any(|file| file.starts_with(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let removed = self.files().remove(path);
        removed.map(drop).ok_or(ErrorKind::NotFound.into())
    }

    fn remove_dir_all(&self, path: &Path) -> Result<()> {
        self.files().retain(|file, _| !file.starts_with(path));
        Ok(())
    }

    fn sync_dir(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    fn real_path(&self, _path: &Path) -> Option<PathBuf> {
        None
    }
}

impl File for Bytes {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let bytes = self.bytes();
        let offset = usize::try_from(offset).map_err(Error::other)?;
        let end = offset.checked_add(buf.len());
        let found = end.and_then(|end| bytes.get(offset..end));
        buf.copy_from_slice(found.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> Result<()> {
        let mut bytes = self.bytes();
        let offset = usize::try_from(offset).map_err(Error::other)?;
        let end = offset + data.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(data);
        Ok(())
    }

    fn len(&self) -> Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.bytes()
            .resize(usize::try_from(len).map_err(Error::other)?, 0);
        Ok(())
    }

    fn allocate(&self, len: u64) -> Result<()> {
        match len > File::len(self)? {
            true => self.set_len(len),
            false => Ok(()),
        }
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn try_lock(&self) -> Result<bool> {
        Ok(true)
    }
}

/// Counts, so that the same input always does the same.
#[derive(Default)]
struct Counter(AtomicU64);

impl Random for Counter {
    fn next_u64(&self) -> u64 {
        let n = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        n.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// The world with this disk.
pub fn runtime(disk: &Arc<Memory>) -> Runtime {
    Runtime {
        disk: disk.clone(),
        random: Arc::new(Counter::default()),
        ..Runtime::system()
    }
}
