//! The store's documents of the last run on disk, for a start while the store is away or wrong.
//!
//! One file per process: two that share one would take turns in forgetting what the other knew. It is written beside itself, synced
//! and renamed, and readable by its owner only, for it holds what the documents hold.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::spawn_blocking};
use tracing::warn;

use super::{
    Error, Format, Result,
    held::Mark,
    layer::{Document, Layer, Place},
};

/// The form of the file.
const FORM: u32 = 1;

/// What is kept.
#[derive(Clone, Default)]
pub(crate) struct LastGood {
    /// Grows with each change, within a process.
    pub(crate) order: u64,
    pub(crate) mark: Mark,
    pub(crate) documents: Vec<Arc<Document>>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    form: u32,
    mark: Mark,
    documents: Vec<WrittenDocument>,
}

#[derive(Serialize, Deserialize)]
struct WrittenDocument {
    layer: Layer,
    name: Arc<str>,
    format: Format,
    version: u64,
    at_ms: u64,
    content: String,
}

/// Reads the file; nothing if there is none.
pub(crate) fn load(path: &Path) -> Result<Option<LastGood>> {
    let fault = |reason: String| Error::File {
        path: path.display().to_string(),
        reason,
    };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error.to_string())),
    };
    let written: Written = serde_json::from_slice(&bytes)
        .ok()
        .filter(|written: &Written| written.form == FORM)
        .ok_or_else(|| {
            fault("not a last good configuration that this release can read".to_owned())
        })?;
    let document = |written: WrittenDocument| {
        Arc::new(Document {
            place: Place {
                layer: written.layer,
                name: written.name,
            },
            format: written.format,
            bytes: written.content.into(),
            version: written.version,
            at_ms: written.at_ms,
        })
    };
    Ok(Some(LastGood {
        order: 0,
        mark: written.mark,
        documents: written.documents.into_iter().map(document).collect(),
    }))
}

/// Who writes the file. Writing takes a while, and what is newer may be written meanwhile by another thread.
pub(crate) struct Keeper {
    path: PathBuf,
    /// The order of what was written last. Held while writing, by threads that may block.
    written: Mutex<u64>,
}

impl Keeper {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            written: Mutex::new(0),
        }
    }

    /// Replaces the file, durably, unless something newer is there already.
    pub(crate) fn save(&self, last_good: &LastGood) -> Result<()> {
        let mut written = self.written.lock();
        if last_good.order < *written {
            return Ok(());
        }
        write(&self.path, last_good).map_err(|error| Error::File {
            path: self.path.display().to_string(),
            reason: error.to_string(),
        })?;
        *written = last_good.order;
        Ok(())
    }
}

fn write(path: &Path, last_good: &LastGood) -> io::Result<()> {
    let document = |document: &Arc<Document>| WrittenDocument {
        layer: document.place.layer,
        name: document.place.name.clone(),
        format: document.format,
        version: document.version,
        at_ms: document.at_ms,
        // Documents that hold were parsed, so they are UTF-8.
        content: String::from_utf8_lossy(&document.bytes).into_owned(),
    };
    let written = Written {
        form: FORM,
        mark: last_good.mark,
        documents: last_good.documents.iter().map(document).collect(),
    };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&serde_json::to_vec(&written)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Saves the newest of what comes, until nothing comes any more. Saving is slower than changes can be: those between are passed over.
pub(crate) async fn keep(keeper: Arc<Keeper>, mut newest: watch::Receiver<LastGood>) {
    while newest.changed().await.is_ok() {
        let last_good = newest.borrow_and_update().clone();
        let keeper = keeper.clone();
        match spawn_blocking(move || keeper.save(&last_good)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the last good configuration cannot be saved"),
            Err(_stopping) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last-good.json");
        assert!(load(&path).unwrap().is_none());
        let keeper = Keeper::new(path.clone());
        for version in 1..3 {
            let document = Document {
                place: Place {
                    layer: Layer::Profile,
                    name: "user@eu/main".into(),
                },
                format: Format::Toml,
                bytes: "a = 'ü'\n".into(),
                version,
                at_ms: 1,
            };
            let last_good = LastGood {
                order: version,
                mark: Mark {
                    cluster: u64::MAX,
                    revision: 7,
                },
                documents: vec![Arc::new(document)],
            };
            keeper.save(&last_good).unwrap();
            let loaded = load(&path).unwrap().unwrap();
            assert_eq!(loaded.mark, last_good.mark);
            assert_eq!(loaded.documents, last_good.documents);
        }
        keeper.save(&LastGood::default()).unwrap();
        let kept = load(&path).unwrap().unwrap();
        assert_eq!(
            kept.documents.len(),
            1,
            "what is older does not replace what is newer"
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_an_error_that_quotes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last-good.json");
        for text in [
            "",
            "hunter2",
            r#"{"form":2,"mark":{"cluster":0,"revision":0},"documents":[]}"#,
        ] {
            fs::write(&path, text).unwrap();
            let error = load(&path).err().unwrap().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
