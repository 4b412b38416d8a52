//! A member's data directory from a snapshot file, with etcdutl's flags.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow};
use catena_raft::{
    id,
    restore::{Restore, restore},
};
use catena_runtime::Runtime;
use catena_server::ServerConfig;
use catena_store::{
    Member,
    backend::Engine,
    bbolt::{Digest, Reader},
};
use tracing::info;

use crate::{bootstrap, config};

/// etcdutl's flags, and the engine.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// The snapshot file, of Catena or of etcd
    file: PathBuf,

    /// Name of the member
    #[arg(long, default_value = "default")]
    name: String,

    /// All members of the new cluster, as name=url,…; every member restores the same file with the same list
    #[arg(long, default_value = "default=http://localhost:2380")]
    initial_cluster: String,

    /// Token that keeps clusters apart which have the same members
    #[arg(long, default_value = "etcd-cluster")]
    initial_cluster_token: String,

    /// Peer URLs of the member
    #[arg(long, default_value = "http://localhost:2380")]
    initial_advertise_peer_urls: String,

    /// The data directory, absent or empty; by default NAME.etcd
    #[arg(long)]
    data_dir: Option<PathBuf>,

    /// A directory for the log alone (refused: not built)
    #[arg(long)]
    wal_dir: Option<PathBuf>,

    /// Do not look at the file's SHA-256: for a file copied from a data directory
    #[arg(long)]
    skip_hash_check: bool,

    /// By how much to raise the revision
    #[arg(long, default_value_t = 0)]
    bump_revision: u64,

    /// Declare everything before the raised revision compacted (required with --bump-revision)
    #[arg(long)]
    mark_compacted: bool,

    /// Without effect: nothing is mapped into memory
    #[arg(long, hide = true)]
    initial_memory_map_size: Option<u64>,

    /// Engine that keeps the applied state
    #[arg(long, default_value = "redb", value_parser = ["redb", "sled"])]
    storage_engine: String,
}

/// Flags that do not go together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadArguments(&'static str);

#[tokio::main(flavor = "current_thread")]
pub(super) async fn run(options: &Options) -> Result<()> {
    if (options.bump_revision > 0) != options.mark_compacted {
        return Err(BadArguments("--mark-compacted required if --revision-bump > 0").into());
    }
    if options.wal_dir.is_some() {
        return Err(anyhow!(
            "--wal-dir is refused: the log stands in the data directory"
        ));
    }
    let data_dir = options.data_dir.clone();
    let data_dir = data_dir.unwrap_or_else(|| PathBuf::from(format!("{}.etcd", options.name)));
    let target = target(options, data_dir.clone()).map_err(|error| anyhow!(error))?;
    let file = super::open(&options.file)?;
    let (path, dir) = (options.file.display(), data_dir.display());
    info!(%path, data_dir = %dir, "restoring snapshot");
    let digest = match options.skip_hash_check {
        true => Digest::Skipped,
        false => Digest::Required,
    };
    let file = Reader::open(file, digest)?;
    for member in &target.members {
        info!(
            cluster_id = format!("{:x}", target.cluster_id),
            added_peer_id = format!("{:x}", member.id),
            added_peer_peer_urls = ?member.peer_urls,
            "added member"
        );
    }
    let runtime = Runtime::system();
    restore(&runtime, target, file).await?;
    info!(%path, data_dir = %dir, "restored snapshot");
    Ok(())
}

/// The member that the flags describe, after the checks that a member's first start makes.
fn target(options: &Options, data_dir: PathBuf) -> Result<Restore, String> {
    let mut config = ServerConfig::new(options.name.clone(), Path::new("unused"));
    config.initial_cluster = config::cluster_of(&options.initial_cluster);
    let advertised = options.initial_advertise_peer_urls.split(',');
    config.advertise_peer = advertised.map(|url| url.trim().to_owned()).collect();
    bootstrap::check(&config)?;
    let mut urls: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, url) in &config.initial_cluster {
        urls.entry(name).or_default().push(url.trim().to_owned());
    }
    let members: Vec<Member> = urls
        .into_iter()
        .map(|(name, peer_urls)| Member {
            id: id::member_id(&peer_urls, &options.initial_cluster_token, None),
            name: name.to_owned(),
            peer_urls,
            ..Member::default()
        })
        .collect();
    let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    let own = members.iter().find(|member| member.name == options.name);
    Ok(Restore {
        data_dir,
        engine: Engine::from_name(&options.storage_engine).unwrap_or_default(),
        cluster_id: id::cluster_id(&ids),
        member_id: own.map_or(0, |member| member.id),
        members,
        revision_bump: i64::try_from(options.bump_revision)
            .map_err(|_| "--bump-revision is too large".to_owned())?,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        Line::parse_from([&["restore", "file"], arguments].concat()).options
    }

    #[test]
    fn ids_are_those_of_the_cluster_that_is_founded_from_the_same_list() {
        let target = target(&options(&[]), "dir".into()).unwrap();
        assert_eq!(target.member_id, 0x8e9e_05c5_2164_694d);
        assert_eq!(target.cluster_id, 0xcdf8_1819_4e3a_8c32);
        assert_eq!(target.members.len(), 1);
    }

    #[test]
    fn a_member_that_the_list_lacks_is_refused() {
        let error = target(&options(&["--name", "foo"]), "dir".into()).unwrap_err();
        assert_eq!(
            error,
            "couldn't find local name \"foo\" in the initial cluster configuration"
        );
    }

    #[test]
    fn raising_the_revision_and_marking_it_compacted_go_together() {
        for flags in [&["--bump-revision=5"][..], &["--mark-compacted"]] {
            assert!(run(&options(flags)).unwrap_err().is::<BadArguments>());
        }
    }
}
