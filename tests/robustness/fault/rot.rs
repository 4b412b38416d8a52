//! A damaged byte at rest in a file of one member.
//!
//! The member must notice and refuse, saying what to do, or the damage must be harmless. Whether it was harmless the judges say: the
//! member goes on serving. A member of three that refuses is replaced as its message says; a single one gets its byte back.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use catena_api::etcd::etcdserverpb as pb;
use framework::{Finished, Target, Tool, message, wait_until};
use serde_json::json;

use super::{Fault, fault, members};
use crate::ground::Ground;

pub(super) const FAULTS: &[Fault] = &[
    fault!("rot-wal", Plain, wal).reseats(),
    fault!("rot-engine", Plain, engine).reseats(),
    fault!("rot-snapshot", Plain, snapshot),
];

/// A member that will refuse has done so by then, or it serves.
const DECIDES_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);
/// Tries to find a byte that is not zero: files are prepared ahead with zeros, which nobody reads.
const TRIES: usize = 200_000;
/// More than the last write of the load's.
const TAIL_BYTES: usize = 4096;

async fn wal(g: &mut Ground) -> Result<()> {
    rot(g, "rot-wal", "member/wal").await
}

async fn engine(g: &mut Ground) -> Result<()> {
    rot(g, "rot-engine", "member/snap").await
}

async fn rot(g: &mut Ground, name: &'static str, folder: &str) -> Result<()> {
    let place = g.follower().await?;
    g.kill(place).await?;
    let dir = g.cluster.members[place].data_dir().join(folder);
    let damage = damage(g, &dir)?;
    let going = g.begin(name, &[place], &[("at", json!(damage.to_string()))]);
    damage.make()?;
    g.launch(place)?;
    let refusal = match decision(g, place).await? {
        None => read_through(g, place).await?,
        refusal => refusal,
    };
    let proof = format!(
        "{damage}: {}",
        refusal.as_deref().unwrap_or("the member goes on")
    );
    match refusal {
        Some(_) if g.size() > 1 => members::replace(g, place).await?,
        Some(_) => {
            damage.undo()?;
            g.restart(place).await?;
        }
        None => g.note_ready(place),
    }
    g.end(
        going,
        "place of the damage, and what the member said",
        proof,
    )
}

/// A backup with a damaged byte must not become a member; the same backup without it must.
async fn snapshot(g: &mut Ground) -> Result<()> {
    let place = g.follower().await?;
    let dir = g.work.path().join("backup");
    fs::create_dir(&dir)?;
    fs::write(dir.join("snapshot.db"), save(g, place).await?)?;
    let damage = damage(g, &dir)?;
    let at = [("at", json!(damage.to_string()))];
    let going = g.begin("rot-snapshot", &[place], &at);
    damage.make()?;
    let refused = restore(g, &damage.path, "refused")?;
    ensure!(refused.code != 0, "{damage} was taken over");
    damage.undo()?;
    restore(g, &damage.path, "taken")?.ok()?;
    let words = refused.stdout + &refused.stderr;
    fs::remove_dir_all(dir)?;
    g.end(
        going,
        "place of the damage, and what restoring said",
        format!("{damage}: {words}"),
    )
}

/// The bytes of a backup of a member under load.
async fn save(g: &Ground, place: usize) -> Result<Vec<u8>> {
    let mut service = g.seat(place)?.client.maintenance();
    let mut stream = service.snapshot(pb::SnapshotRequest {}).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = stream.message().await? {
        bytes.extend_from_slice(&part.blob);
    }
    Ok(bytes)
}

fn restore(g: &Ground, file: &Path, into: &str) -> Result<Finished> {
    let target = g.cluster.setup.target;
    let (program, words): (_, &[&str]) = match target {
        Target::Etcd(release) => {
            let etcdutl = release.programs()?.etcdutl.context("there is an etcdutl")?;
            (etcdutl, &["snapshot", "restore"])
        }
        Target::Catena | Target::InProcess => (target.program()?, &["restore"]),
    };
    let mut args: Vec<OsString> = words.iter().map(OsString::from).collect();
    args.extend([
        "--data-dir".into(),
        file.with_file_name(into).into(),
        file.into(),
    ]);
    Tool::new(program).run(&args)
}

/// Waits until the member serves or refuses; gives its last words if it refuses.
async fn decision(g: &mut Ground, place: usize) -> Result<Option<String>> {
    let ready = wait_until("the member decides", DECIDES_WITHIN, async || {
        if g.stopped(place).await.ok()?.is_some() {
            return Some(false);
        }
        let status = g.seat(place).ok()?.client.status().await.ok()?;
        (status.leader != 0).then_some(true)
    })
    .await?;
    if ready {
        return Ok(None);
    }
    let log = g.cluster.members[place].log();
    let words = log
        .lines()
        .rev()
        .find(|line| line.contains("error") || line.contains("panic"))
        .or(log.lines().last());
    Ok(Some(words.unwrap_or("nothing").to_owned()))
}

/// Reads everything that the member has, so that it meets the damage now; gives its words if it does.
async fn read_through(g: &mut Ground, place: usize) -> Result<Option<String>> {
    let client = g.seat(place)?.client.clone();
    let read = async {
        let mut everything = message::between("\0", "\0");
        everything.serializable = true;
        client.range(everything).await?;
        client.hash_kv(0).await?;
        let mut service = client.maintenance();
        service.defragment(pb::DefragmentRequest {}).await
    };
    let Err(status) = read.await else {
        return Ok(None);
    };
    if g.stopped(place).await?.is_none() {
        g.kill(place).await?;
    }
    Ok(Some(format!("when all was read: {}", status.message())))
}

/// One bit of a file, and the byte that it makes.
struct Damage {
    path: PathBuf,
    offset: u64,
    bit: u8,
    damaged: u8,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        write!(f, "bit {} of byte {} of {name}", self.bit, self.offset)
    }
}

impl Damage {
    /// Flips the bit.
    fn make(&self) -> Result<()> {
        let file = fs::File::options().write(true).open(&self.path)?;
        file.write_all_at(&[self.damaged], self.offset)?;
        Ok(file.sync_all()?)
    }

    /// Flips the bit back, unless the byte was written anew meanwhile.
    fn undo(&self) -> Result<()> {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(&self.path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.offset)?;
        if byte[0] == self.damaged {
            file.write_all_at(&[byte[0] ^ 1 << self.bit], self.offset)?;
        }
        Ok(file.sync_all()?)
    }
}

/// Draws a place among the bytes in use of the files in a directory, the larger files the more often.
fn damage(g: &mut Ground, dir: &Path) -> Result<Damage> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push((entry.path(), entry.metadata()?.len()));
        }
    }
    files.sort();
    let total = files.iter().map(|(_, len)| len).sum::<u64>().max(1);
    for _ in 0..TRIES {
        let mut offset = g.draw(0..total);
        let bit = g.draw(0..8) as u8;
        for (path, len) in &files {
            if offset < *len {
                if let Some(byte) = in_use(path, offset)? {
                    return Ok(Damage {
                        path: path.clone(),
                        offset,
                        bit,
                        damaged: byte ^ 1 << bit,
                    });
                }
                break;
            }
            offset -= len;
        }
    }
    None.with_context(|| format!("{} holds nothing but zeros", dir.display()))
}

/// A byte that is not zero, if others that are not follow some way behind. The very end of a log is left alone: damage there cannot
/// be told from a write that was never completed.
fn in_use(path: &Path, offset: u64) -> Result<Option<u8>> {
    let file = fs::File::open(path)?;
    let mut byte = [0];
    file.read_at(&mut byte, offset)?;
    let mut behind = vec![0; TAIL_BYTES];
    let there = file.read_at(&mut behind, offset + TAIL_BYTES as u64)?;
    let used = byte[0] != 0 && behind[..there].iter().any(|byte| *byte != 0);
    Ok(used.then_some(byte[0]))
}
