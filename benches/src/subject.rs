//! What is measured: a cluster of one store, or the floor.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use framework::{Cluster, Place, Setup, Target, peers::Release};
use serde::{Deserialize, Serialize};

use crate::{floor::Floor, load::Op, process::Servers, program};

/// Whose servers a load is run against.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
pub(crate) enum Subject {
    /// Our binary.
    #[value(name = "catena")]
    #[serde(rename = "catena")]
    Catena,
    /// Our binary of the commit before, whose program is always given.
    #[value(skip)]
    #[serde(rename = "catena-before")]
    Before,
    /// etcd 3.7.1.
    #[value(name = "etcd-3.7.1")]
    #[serde(rename = "etcd-3.7.1")]
    Etcd37,
    /// etcd 3.5.1.
    #[value(name = "etcd-3.5.1")]
    #[serde(rename = "etcd-3.5.1")]
    Etcd35,
    /// A bare gRPC server.
    #[value(name = "floor")]
    #[serde(rename = "floor")]
    Floor,
}

/// Beyond what any run writes, so that none ends at the quota.
const QUOTA_FLAG: &str = "--quota-backend-bytes=17179869184";

impl Subject {
    /// The peers.
    pub(crate) const PEERS: [Subject; 2] = [Subject::Etcd37, Subject::Etcd35];

    /// The name in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Subject::Catena => "Catena",
            Subject::Before => "before",
            Subject::Etcd37 => "etcd 3.7.1",
            Subject::Etcd35 => "etcd 3.5.1",
            Subject::Floor => "floor",
        }
    }

    /// Whether it can answer an operation. What the floor answers to the others would not compare.
    pub(crate) fn answers(self, op: Op) -> bool {
        self != Subject::Floor
            || match op {
                Op::Put | Op::Get | Op::GetSerializable | Op::Txn => true,
                Op::Range | Op::Swap | Op::Keepalive => false,
            }
    }

    /// The program of its servers, built or fetched if need be; the floor has none.
    pub(crate) fn program(self) -> Result<Option<PathBuf>> {
        Ok(match self {
            Subject::Catena | Subject::Before => Some(program::of_working_tree()?),
            Subject::Etcd37 | Subject::Etcd35 => self.target().map(Target::program).transpose()?,
            Subject::Floor => None,
        })
    }

    fn target(self) -> Option<Target> {
        match self {
            Subject::Catena | Subject::Before => Some(Target::Catena),
            Subject::Etcd37 => Some(Target::Etcd(Release::V37)),
            Subject::Etcd35 => Some(Target::Etcd(Release::V35)),
            Subject::Floor => None,
        }
    }

    /// Starts servers of a program with empty data directories and waits until all are ready. The leader comes first, so that who has
    /// a single connection has it to the leader, whosesoever servers these are.
    pub(crate) async fn start(self, members: usize, program: Option<PathBuf>) -> Result<Running> {
        if self != Subject::Floor {
            let mut cluster = self.start_cluster(members, program, &[]).await?;
            let leader = cluster.leader().await?;
            cluster.members.rotate_left(leader);
            return Ok(Running::Cluster(cluster));
        }
        ensure!(members == 1, "a floor has one member");
        Ok(Running::Floor(Floor::start()?))
    }

    /// Starts members with further flags. The floor has none.
    pub(crate) async fn start_cluster(
        self,
        members: usize,
        program: Option<PathBuf>,
        flags: &[&str],
    ) -> Result<Cluster> {
        let target = self.target().context("a floor is no cluster")?;
        let place = Place {
            program,
            ..Place::default()
        };
        let setup = Setup::new(target, members)
            .flags(&[QUOTA_FLAG])
            .flags(flags)
            .places(vec![place; members]);
        Cluster::start(setup).await
    }
}

/// Servers that run; dropping them ends them and removes their data.
#[derive(Debug)]
pub(crate) enum Running {
    /// Members of one cluster.
    Cluster(Cluster),
    /// A bare server.
    Floor(Floor),
}

impl Running {
    /// Where clients connect, one address for each server.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>> {
        match self {
            Running::Floor(floor) => Ok(vec![floor.address]),
            Running::Cluster(cluster) => {
                let addresses = cluster
                    .members
                    .iter()
                    .map(|member| member.address().parse());
                Ok(addresses.collect::<Result<_, _>>()?)
            }
        }
    }

    /// Their processes.
    pub(crate) fn servers(&self) -> Result<Servers> {
        let pids = match self {
            Running::Floor(floor) => vec![floor.pid()],
            Running::Cluster(cluster) => {
                let pids = cluster.members.iter().map(|member| member.pid());
                let pids: Option<Vec<_>> = pids.collect();
                pids.context("a member does not run")?
            }
        };
        Ok(Servers::new(pids))
    }
}
