//! Damaged, missing, foreign and newer files, a full disk, a directory in use: the member says what is wrong, where, and what to run,
//! and what it says works.
//!
//! Each case damages one member, reads the last words of its log, runs the commands in them as they stand, and demands a whole cluster:
//! every member ready, one hash, every acknowledged write.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use framework::{Cluster, Setup, Target, wait_until};

use crate::{
    case::{Case, Ground, case},
    mount::Mount,
    repair::{Report, follow, last_words},
};

/// Keys written before a member is damaged: enough batches that a damaged one in the middle was surely durable.
const KEYS: usize = 60;
/// Snapshots so often that the log was cut behind one before all keys are written.
const CUT_OFTEN: &[&str] = &["--snapshot-count=20", "--snapshot-catchup-entries=5"];
/// A member that was told to end has ended by then.
const ENDED_WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn cases() -> Vec<Case> {
    let three = |case: Case, flags| case.members(3).fresh(flags).ours();
    vec![
        three(case!(torn_tail_is_cut_off_and_said), &[]),
        three(case!(damaged_segment), &[]),
        three(case!(damaged_engine), &[]),
        three(case!(missing_log), &[]),
        three(case!(missing_state_with_the_whole_log_is_rebuilt), &[]),
        three(case!(missing_state_behind_a_cut_log), CUT_OFTEN),
        three(case!(missing_identity), &[]),
        three(case!(damaged_identity), &[]),
        three(case!(missing_directory), &[]),
        three(case!(directory_of_another_member), &[]),
        three(case!(directory_of_another_cluster), &[]),
        three(case!(directory_of_a_newer_version), &[]),
        case!(damaged_segment_of_the_only_member).fresh(&[]).ours(),
        case!(directory_in_use).fresh(&[]).ours(),
        case!(full_disk).fresh(&[]).ours(),
    ]
}

/// Writes keys, and kills the follower that is to be damaged; gives its place.
async fn prepared(g: &mut Ground<'_>) -> Result<usize> {
    let client = g.cluster.client(0)?;
    for n in 0..KEYS {
        client.put(format!("k{n}"), "v").await?;
    }
    g.cluster.hashes().await?;
    let members = g.cluster.members.len();
    let place = (g.cluster.leader().await? + 1) % members;
    g.cluster.members[place].kill()?;
    Ok(place)
}

/// Every member is ready, all have one hash and every key, and writes go on.
async fn whole(g: &mut Ground<'_>) -> Result<()> {
    g.cluster.start_all().await?;
    for place in 0..g.cluster.members.len() {
        let client = g.cluster.client(place)?;
        let found = client.get_prefix("k").await?.count;
        ensure!(found == KEYS as i64, "{found} keys on member {place}");
        client.put("after", "v").await?;
    }
    let hashes = g.cluster.hashes().await?;
    let equal = hashes.windows(2).all(|pair| pair[0].hash == pair[1].hash);
    ensure!(equal, "{hashes:?}");
    Ok(())
}

/// Starts the member at `place`, which must refuse.
async fn refuses(g: &mut Ground<'_>, place: usize, words: &[&str]) -> Result<Report> {
    let before = g.cluster.members[place].log();
    g.cluster.members[place].start()?;
    let report = last_words(g, place, &before).await?;
    report.says(words)?;
    Ok(report)
}

/// A follower is damaged, says `words`, and is whole again after the commands that it gave.
async fn replaced(
    g: &mut Ground<'_>,
    damage: impl FnOnce(&Path) -> Result<()>,
    words: &[&str],
) -> Result<()> {
    let place = prepared(g).await?;
    damage(&g.cluster.members[place].data_dir().join("member"))?;
    let report = refuses(g, place, words).await?;
    follow(g, place, &report, None).await?;
    whole(g).await
}

/// The newest segment of the log, and where its records begin and end.
fn segment(member: &Path) -> Result<(PathBuf, std::ops::Range<u64>)> {
    let names = fs::read_dir(member.join("wal"))?;
    let paths = names.map(|entry| Ok(entry?.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "wal"));
    paths.sort();
    let path = paths.pop().context("a log has a segment")?;
    let bytes = fs::read(&path)?;
    let header = 20 + u32::from_le_bytes(bytes[12..16].try_into()?);
    let end = bytes.iter().rposition(|byte| *byte != 0);
    Ok((
        path,
        header.into()..end.context("a log has records")? as u64 + 1,
    ))
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    file.write_all_at(bytes, offset)?;
    Ok(())
}

fn flip(path: &Path, offset: u64) -> Result<()> {
    let mut byte = [0];
    File::open(path)?.read_exact_at(&mut byte, offset)?;
    overwrite(path, offset, &[byte[0] ^ 0x20])
}

async fn torn_tail_is_cut_off_and_said(g: &mut Ground<'_>) -> Result<()> {
    let place = prepared(g).await?;
    let (path, records) = segment(&g.cluster.members[place].data_dir().join("member"))?;
    overwrite(
        &path,
        records.end,
        b"half of a record, as a power cut leaves it",
    )?;
    whole(g).await?;
    let log = g.cluster.members[place].log();
    let said = log.lines().find(|line| line.contains("cut off a write"));
    let said = said.context("the member says that it cut something off")?;
    ensure!(said.contains(&path.display().to_string()), "{said}");
    ensure!(said.contains("\"offset\":"), "{said}");
    Ok(())
}

fn damage_segment(member: &Path) -> Result<()> {
    let (path, records) = segment(member)?;
    flip(&path, (records.start + records.end) / 2)
}

async fn damaged_segment(g: &mut Ground<'_>) -> Result<()> {
    replaced(g, damage_segment, &[".wal is damaged at offset "]).await
}

async fn damaged_engine(g: &mut Ground<'_>) -> Result<()> {
    let damage = |member: &Path| {
        let path = member.join("snap/db.redb");
        let pages = fs::metadata(&path)?.len() / 4096;
        (0..pages).try_for_each(|page| flip(&path, page * 4096 + 40))
    };
    replaced(g, damage, &["snap/db.redb is damaged"]).await
}

async fn missing_log(g: &mut Ground<'_>) -> Result<()> {
    let damage = |member: &Path| Ok(fs::remove_dir_all(member.join("wal"))?);
    replaced(g, damage, &["member/wal", "the log is missing"]).await
}

async fn missing_state_with_the_whole_log_is_rebuilt(g: &mut Ground<'_>) -> Result<()> {
    let place = prepared(g).await?;
    fs::remove_dir_all(g.cluster.members[place].data_dir().join("member/snap"))?;
    whole(g).await
}

async fn missing_state_behind_a_cut_log(g: &mut Ground<'_>) -> Result<()> {
    // The cut is made beside the writes, so there are more of them than it needs.
    let client = g.cluster.client(0)?;
    for n in 0..10 * KEYS {
        client.put("often", n.to_string()).await?;
    }
    let damage = |member: &Path| Ok(fs::remove_file(member.join("snap/db.redb"))?);
    let words = ["member/snap", "the applied state is missing"];
    replaced(g, damage, &words).await
}

async fn missing_identity(g: &mut Ground<'_>) -> Result<()> {
    let damage = |member: &Path| Ok(fs::remove_file(member.join("identity"))?);
    replaced(g, damage, &["member/identity", "missing"]).await
}

async fn damaged_identity(g: &mut Ground<'_>) -> Result<()> {
    let damage = |member: &Path| Ok(fs::write(member.join("identity"), [1, 1])?);
    replaced(g, damage, &["member/identity", "damaged"]).await
}

async fn missing_directory(g: &mut Ground<'_>) -> Result<()> {
    let damage = |member: &Path| Ok(fs::remove_dir_all(member)?);
    replaced(g, damage, &["has lost its data"]).await
}

/// Copies a directory with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => drop(fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}

/// The member at `place` is started on a copy of `foreign`, refuses, and goes on with its own directory.
async fn misled(g: &mut Ground<'_>, place: usize, foreign: &Path, words: &[&str]) -> Result<()> {
    let own = g.cluster.members[place].data_dir();
    let aside = own.with_extension("own");
    fs::rename(&own, &aside)?;
    copy(foreign, &own)?;
    let report = refuses(g, place, words).await?;
    ensure!(
        report.next.contains("its own directory with --data-dir"),
        "{report:?}"
    );
    fs::remove_dir_all(&own)?;
    fs::rename(&aside, &own)?;
    whole(g).await
}

async fn directory_of_another_member(g: &mut Ground<'_>) -> Result<()> {
    let place = prepared(g).await?;
    let other = (place + 1) % 3;
    g.cluster.members[other].stop()?;
    let foreign = g.cluster.members[other].data_dir();
    let name = format!("{:?}", g.cluster.members[other].name);
    misled(g, place, &foreign, &["is that of member", &name]).await
}

async fn directory_of_another_cluster(g: &mut Ground<'_>) -> Result<()> {
    prepared(g).await?;
    g.cluster.start_all().await?;
    // Of a member of the same name, so that only the URLs tell.
    let mut stranger = Cluster::start(Setup::new(Target::Catena, 1)).await?;
    stranger.members[0].stop()?;
    ensure!(stranger.members[0].name == g.cluster.members[0].name);
    g.cluster.members[0].stop()?;
    let foreign = stranger.members[0].data_dir();
    let words = [
        "is that of member",
        "--initial-cluster belongs to that cluster",
    ];
    misled(g, 0, &foreign, &words).await
}

async fn directory_of_a_newer_version(g: &mut Ground<'_>) -> Result<()> {
    let place = prepared(g).await?;
    let member = g.cluster.members[place].data_dir().join("member");
    let (identity, engine) = (member.join("identity"), member.join("snap/ENGINE"));
    // Behind the byte of the encoding stands the format of the directory.
    overwrite(&identity, 1, &[2])?;
    let report = refuses(g, place, &["member/identity", "has format 2"]).await?;
    follow(g, place, &report, None).await?;
    overwrite(&identity, 1, &[1])?;
    fs::write(&engine, "redb 2\n")?;
    let report = refuses(g, place, &["snap/ENGINE", "has format 2"]).await?;
    follow(g, place, &report, None).await?;
    // Now it is this version that wrote it.
    fs::write(&engine, "redb 1\n")?;
    whole(g).await
}

async fn damaged_segment_of_the_only_member(g: &mut Ground<'_>) -> Result<()> {
    let client = g.cluster.client(0)?;
    for n in 0..KEYS {
        client.put(format!("k{n}"), "v").await?;
    }
    let backup = tempfile::NamedTempFile::new()?;
    let backup = backup.path().to_str().context("a path of text")?;
    g.ok(&["snapshot", "save", backup])?;
    g.cluster.members[0].kill()?;
    damage_segment(&g.cluster.members[0].data_dir().join("member"))?;
    let report = refuses(g, 0, &[".wal is damaged at offset "]).await?;
    follow(g, 0, &report, Some(backup)).await?;
    whole(g).await
}

async fn directory_in_use(g: &mut Ground<'_>) -> Result<()> {
    let mut second = Cluster::prepare(Setup::new(Target::Catena, 1))?;
    let client = g.cluster.client(0)?;
    for n in 0..KEYS {
        client.put(format!("k{n}"), "v").await?;
    }
    let (member, other) = (&mut g.cluster.members[0], &mut second.members[0]);
    let dir = format!("--data-dir={}", member.data_dir().display());
    other.add_flag(&dir);
    other.start()?;
    wait_until("the second process ends", ENDED_WITHIN, async || {
        other.exited()
    })
    .await?;
    let report = Report::of(&other.log())?;
    report.says(&["member/wal/lock", "another process uses"])?;
    let pid = member.pid().context("the first one runs")?;
    ensure!(report.next.contains(&format!("`kill {pid}`")), "{report:?}");
    follow(g, 0, &report, None).await?;
    let member = &mut g.cluster.members[0];
    wait_until("the first process ends", ENDED_WITHIN, async || {
        member.exited()
    })
    .await?;
    other.start()?;
    other.ready().await?;
    ensure!(other.client()?.get_prefix("k").await?.count == KEYS as i64);
    other.stop()?;
    whole(g).await
}

async fn full_disk(g: &mut Ground<'_>) -> Result<()> {
    let mut cluster = Cluster::prepare(Setup::new(Target::Catena, 1))?;
    let Some(disk) = Mount::tmpfs(&cluster.members[0].data_dir(), 96)? else {
        return Ok(());
    };
    cluster.start_all().await?;
    let client = cluster.client(0)?;
    let ballast = disk.fill(2 << 20)?;
    let mut acknowledged = 0;
    let value = vec![b'v'; 64 << 10];
    while client
        .put(format!("k{acknowledged}"), value.clone())
        .await
        .is_ok()
    {
        acknowledged += 1;
        ensure!(acknowledged < 10_000, "the disk does not fill up");
    }
    let member = &mut cluster.members[0];
    wait_until("the member ends", ENDED_WITHIN, async || member.exited()).await?;
    let report = Report::of(&member.log())?;
    report.says(&["No space left on device", "member/"])?;
    follow(g, 0, &report, None).await?;
    fs::remove_file(ballast)?;
    cluster.start_all().await?;
    let found = cluster.client(0)?.get_prefix("k").await?.count;
    // The write without an answer may have happened.
    ensure!(
        found == acknowledged || found == acknowledged + 1,
        "{found} of {acknowledged} acknowledged"
    );
    // Before the disk that they lie on.
    drop(cluster);
    Ok(())
}
