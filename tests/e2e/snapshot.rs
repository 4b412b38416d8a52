//! Backups: taken by etcdctl from either store, checked by etcdutl, restored by either tool.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context, Result, ensure};
use framework::{Cluster, Setup, Target, Tool, peers::Release};
use serde_json::Value;

use crate::case::{Case, Ground, case};

const ETCD: Target = Target::Etcd(Release::V37);
/// Keys written, of which one is deleted.
const KEYS: i64 = 50;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(snapshot_becomes_a_real_etcd)
            .members(3)
            .every_release(),
        case!(snapshot_becomes_a_cluster_of_ours).members(3).ours(),
        case!(snapshot_of_a_real_etcd_becomes_a_cluster_of_ours)
            .members(3)
            .ours(),
    ]
}

async fn snapshot_becomes_a_real_etcd(g: &Ground<'_>) -> Result<()> {
    let saved = Saved::take(g.cluster, &g.ctl).await?;
    saved.restore(&etcdutl()?, ETCD).await
}

async fn snapshot_becomes_a_cluster_of_ours(g: &mut Ground<'_>) -> Result<()> {
    let saved = Saved::take(g.cluster, &g.ctl).await?;
    // All is gone; what was saved is enough.
    for member in &mut g.cluster.members {
        member.wipe()?;
    }
    let ours = Ours::new()?;
    saved.restore(&ours.tool, Target::Catena).await?;
    g.cluster.start_all().await
}

async fn snapshot_of_a_real_etcd_becomes_a_cluster_of_ours(g: &Ground<'_>) -> Result<()> {
    let etcd = Cluster::start(Setup::new(ETCD, 1)).await?;
    let saved = Saved::take(&etcd, &g.ctl).await?;
    let ours = Ours::new()?;
    saved.restore(&ours.tool, Target::Catena).await
}

fn etcdutl() -> Result<Tool> {
    Ok(Tool::new(
        Release::V37.programs()?.etcdutl.context("3.7.1 has it")?,
    ))
}

/// Our binary under the name of the tool that it replaces.
struct Ours {
    tool: Tool,
    _dir: tempfile::TempDir,
}

impl Ours {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("etcdutl");
        symlink(Target::Catena.program()?, &path)?;
        Ok(Self {
            tool: Tool::new(path),
            _dir: dir,
        })
    }
}

/// A snapshot file and what must come out of it.
struct Saved {
    file: tempfile::NamedTempFile,
    revision: i64,
    hash: u32,
}

impl Saved {
    /// Fills a cluster and saves it with etcdctl.
    async fn take(cluster: &Cluster, ctl: &Tool) -> Result<Self> {
        let client = cluster.client(0)?;
        for n in 0..KEYS {
            client.put(format!("k{n}"), "v").await?;
        }
        client.delete("k7").await?;
        let revision = client.revision().await?;
        let hash = cluster.hashes().await?[0].hash;
        let file = tempfile::NamedTempFile::new()?;
        let saved = Self {
            file,
            revision,
            hash,
        };
        let (path, endpoint) = (saved.path()?, cluster.members[0].address());
        let printed = ctl
            .run(&["snapshot", "save", path, "--endpoints", &endpoint])?
            .ok()?;
        ensure!(
            printed.contains(&format!("Snapshot saved at {path}")),
            "{printed}"
        );
        Ok(saved)
    }

    fn path(&self) -> Result<&str> {
        self.file.path().to_str().context("a path of text")
    }

    /// Checks the file with the tool, restores three members with it and starts them.
    async fn restore(&self, tool: &Tool, target: Target) -> Result<()> {
        for tool in [tool, &etcdutl()?] {
            let status = tool
                .run(&["snapshot", "status", self.path()?, "-w", "json"])?
                .ok()?;
            let status: Value = serde_json::from_str(&status)?;
            ensure!(
                status["revision"] == self.revision && status["totalKey"] == KEYS - 1,
                "{status}"
            );
        }
        let mut cluster = Cluster::prepare(Setup::new(target, 3))?;
        let map = cluster.initial_cluster();
        for member in &cluster.members {
            let dir = member.data_dir();
            fs::create_dir_all(dir.parent().context("a member's directory")?)?;
            self.restore_member(tool, &map, &member.name, &member.peer_url(), &dir)?;
        }
        cluster.start_all().await?;
        self.check(&cluster).await
    }

    fn restore_member(
        &self,
        tool: &Tool,
        map: &str,
        name: &str,
        url: &str,
        dir: &Path,
    ) -> Result<()> {
        let dir = dir.to_str().context("a path of text")?;
        let names = ["--name", name, "--data-dir", dir];
        let urls = [
            "--initial-cluster",
            map,
            "--initial-advertise-peer-urls",
            url,
        ];
        let args = [&["snapshot", "restore", self.path()?], &names[..], &urls].concat();
        tool.run(&args)?.ok()?;
        // A directory that is not empty is never written to.
        let again = tool.run(&args)?.err()?;
        ensure!(again.contains("not empty or could not be read"), "{again}");
        Ok(())
    }

    async fn check(&self, cluster: &Cluster) -> Result<()> {
        ensure!(cluster.client(0)?.get_prefix("k").await?.count == KEYS - 1);
        for member in cluster.hashes().await? {
            let found = (member.hash, member.hash_revision);
            ensure!(
                found == (self.hash, self.revision),
                "{member:?} instead of {}",
                self.hash
            );
        }
        cluster.client(1)?.put("new", "v").await?;
        Ok(())
    }
}
