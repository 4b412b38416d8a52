//! A disk that forgets.
//!
//! Each file has three faces: `current`, what a reader sees; `durable`, what lies on the platter; and the operations between the
//! two, in order, until a sync applies them. Names have the same three faces, and directories are synced on their own. A
//! [`Crash`] decides which of the operations reach the platter; what is then on it becomes current.
//!
//! A failed sync drops the operations but leaves `current` as it is, as Linux does: a later sync succeeds, a reader sees the data,
//! and no platter has it.

mod content;
mod mounted;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use catena_runtime::Disk;
use parking_lot::Mutex;

use self::{content::Content, mounted::Mounted};
use crate::world::{self, Chance, Event, covered};

/// From here on a sync is called slow.
const SLOW: Duration = Duration::from_millis(50);

/// How often a sync on a disk that has stalled tries again.
const RETRY: Duration = Duration::from_millis(10);

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process dies, the system lives: nothing is lost.
    Kill,
    /// The power fails: of each file's operations since its last sync a random prefix is kept, the last write torn at a random byte.
    Power,
    /// The power fails and the disk had reordered: each sector written since the last sync is kept or not.
    Reordered,
}

/// How long a sync takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) sync_micros_max: u64,
    /// One sync in so many takes `spike`.
    pub(crate) spike_once_in: u64,
    pub(crate) spike: Duration,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            sync_micros_max: 1000,
            spike_once_in: 1000,
            spike: Duration::from_millis(100),
        }
    }
}

type Node = Option<Arc<Mutex<Content>>>;

/// A name that appears, with what it names (a directory has no content), or goes.
struct Naming {
    path: PathBuf,
    node: Option<Node>,
}

type Names = BTreeMap<PathBuf, Node>;

#[derive(Default)]
struct Platter {
    current: Names,
    durable: Names,
    pending: Vec<Vec<Naming>>,
    /// Counts processes: handles of an older one give errors.
    generation: u64,
    latency: Latency,
    stalled: bool,
    capacity: Option<usize>,
    syncs_until_failure: Option<u64>,
}

impl Platter {
    /// Does all of it or, after a crash, nothing.
    fn rename_atomically(&mut self, namings: Vec<Naming>) {
        apply(&namings, &mut self.current);
        self.pending.push(namings);
    }

    fn used(&self) -> usize {
        let files = self.current.values().flatten();
        files.map(|file| file.lock().current.len()).sum()
    }
}

fn apply(namings: &[Naming], names: &mut Names) {
    for naming in namings {
        match &naming.node {
            Some(node) => names.insert(naming.path.clone(), node.clone()),
            None => names.remove(&naming.path),
        };
    }
}

/// The platter and what may go wrong with it.
pub(crate) struct Drive {
    name: String,
    platter: Mutex<Platter>,
    chance: Chance,
}

impl Drive {
    /// An empty one, and the name that it has in traces.
    pub(crate) fn new(name: &str, chance: Chance) -> Self {
        Self {
            name: name.to_owned(),
            platter: Mutex::new(Platter::default()),
            chance,
        }
    }

    /// The disk, as the process that now starts sees it.
    pub(crate) fn mount(self: &Arc<Self>) -> Arc<dyn Disk> {
        Arc::new(Mounted {
            drive: self.clone(),
            generation: self.platter.lock().generation,
        })
    }

    /// Ends the process that uses the disk.
    pub(crate) fn crash(&self, crash: Crash) {
        let platter = &mut *self.platter.lock();
        platter.generation += 1;
        platter.syncs_until_failure = None;
        world::tell(|| format!("{} disk: {crash:?}", self.name));
        if crash != Crash::Kill {
            let keep = self.chance.below(platter.pending.len() as u64 + 1) as usize;
            if keep < platter.pending.len() {
                covered(Event::NamesLost);
            }
            for namings in platter.pending.drain(..).take(keep) {
                apply(&namings, &mut platter.durable);
            }
            platter.current.clone_from(&platter.durable);
        }
        for file in platter.current.values().flatten() {
            file.lock().crash(crash, &self.chance);
        }
    }

    pub(crate) fn set_latency(&self, latency: Latency) {
        self.platter.lock().latency = latency;
    }

    /// Lets no sync end, or lets them end again.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.platter.lock().stalled = stalled;
    }

    /// Leaves room for `bytes` more, or removes the bound.
    pub(crate) fn set_room(&self, bytes: Option<usize>) {
        let mut platter = self.platter.lock();
        platter.capacity = bytes.map(|bytes| platter.used() + bytes);
    }

    /// Lets the sync of a file fail after `syncs` more.
    pub(crate) fn fail_sync_after(&self, syncs: u64) {
        self.platter.lock().syncs_until_failure = Some(syncs);
    }

    /// The files and their sizes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, usize)> {
        let platter = self.platter.lock();
        let files = platter.current.iter().filter_map(|(path, node)| {
            let content = node.as_ref()?;
            Some((path.clone(), content.lock().current.len()))
        });
        files.collect()
    }

    /// Flips a bit that was durable.
    pub(crate) fn flip(&self, path: &Path, byte: usize, bit: u8) {
        let platter = self.platter.lock();
        let content = platter.current.get(path).and_then(Option::as_ref);
        let mut content = content.expect("the file exists").lock();
        content.durable[byte] ^= 1 << bit;
        content.current[byte] ^= 1 << bit;
        world::tell(|| {
            format!(
                "{} disk: bit {bit} of byte {byte} of {path:?} rots",
                self.name
            )
        });
        covered(Event::Rot);
    }

    /// Flips a bit of some file below a directory, where it was durable; gives the file, if there is one that holds anything.
    pub(crate) fn rot(&self, dir: &Path) -> Option<PathBuf> {
        let durable = |(path, node): (&PathBuf, &Node)| {
            let bytes = node.as_ref()?.lock().durable.len();
            (bytes > 0 && path.starts_with(dir)).then(|| (path.clone(), bytes))
        };
        let platter = self.platter.lock();
        let files: Vec<_> = platter.current.iter().filter_map(durable).collect();
        drop(platter);
        if files.is_empty() {
            return None;
        }
        let (path, bytes) = self.chance.pick(&files);
        let byte = self.chance.below(*bytes as u64) as usize;
        self.flip(path, byte, self.chance.below(8) as u8);
        Some(path.clone())
    }

    /// Whether all that was written below a directory is on the platter.
    pub(crate) fn is_clean(&self, dir: &Path) -> bool {
        let platter = self.platter.lock();
        let mut files = platter
            .current
            .iter()
            .filter(|(path, _)| path.starts_with(dir));
        platter.pending.is_empty()
            && files.all(|(_, node)| node.as_ref().is_none_or(|file| file.lock().is_clean()))
    }

    fn latency(&self) -> Duration {
        let latency = self.platter.lock().latency;
        let time = match self.chance.once_in(latency.spike_once_in) {
            true => latency.spike,
            false => self.chance.micros(latency.sync_micros_max),
        };
        if time >= SLOW {
            covered(Event::SlowSync);
        }
        time
    }

    /// Passes when a sync that begins now may end.
    async fn delay(self: Arc<Self>) {
        world::sleep(self.latency()).await;
        let stalled = || self.platter.lock().stalled;
        if stalled() {
            covered(Event::DiskStalled);
        }
        while stalled() {
            world::sleep(RETRY).await;
        }
    }
}

impl Drive {
    /// Another disk with what would be left of one directory if all power was lost now.
    pub(crate) fn image(&self, dir: &Path) -> Self {
        let platter = self.platter.lock();
        let kept = |path: &Path| path.starts_with(dir) || dir.starts_with(path);
        let durable = platter.durable.iter().filter(|(path, _)| kept(path));
        let names: Names = durable
            .map(|(path, node)| {
                let node = node.as_ref().map(|file| file.lock().image());
                (path.clone(), node.map(|image| Arc::new(Mutex::new(image))))
            })
            .collect();
        Self {
            name: format!("image of {}", self.name),
            platter: Mutex::new(Platter {
                current: names.clone(),
                durable: names,
                ..Platter::default()
            }),
            chance: Chance::still(),
        }
    }
}
