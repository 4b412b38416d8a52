//! What was known last, for a start without the store.
//!
//! One file of one process: two that shared it would forget each other's services. It is written whole to a file beside it, synced and
//! renamed, so that it is the old or the new one whenever the process or the machine dies. It is read once, at start; what it says
//! counts only until the store is read.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Snapshot;
use crate::{Error, Instance, Result, ServiceName, ServiceSettings, layout};

/// The version of the file.
const VERSION: u32 = 1;

/// Changes come in bursts; the file follows them this much later.
const DELAY: Duration = Duration::from_secs(1);

/// The largest file that is read: some hundred thousand instances.
const FILE_BYTES_MAX: u64 = 256 << 20;

#[derive(Serialize, Deserialize)]
struct Content {
    v: u32,
    services: BTreeMap<String, Service>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Service {
    settings: ServiceSettings,
    instances: Vec<serde_json::Value>,
}

/// The file.
#[derive(Debug)]
pub(crate) struct Cold {
    path: PathBuf,
    /// Held as long as the process uses the file.
    _lock: File,
    /// As it was at start.
    known: Mutex<BTreeMap<String, Service>>,
    changed: Notify,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} instances", self.instances.len())
    }
}

impl Cold {
    /// Takes the file for this process and reads it. A file that is not there is empty; one that cannot be read is as good as none.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let error = |reason: String| Error::ColdFile {
            path: path.display().to_string(),
            reason,
        };
        let lock = File::options()
            .create(true)
            .append(true)
            .open(beside(path, "lock"))
            .map_err(|cause| error(cause.to_string()))?;
        lock.try_lock()
            .map_err(|_held| error("another process uses it".to_owned()))?;
        let known = match read(path) {
            Ok(known) => known,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(cause) => {
                warn!(path = %path.display(), %cause, "last known instances cannot be read");
                BTreeMap::new()
            }
        };
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
            known: Mutex::new(known),
            changed: Notify::new(),
        })
    }

    /// What was known of a service.
    pub(super) fn recall(&self, name: &ServiceName) -> Option<(Vec<Instance>, ServiceSettings)> {
        let service = self.known.lock().get(name.as_str())?.clone();
        let instances = service.instances.into_iter();
        let mut instances: Vec<_> = instances
            .filter_map(|json| layout::from_json(name, json))
            .collect();
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        instances.dedup_by(|a, b| a.id == b.id);
        Some((instances, service.settings))
    }

    /// Notes what is known of a service now.
    pub(super) fn note(&self, name: &ServiceName, snapshot: &Snapshot) {
        let instances = snapshot.instances.iter();
        let service = Service {
            settings: (*snapshot.settings).clone(),
            instances: instances
                .map(|instance| layout::to_json(instance))
                .collect(),
        };
        self.known.lock().insert(name.to_string(), service);
        self.changed.notify_one();
    }

    /// Writes the file after changes, until the registry closes; then once more.
    pub(crate) async fn run(self: Arc<Self>, closing: CancellationToken) {
        loop {
            tokio::select! {
                () = closing.cancelled() => break,
                () = self.changed.notified() => {}
            }
            tokio::select! {
                () = closing.cancelled() => break,
                () = sleep(DELAY) => self.clone().write().await,
            }
        }
        self.write().await;
    }

    async fn write(self: Arc<Self>) {
        let content = Content {
            v: VERSION,
            services: self.known.lock().clone(),
        };
        let path = self.path.clone();
        let written = spawn_blocking(move || write(&path, &content)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => {
                warn!(path = %self.path.display(), %cause, "last known instances cannot be written");
            }
            Err(panic) => warn!(%panic, "writing last known instances failed"),
        }
    }
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

fn read(path: &Path) -> io::Result<BTreeMap<String, Service>> {
    let length = fs::metadata(path)?.len();
    if length > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is {length} bytes long")));
    }
    let content: Content = serde_json::from_slice(&fs::read(path)?)?;
    if content.v != VERSION {
        return Err(io::Error::other(format!("it is of version {}", content.v)));
    }
    Ok(content.services)
}

fn write(path: &Path, content: &Content) -> io::Result<()> {
    let new = beside(path, "new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(content)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The rename itself is durable once its directory is.
    let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> ServiceName {
        ServiceName::new("user").unwrap()
    }

    fn snapshot() -> Snapshot {
        let instance = Instance::new(user(), "1", vec!["grpc://h:1".parse().unwrap()]);
        Snapshot {
            instances: Arc::new([Arc::new(instance)]),
            ..Snapshot::unknown()
        }
    }

    #[tokio::test]
    async fn what_was_known_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cold.json");
        let cold = Arc::new(Cold::open(&path).unwrap());
        assert!(cold.recall(&user()).is_none());
        cold.note(&user(), &snapshot());
        let closing = CancellationToken::new();
        closing.cancel();
        cold.run(closing).await;
        let (instances, settings) = Cold::open(&path).unwrap().recall(&user()).unwrap();
        assert_eq!(instances, [(*snapshot().instances[0]).clone()]);
        assert_eq!(settings, ServiceSettings::default());
    }

    #[test]
    fn one_process_uses_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cold.json");
        let _held = Cold::open(&path).unwrap();
        assert_eq!(Cold::open(&path).unwrap_err().reason(), "COLD_FILE");
    }

    #[test]
    fn nonsense_is_as_good_as_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for (number, text) in ["", "{", r#"{"v":2,"services":{}}"#].iter().enumerate() {
            let path = dir.path().join(number.to_string());
            fs::write(&path, text).unwrap();
            assert!(Cold::open(&path).unwrap().recall(&user()).is_none());
        }
    }
}
