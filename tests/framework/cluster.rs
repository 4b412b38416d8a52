//! Several members of one cluster.

use std::time::Duration;

use anyhow::{Context, Result};
use catena_api::etcd::etcdserverpb as pb;
use tempfile::TempDir;

use crate::{Client, Member, Place, Target, message, wait_until};

/// A cluster on loopback has elected a leader by then, or never will.
const LEADER_WITHIN: Duration = Duration::from_secs(20);

/// What kind of cluster to start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Whose members.
    pub target: Target,
    /// How many.
    pub members: usize,
    /// Flags for every member beyond those of names, URLs, directories and bootstrap.
    pub flags: Vec<String>,
    /// Where the first members stand. Those beyond stand on loopback, as all do by default.
    pub places: Vec<Place>,
}

impl Setup {
    /// A cluster without further flags.
    pub fn new(target: Target, members: usize) -> Self {
        Self {
            target,
            members,
            flags: Vec::new(),
            places: Vec::new(),
        }
    }

    /// The same with more flags.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags
            .extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// The same with its members elsewhere.
    pub fn places(mut self, places: Vec<Place>) -> Self {
        self.places = places;
        self
    }
}

/// A cluster; dropping it ends its members and removes their data.
#[derive(Debug)]
pub struct Cluster {
    /// The members, running or not. They go before the directory does.
    pub members: Vec<Member>,
    /// What was asked for.
    pub setup: Setup,
    dir: TempDir,
}

impl Cluster {
    /// Prepares members for a bootstrap; starts none.
    pub fn prepare(setup: Setup) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("catena-test-").tempdir()?;
        let members = (1..=setup.members)
            .map(|n| Member::new(setup.target, &format!("infra{n}"), dir.path()))
            .collect();
        let mut cluster = Self {
            members,
            setup,
            dir,
        };
        for (member, place) in cluster.members.iter_mut().zip(&cluster.setup.places) {
            member.set_place(place.clone());
        }
        let (map, flags) = (cluster.initial_cluster(), cluster.setup.flags.clone());
        for member in &mut cluster.members {
            let mut flags = flags.clone();
            flags.extend(
                ["--initial-cluster", &map, "--initial-cluster-state", "new"].map(str::to_owned),
            );
            member.set_flags(flags);
        }
        Ok(cluster)
    }

    /// Starts a new cluster and waits until every member is ready.
    pub async fn start(setup: Setup) -> Result<Self> {
        let mut cluster = Self::prepare(setup)?;
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// Starts every member that does not run and waits until all are ready.
    pub async fn start_all(&mut self) -> Result<()> {
        for member in self
            .members
            .iter_mut()
            .filter(|member| !member.is_running())
        {
            member.start()?;
        }
        for member in &mut self.members {
            member.ready().await?;
        }
        Ok(())
    }

    /// The value of `--initial-cluster`.
    pub fn initial_cluster(&self) -> String {
        let parts = self
            .members
            .iter()
            .map(|member| format!("{}={}", member.name, member.peer_url()));
        parts.collect::<Vec<_>>().join(",")
    }

    /// A further member, not started, that is to join this cluster. The caller has it added first.
    pub fn joining(&mut self, name: &str) -> Result<&mut Member> {
        let member = Member::new(self.setup.target, name, self.dir.path());
        self.members.push(member);
        let (map, mut flags) = (self.initial_cluster(), self.setup.flags.clone());
        flags.extend(
            [
                "--initial-cluster",
                &map,
                "--initial-cluster-state",
                "existing",
            ]
            .map(str::to_owned),
        );
        let member = self.members.last_mut().context("one was pushed")?;
        member.set_flags(flags);
        Ok(member)
    }

    /// All client URLs, separated by commas.
    pub fn endpoints(&self) -> String {
        let parts = self.members.iter().map(Member::endpoint);
        parts.collect::<Vec<_>>().join(",")
    }

    /// A client of the member at `place`, counted round.
    pub fn client(&self, place: usize) -> Result<Client> {
        self.members[place % self.members.len()].client()
    }

    /// The place of the leader, as soon as the running members agree on one that runs.
    pub async fn leader(&self) -> Result<usize> {
        wait_until("a leader", LEADER_WITHIN, async || {
            self.agreed_leader().await
        })
        .await
    }

    /// Removes all keys and leases.
    pub async fn clear(&self) -> Result<()> {
        let client = self.client(0)?;
        for id in client.leases().await? {
            client.revoke(id).await?;
        }
        client.delete_with(message::delete("\0", "\0")).await?;
        Ok(())
    }

    /// Prints the end of each member's log.
    pub fn show_logs(&self) {
        self.members.iter().for_each(Member::show_log);
    }

    async fn agreed_leader(&self) -> Option<usize> {
        let (mut ids, mut leaders) = (Vec::new(), Vec::new());
        for (place, member) in self.members.iter().enumerate() {
            if !member.is_running() {
                continue;
            }
            let status = member.client().ok()?.status().await.ok()?;
            ids.push((status.header.unwrap_or_default().member_id, place));
            leaders.push(status.leader);
        }
        let leader = *leaders.first()?;
        let agreed = leader != 0 && leaders.iter().all(|other| *other == leader);
        ids.into_iter()
            .find_map(|(id, place)| (agreed && id == leader).then_some(place))
    }

    /// Waits until all running members stand at one revision; gives each one's HashKV there.
    pub async fn hashes(&self) -> Result<Vec<pb::HashKvResponse>> {
        let running: Vec<_> = self
            .members
            .iter()
            .filter(|member| member.is_running())
            .collect();
        wait_until("members at one revision", LEADER_WITHIN, async || {
            let mut hashes = Vec::new();
            for member in &running {
                hashes.push(member.client().ok()?.hash_kv(0).await.ok()?);
            }
            let same = hashes
                .windows(2)
                .all(|pair| pair[0].hash_revision == pair[1].hash_revision);
            same.then_some(hashes)
        })
        .await
    }
}
