//! Opening a directory: what is there, what of it is whole, what is cut off, what is refused.

use std::{path::Path, sync::Arc};

use catena_runtime::{Disk, File, OpenMode, Runtime};

use crate::{
    Error, Options, Torn,
    index::Index,
    scan::{Scan, SegmentFile},
    segment::{self, End, Header, Segment},
    view::View,
};

const LOCK_NAME: &str = "lock";

/// A log that was found, or made, in a directory.
pub(crate) struct Opened {
    pub(crate) view: View,
    pub(crate) index: Index,
    /// Oldest first; the last one is written to.
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) tail: Tail,
    pub(crate) torn: Option<Torn>,
    /// Held while the log is open.
    pub(crate) lock: Arc<dyn File>,
}

/// Where writing goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    pub(crate) end: End,
    pub(crate) salt: u64,
    /// Records lie behind the last watermark.
    pub(crate) unclaimed: bool,
}

/// Opens `dir`, making an empty log if it holds none.
pub(crate) fn open(runtime: &Runtime, dir: &Path, options: &Options) -> Result<Opened, Error> {
    let disk = &*runtime.disk;
    let lock = lock(disk, dir)?;
    remove_unfinished(disk, dir)?;
    let mut names = sequences(disk, dir)?;
    if names.is_empty() {
        return found(runtime, dir, options, lock);
    }
    let leftover = cut_at_gap(&mut names);
    let files = open_segments(disk, dir, &names)?;

    let mut view = files[0].header.view.clone();
    let mut index = Index::default();
    let mut scanned = None;
    for (at, file) in files.iter().enumerate() {
        let end = files.get(at + 1).map(|next| next.header.before);
        let mut scan = Scan::new(file);
        scan.run(end, &mut view, &mut index)?;
        scanned = Some(scan);
    }
    let last = files.last().zip(scanned);
    let (last, scan) = last.expect("the directory holds at least one segment");
    refuse_missing(dir, &files[0], &view, &index)?;
    let (tail, torn) = scan.settle(last)?;
    disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
    for sequence in leftover {
        let path = segment::path(dir, sequence);
        disk.remove(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(Opened {
        view,
        index,
        segments: files.into_iter().map(|file| file.segment).collect(),
        tail,
        torn,
        lock,
    })
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Arc<dyn File>, Error> {
    disk.create_dir_all(dir).map_err(Error::io("create", dir))?;
    if let Some(parent) = dir.parent() {
        disk.sync_dir(parent).map_err(Error::io("sync", parent))?;
    }
    let path = dir.join(LOCK_NAME);
    let file = disk
        .open(&path, OpenMode::Create)
        .map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(true) => Ok(file),
        Ok(false) => Err(Error::Locked { path }),
        Err(error) => Err(Error::io("lock", &path)(error)),
    }
}

/// Removes segments that never got their name.
fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    for name in [segment::NEW_NAME, segment::PREPARED_NAME] {
        let path = dir.join(name);
        if disk.exists(&path) {
            disk.remove(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

fn sequences(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, Error> {
    let names = disk.list(dir).map_err(Error::io("list", dir))?;
    let mut sequences: Vec<u64> = names
        .iter()
        .filter_map(|name| segment::sequence(name))
        .collect();
    sequences.sort_unstable();
    Ok(sequences)
}

/// Keeps the newest segments that follow one another. Older ones are purged segments whose removal a crash undid in part; should
/// they be needed after all, [`refuse_missing`] says so.
fn cut_at_gap(sequences: &mut Vec<u64>) -> Vec<u64> {
    let gap = sequences
        .windows(2)
        .rposition(|pair| pair[0] + 1 != pair[1])
        .map_or(0, |at| at + 1);
    let kept = sequences.split_off(gap);
    std::mem::replace(sequences, kept)
}

/// Makes the first segment of a new log.
fn found(
    runtime: &Runtime,
    dir: &Path,
    options: &Options,
    lock: Arc<dyn File>,
) -> Result<Opened, Error> {
    let disk = &*runtime.disk;
    let path = dir.join(segment::NEW_NAME);
    let file = segment::create(disk, &path)?;
    file.allocate(options.step_bytes())
        .map_err(Error::io("allocate", &path))?;
    let header = Header {
        sequence: 0,
        salt: segment::salt(&*runtime.random),
        before: End::default(),
        view: View::default(),
    };
    let (segment, end) = header.publish(disk, dir, file, &path)?;
    Ok(Opened {
        view: View::default(),
        index: Index::default(),
        segments: vec![segment],
        tail: Tail {
            end,
            salt: header.salt,
            unclaimed: false,
        },
        torn: None,
        lock,
    })
}

fn open_segments(disk: &dyn Disk, dir: &Path, names: &[u64]) -> Result<Vec<SegmentFile>, Error> {
    let open = |sequence: &u64| {
        let path = segment::path(dir, *sequence);
        let file = disk
            .open(&path, OpenMode::Write)
            .map_err(Error::io("open", &path))?;
        let (header, start) = Header::read(&*file, &path)?;
        if header.sequence != *sequence {
            let what = format!("the header is that of segment {:016x}", header.sequence);
            return Err(Error::damaged(&path, 0, what));
        }
        let segment = Segment {
            sequence: *sequence,
            path,
            file,
        };
        Ok(SegmentFile {
            segment: Arc::new(segment),
            header,
            start,
        })
    };
    names.iter().map(open).collect()
}

/// Entries that the stream says are there must be in the segments that are there.
fn refuse_missing(
    dir: &Path,
    oldest: &SegmentFile,
    view: &View,
    index: &Index,
) -> Result<(), Error> {
    match view.bounds {
        Some((first, _)) if index.first() != Some(first) => {
            let path = segment::path(dir, oldest.segment.sequence.wrapping_sub(1));
            let what = format!("the segment is missing, and entry {first} with it");
            Err(Error::damaged(&path, 0, what))
        }
        _ => Ok(()),
    }
}
