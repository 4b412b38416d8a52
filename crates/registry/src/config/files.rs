//! Files and directories of documents, and their changes.
//!
//! What is watched is the directory, for editors and deployments do not write into a file but rename a new one over it, or a link to
//! its directory. After any event all is read again: that is a handful of small files, and no event can be misunderstood.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::{net::unix::pipe, sync::mpsc, task::spawn_blocking, time::sleep};

use super::{
    DOCUMENT_BYTES_MAX, Error, Format, Result,
    apply::{News, Source},
    held::Mark,
    layer::{Document, Layer, Place},
};

/// What follows at once on an event belongs to it: writing a file is several events.
const SETTLE: Duration = Duration::from_millis(30);

/// How often a directory that is gone is looked for.
const GONE: Duration = Duration::from_secs(1);

/// Documents in one directory.
const FILES_MAX: usize = 256;

/// Bytes of events read at once. What is said in them does not matter.
const EVENTS_BYTES: usize = 4096;

/// Reads a file, or all of a directory that has the ending of a format, in order of their names.
pub(crate) fn read(layer: Layer, path: &Path) -> Result<Vec<Document>> {
    let fault = |error: io::Error| Error::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    };
    if !path.is_dir() {
        let document = read_file(layer, path).map_err(fault)?;
        return Ok(vec![document]);
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(path).map_err(fault)? {
        let entry = entry.map_err(fault)?.path();
        if is_document(&entry) {
            paths.push(entry);
        }
        if paths.len() > FILES_MAX {
            return Err(Error::TooMuch {
                what: "documents in a directory",
                actual: paths.len(),
                limit: FILES_MAX,
            });
        }
    }
    paths.sort();
    let mut documents = Vec::new();
    for path in paths {
        match read_file(layer, &path) {
            Ok(document) => documents.push(document),
            // It was there a moment ago: what made it go is an event of its own.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fault(error)),
        }
    }
    Ok(documents)
}

/// Whether a file in a directory is a document: has a format's ending, and is not hidden. What editors leave (`~`, `.swp`, `4913`)
/// has no such ending.
fn is_document(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| !name.starts_with('.') && Format::of_file(name).is_some())
        && path.is_file()
}

fn read_file(layer: Layer, path: &Path) -> io::Result<Document> {
    let format = Format::of_file(&path.to_string_lossy()).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the ending is none of .toml, .yaml, .yml, .json, .properties, .txt",
        )
    })?;
    let mut bytes = Vec::new();
    // One byte more than is accepted, so that a larger file is refused and not cut off.
    File::open(path)?
        .take(DOCUMENT_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(Document {
        place: Place {
            layer,
            name: path.display().to_string().into(),
        },
        format,
        bytes: bytes.into(),
        version: 0,
        at_ms: 0,
    })
}

/// Says what stands in the file or directory, at once and after each change, until nobody listens.
pub(crate) async fn follow(layer: Layer, path: PathBuf, news: mpsc::Sender<News>) {
    let source = Source::Layer(layer);
    loop {
        let error = tokio::select! {
            ended = follow_events(layer, &path, &news) => match ended {
                Ok(()) => return,
                Err(error) => error,
            },
            () = news.closed() => return,
        };
        if news.send(News::Silent(source, error)).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep(GONE) => {}
            () = news.closed() => return,
        }
    }
}

/// Ends well when nobody listens, and badly when something cannot be read or watched.
async fn follow_events(layer: Layer, path: &Path, news: &mpsc::Sender<News>) -> Result<()> {
    let fault = |error: io::Error| Error::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    };
    let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
        .map_err(|error| fault(error.into()))?;
    // No pipe, but read like one: without blocking, when there is something.
    let events = pipe::Receiver::from_owned_fd_unchecked(events).map_err(fault)?;
    loop {
        // Before reading, so that nothing falls between. Again each time, for the directory may be another by now.
        arm(&events, path).map_err(fault)?;
        let reading = path.to_owned();
        let read = spawn_blocking(move || read(layer, &reading)).await;
        let documents = read.map_err(|_panicked_or_stopping| Error::Closed)??;
        let said = News::Said(Source::Layer(layer), documents, Mark::default());
        if news.send(said).await.is_err() {
            return Ok(());
        }
        events.readable().await.map_err(fault)?;
        sleep(SETTLE).await;
        drain(&events).map_err(fault)?;
    }
}

fn arm(events: impl AsFd, path: &Path) -> io::Result<()> {
    let directory = match path.is_dir() {
        true => path,
        false => match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            Some(_) | None => Path::new("."),
        },
    };
    let flags = WatchFlags::CREATE
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    inotify::add_watch(events, directory, flags)?;
    Ok(())
}

/// Takes away all events that are there.
fn drain(events: &pipe::Receiver) -> io::Result<()> {
    let mut buffer = [0; EVENTS_BYTES];
    loop {
        match events.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// A change is seen at once; on a machine that is busy, by then.
    const PATIENCE: Duration = Duration::from_secs(20);

    const LAYER: Layer = Layer::File(0);

    /// Waits until the names and texts of the documents are these.
    async fn until(news: &mut mpsc::Receiver<News>, expected: &[(&str, &str)]) {
        let matches = |documents: &[Document]| {
            let said = documents.iter().map(|document| {
                let name = document.place.name.rsplit('/').next().unwrap();
                (
                    name.to_owned(),
                    String::from_utf8(document.bytes.to_vec()).unwrap(),
                )
            });
            let expected = expected.iter();
            let expected = expected.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
            said.eq(expected)
        };
        let found = async {
            loop {
                match news.recv().await.expect("the follower goes on") {
                    News::Said(_, documents, _) if matches(&documents) => return,
                    News::Said(..) | News::Silent(..) => {}
                }
            }
        };
        timeout(PATIENCE, found).await.expect("it is seen");
    }

    #[tokio::test]
    async fn a_directory_is_followed_through_writes_renames_and_deletions() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("b.toml"), "b = 1").unwrap();
        let (sender, mut news) = mpsc::channel(4);
        let task = tokio::spawn(follow(LAYER, dir.path().to_owned(), sender));
        until(&mut news, &[("b.toml", "b = 1")]).await;
        // What editors leave behind is no document.
        for name in ["a.toml~", ".a.toml.swp", "4913", ".hidden.toml", "README"] {
            fs::write(at(name), "x = ").unwrap();
        }
        fs::write(at("a.yaml"), "a: 1").unwrap();
        until(&mut news, &[("a.yaml", "a: 1"), ("b.toml", "b = 1")]).await;
        fs::write(at("new"), "b = 2").unwrap();
        fs::rename(at("new"), at("b.toml")).unwrap();
        until(&mut news, &[("a.yaml", "a: 1"), ("b.toml", "b = 2")]).await;
        fs::remove_file(at("a.yaml")).unwrap();
        until(&mut news, &[("b.toml", "b = 2")]).await;
        drop(news);
        timeout(PATIENCE, task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_file_is_followed_when_another_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("app.toml"), "a = 1").unwrap();
        let (sender, mut news) = mpsc::channel(4);
        let task = tokio::spawn(follow(LAYER, at("app.toml"), sender));
        until(&mut news, &[("app.toml", "a = 1")]).await;
        for n in 2..5 {
            let text = format!("a = {n}");
            fs::write(at(".app.toml.new"), &text).unwrap();
            fs::rename(at(".app.toml.new"), at("app.toml")).unwrap();
            until(&mut news, &[("app.toml", &text)]).await;
        }
        // Gone, it is silent about it, and found again.
        fs::remove_file(at("app.toml")).unwrap();
        let silent = async { while !matches!(news.recv().await, Some(News::Silent(..))) {} };
        timeout(PATIENCE, silent).await.unwrap();
        fs::write(at("app.toml"), "a = 9").unwrap();
        until(&mut news, &[("app.toml", "a = 9")]).await;
        drop(news);
        timeout(PATIENCE, task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_link_to_a_directory_that_is_turned_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (version, text) in [("v1", "a = 1"), ("v2", "a = 2")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("app.toml"), text).unwrap();
        }
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).unwrap();
        link("v1", "..data");
        link("..data/app.toml", "app.toml");
        let (sender, mut news) = mpsc::channel(4);
        let task = tokio::spawn(follow(LAYER, dir.path().to_owned(), sender));
        until(&mut news, &[("app.toml", "a = 1")]).await;
        link("v2", "..new");
        fs::rename(at("..new"), at("..data")).unwrap();
        until(&mut news, &[("app.toml", "a = 2")]).await;
        drop(news);
        timeout(PATIENCE, task).await.unwrap().unwrap();
    }

    #[test]
    fn what_cannot_be_read_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.toml");
        let error = read(LAYER, &path).unwrap_err();
        assert_eq!(error.reason(), "CONFIG_FILE");
        assert!(error.to_string().contains("app.toml"), "{error}");
        let path = dir.path().join("app.ini");
        fs::write(&path, "a = 1").unwrap();
        assert!(
            read(LAYER, &path)
                .unwrap_err()
                .to_string()
                .contains("ending")
        );
    }
}
