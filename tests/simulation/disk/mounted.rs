//! The disk in the hands of one process.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use catena_runtime::{BoxFuture, Disk, File, OpenMode};
use parking_lot::Mutex;

use super::{
    Drive, Naming, Platter, apply,
    content::{Change, Content},
};
use crate::world::{self, Event, covered};

fn dead() -> io::Error {
    io::Error::other("the process that opened this has crashed")
}

/// A disk in the hands of one process.
pub(super) struct Mounted {
    pub(super) drive: Arc<Drive>,
    pub(super) generation: u64,
}

impl Mounted {
    fn with<T>(&self, act: impl FnOnce(&mut Platter) -> io::Result<T>) -> io::Result<T> {
        let mut platter = self.drive.platter.lock();
        if platter.generation != self.generation {
            return Err(dead());
        }
        act(&mut platter)
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

fn removal(path: &Path) -> Naming {
    Naming {
        path: path.to_owned(),
        node: None,
    }
}

impl Disk for Mounted {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let content = self.with(|platter| {
            let found = platter.current.get(path).cloned();
            match (found, mode) {
                (Some(None), _) => Err(io::ErrorKind::IsADirectory.into()),
                (Some(Some(_)), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
                (Some(Some(content)), _) => Ok(content),
                (None, OpenMode::Read | OpenMode::Write) => Err(not_found(path)),
                (None, OpenMode::CreateNew | OpenMode::Create) => {
                    let parent = path.parent().unwrap_or(Path::new(""));
                    if !platter.current.contains_key(parent) {
                        return Err(not_found(parent));
                    }
                    let content = Arc::new(Mutex::new(Content::default()));
                    platter.rename_atomically(vec![Naming {
                        path: path.to_owned(),
                        node: Some(Some(content.clone())),
                    }]);
                    Ok(content)
                }
            }
        })?;
        Ok(Arc::new(OpenFile {
            drive: self.drive.clone(),
            path: path.to_owned(),
            generation: self.generation,
            writable: mode != OpenMode::Read,
            holds_lock: Mutex::new(false),
            content,
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.with(|platter| {
            let mut above: Vec<_> = path.ancestors().collect();
            above.reverse();
            for dir in above {
                match platter.current.get(dir) {
                    Some(None) => {}
                    Some(Some(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                    None => platter.rename_atomically(vec![Naming {
                        path: dir.to_owned(),
                        node: Some(None),
                    }]),
                }
            }
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.with(|platter| {
            if !matches!(platter.current.get(path), Some(None)) {
                return Err(not_found(path));
            }
            let names = platter
                .current
                .keys()
                .filter(|name| name.parent() == Some(path));
            let names = names.filter_map(|name| name.file_name());
            Ok(names
                .map(|name| name.to_string_lossy().into_owned())
                .collect())
        })
    }

    fn exists(&self, path: &Path) -> bool {
        self.with(|platter| Ok(platter.current.contains_key(path)))
            .unwrap_or(false)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // A log gives a file its name when it moves on to its next segment.
        if to.extension().is_some_and(|extension| extension == "wal") {
            covered(Event::LogRotated);
        }
        self.with(|platter| {
            let moved = platter
                .current
                .iter()
                .filter(|(path, _)| path.starts_with(from));
            let moved: Vec<_> = moved
                .map(|(path, node)| (path.clone(), node.clone()))
                .collect();
            if moved.is_empty() {
                return Err(not_found(from));
            }
            let mut namings: Vec<_> = moved.iter().map(|(path, _)| removal(path)).collect();
            namings.extend(moved.into_iter().map(|(path, node)| {
                let below = path.strip_prefix(from).unwrap_or(Path::new(""));
                let path = if below.as_os_str().is_empty() {
                    to.to_owned()
                } else {
                    to.join(below)
                };
                Naming {
                    path,
                    node: Some(node),
                }
            }));
            platter.rename_atomically(namings);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with(|platter| match platter.current.get(path) {
            Some(Some(_)) => {
                platter.rename_atomically(vec![removal(path)]);
                Ok(())
            }
            Some(None) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(not_found(path)),
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.with(|platter| {
            let inside = platter.current.keys().filter(|name| name.starts_with(path));
            // One by one, so that a crash may keep some.
            let inside: Vec<_> = inside.rev().map(|name| vec![removal(name)]).collect();
            if inside.is_empty() {
                return Err(not_found(path));
            }
            for namings in inside {
                platter.rename_atomically(namings);
            }
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.with(|platter| {
            let concerns = |namings: &Vec<Naming>| {
                let mut namings = namings.iter();
                namings.any(|naming| naming.path.parent() == Some(path) || naming.path == path)
            };
            // A journal commits in order: with the last change of this directory go all that came before it.
            let Some(last) = platter.pending.iter().rposition(concerns) else {
                return Ok(());
            };
            for namings in platter.pending.drain(..=last) {
                apply(&namings, &mut platter.durable);
            }
            Ok(())
        })
    }

    fn real_path(&self, _path: &Path) -> Option<PathBuf> {
        None
    }

    fn sync_delay(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.drive.clone().delay())
    }
}

struct OpenFile {
    drive: Arc<Drive>,
    path: PathBuf,
    generation: u64,
    writable: bool,
    holds_lock: Mutex<bool>,
    content: Arc<Mutex<Content>>,
}

impl OpenFile {
    fn check(&self) -> io::Result<()> {
        match self.drive.platter.lock().generation == self.generation {
            true => Ok(()),
            false => Err(dead()),
        }
    }

    fn check_writable(&self) -> io::Result<()> {
        self.check()?;
        match self.writable {
            true => Ok(()),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    /// How much of a growth to `len` there is room for.
    fn room(&self, len: usize) -> usize {
        let platter = self.drive.platter.lock();
        let Some(capacity) = platter.capacity else {
            return len;
        };
        let free = capacity.saturating_sub(platter.used());
        len.min(self.content.lock().current.len() + free)
    }

    fn full(&self) -> io::Error {
        world::tell(|| format!("{} disk: full, {:?}", self.drive.name, self.path));
        covered(Event::DiskFull);
        io::ErrorKind::StorageFull.into()
    }
}

impl File for OpenFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.check()?;
        let content = self.content.lock();
        let offset = offset as usize;
        let bytes = content.current.get(offset..offset + buf.len());
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let offset = offset as usize;
        let fits = self.room(offset + data.len()).saturating_sub(offset);
        let (fitting, refused) = data.split_at(fits.min(data.len()));
        self.content.lock().change(Change::Write {
            offset,
            data: fitting.to_vec(),
        });
        match refused.is_empty() {
            true => Ok(()),
            false => Err(self.full()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.check()?;
        Ok(self.content.lock().current.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        // A longer file is a hole and takes no room.
        self.content.lock().change(Change::SetLen(len as usize));
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let len = len as usize;
        let room = self.room(len);
        let mut content = self.content.lock();
        if content.current.len() < room {
            content.change(Change::SetLen(room));
        }
        match room < len {
            false => Ok(()),
            true => Err(self.full()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.check()?;
        let left = &mut self.drive.platter.lock().syncs_until_failure;
        let fails = *left == Some(0);
        *left = left.and_then(|left| left.checked_sub(1));
        let mut content = self.content.lock();
        let (name, path) = (&self.drive.name, &self.path);
        world::tell(|| match fails {
            false => format!("{name} disk: sync {path:?}, {}", content.told()),
            true => format!("{name} disk: sync of {path:?} fails, {}", content.told()),
        });
        if fails {
            covered(Event::SyncFailed);
            content.lose();
            return Err(io::Error::other("input/output error"));
        }
        content.sync();
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.check()?;
        let mut holds_lock = self.holds_lock.lock();
        let mut content = self.content.lock();
        if content.locked && !*holds_lock {
            return Ok(false);
        }
        content.locked = true;
        *holds_lock = true;
        Ok(true)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // A crash has released it already, and another process may hold it by now.
        if *self.holds_lock.lock() && self.check().is_ok() {
            self.content.lock().locked = false;
        }
    }
}
