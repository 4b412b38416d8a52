//! etcdctl: watch, and what stands on it.

use std::time::Duration;

use anyhow::{Result, ensure};
use framework::{Cluster, Setup, wait_until};

use crate::case::{Case, Ground, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(watch_prints_events).every_release(),
        case!(watch_from_a_revision_with_prev_kv).every_release(),
        case!(watch_runs_a_command).every_release(),
        case!(watch_tells_of_compaction).every_release(),
        case!(watch_reports_progress),
        case!(lock_is_exclusive).every_release(),
        case!(lock_runs_a_command).every_release(),
        case!(elect_and_listen).every_release(),
        case!(make_mirror_copies).every_release(),
    ]
}

async fn watch_prints_events(g: &Ground<'_>) -> Result<()> {
    let start = (g.revision().await? + 1).to_string();
    let watch = g.ctl.follow(&["watch", "k", "--prefix", "--rev", &start])?;
    g.ok(&["put", "k1", "v"])?;
    g.ok(&["put", "other", "v"])?;
    g.ok(&["del", "k1"])?;
    let printed = watch.prints("DELETE\nk1\n").await?;
    ensure!(
        printed.contains("PUT\nk1\nv\n") && !printed.contains("other"),
        "{printed}"
    );
    watch.interrupt().await?;
    Ok(())
}

async fn watch_from_a_revision_with_prev_kv(g: &Ground<'_>) -> Result<()> {
    let start = (g.revision().await? + 2).to_string();
    for value in ["1", "2"] {
        g.ok(&["put", "k", value])?;
    }
    g.ok(&["del", "k"])?;
    let watch = g
        .ctl
        .follow(&["watch", "k", "--rev", &start, "--prev-kv"])?;
    let printed = watch.prints("DELETE\nk\n2\nk\n").await?;
    ensure!(
        printed == "PUT\nk\n1\nk\n2\nDELETE\nk\n2\nk\n\n",
        "{printed:?}"
    );
    Ok(())
}

async fn watch_runs_a_command(g: &Ground<'_>) -> Result<()> {
    let start = (g.revision().await? + 1).to_string();
    let command = "echo key $ETCD_WATCH_KEY at $ETCD_WATCH_REVISION type $ETCD_WATCH_EVENT_TYPE";
    let watch = g
        .ctl
        .follow(&["watch", "k", "--rev", &start, "--", "sh", "-c", command])?;
    g.ok(&["put", "k", "v"])?;
    watch
        .prints(&format!("key \"k\" at {start} type \"PUT\""))
        .await?;
    Ok(())
}

async fn watch_tells_of_compaction(g: &Ground<'_>) -> Result<()> {
    for value in ["1", "2"] {
        g.ok(&["put", "k", value])?;
    }
    let revision = g.revision().await?;
    g.ok(&["compaction", &revision.to_string()])?;
    let mut watch = g
        .ctl
        .follow(&["watch", "k", "--rev", &(revision - 1).to_string()])?;
    let (_, printed) = watch.end().await?;
    ensure!(
        printed.contains("etcdserver: mvcc: required revision has been compacted"),
        "{printed}"
    );
    Ok(())
}

async fn watch_reports_progress(g: &Ground<'_>) -> Result<()> {
    let revision = g.revision().await?;
    // The request repeats until the watch stands.
    let script = "watch k\nprogress\n";
    let watch = g.ctl.follow_with(&["watch", "-i"], script)?;
    wait_until("progress is printed", Duration::from_secs(10), async || {
        watch.type_in("progress\n").ok()?;
        watch
            .printed()
            .contains(&format!("progress notify: {revision}"))
            .then_some(())
    })
    .await
}

async fn lock_is_exclusive(g: &Ground<'_>) -> Result<()> {
    let first = g.ctl.follow(&["lock", "l"])?;
    let key = first.prints("\n").await?;
    ensure!(key.starts_with("l/"), "{key}");
    let second = g.ctl.follow(&["lock", "l"])?;
    let client = g.cluster.client(0)?;
    wait_until(
        "the second is queued",
        Duration::from_secs(10),
        async || {
            client
                .get_prefix("l/")
                .await
                .ok()
                .filter(|keys| keys.count == 2)
        },
    )
    .await?;
    ensure!(
        second.printed().is_empty(),
        "locked twice: {}",
        second.printed()
    );
    first.interrupt().await?;
    second.prints("l/").await?;
    second.interrupt().await?;
    ensure!(client.get_prefix("l/").await?.count == 0);
    Ok(())
}

async fn lock_runs_a_command(g: &Ground<'_>) -> Result<()> {
    let printed = g.ok(&[
        "lock",
        "l",
        "--",
        "sh",
        "-c",
        "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV",
    ])?;
    ensure!(
        printed.starts_with("l/") && printed.split_whitespace().count() == 2,
        "{printed}"
    );
    let failed = g.ctl.run(&["lock", "l", "--", "sh", "-c", "exit 7"])?;
    ensure!(failed.code == 7 || failed.code == 1, "{failed:?}");
    Ok(())
}

async fn elect_and_listen(g: &Ground<'_>) -> Result<()> {
    let listen = g.ctl.follow(&["elect", "-l", "e"])?;
    let first = g.ctl.follow(&["elect", "e", "one"])?;
    first.prints("one").await?;
    listen.prints("one").await?;
    let second = g.ctl.follow(&["elect", "e", "two"])?;
    first.interrupt().await?;
    second.prints("two").await?;
    listen.prints("two").await?;
    second.interrupt().await?;
    Ok(())
}

async fn make_mirror_copies(g: &Ground<'_>) -> Result<()> {
    let copy = Cluster::start(Setup::new(g.cluster.setup.target, 1)).await?;
    g.ok(&["put", "before", "1"])?;
    let mirror = g.ctl.follow(&["make-mirror", &copy.members[0].address()])?;
    let client = copy.client(0)?;
    let copied = async |key: &'static str, count: i64| {
        let same = wait_until("the mirror follows", Duration::from_secs(20), async || {
            client
                .get(key)
                .await
                .ok()
                .filter(|found| found.count == count)
        });
        same.await.map_err(|error| error.context(mirror.printed()))
    };
    copied("before", 1).await?;
    g.ok(&["put", "after", "2"])?;
    copied("after", 1).await?;
    g.ok(&["del", "before"])?;
    copied("before", 0).await?;
    Ok(())
}
