//! What a fault stands on: a cluster under load, its disks and its network, and the record of what was done to it.

mod process;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use framework::{
    Cluster, Place, Setup, Target,
    history::{Fault, MemberInfo, Meta, Phase, ProcEvent, Proof, Recorder},
    mix::{Mix, Settings},
    peers::Release,
    wait_until,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    load::{AnyMix, Load, Seat, Seats},
    machine::{self, Disk, Net},
};

/// Load goes on by then after a fault that leaves a majority, however busy the machine.
const GOES_ON_WITHIN: Duration = Duration::from_secs(60);
/// Longest time for which a rest is asked, as a guard against a fault that never ends.
const REST_MS_MAX: u64 = 15_000;
/// Values that fill what a full disk has left within seconds.
const LONG_VALUE_BYTES: u64 = 100_000;
/// What members are told beside names and places: a short log, so that snapshots and purges happen within a run.
const FLAGS: [&str; 4] = [
    "--snapshot-count=400",
    "--heartbeat-interval=100",
    "--election-timeout=1000",
    "--log-level=info",
];
/// Keys may outlive their lease by so long after the last fault: many times what a member needs on a machine that is not busy.
const LEASE_LATE_MS: u64 = 20_000;
/// Events may be owed to a watch by a healthy member for so long: many hundred times what it needs on a machine that is not busy.
const WATCH_LATE_MS: u64 = 10_000;
const HEARTBEAT_MS: u64 = 100;
const ELECTION_MS: u64 = 1000;

/// What the members of a run stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stand {
    /// The machine's own disk and loopback.
    Plain,
    /// Each member on a disk of its own.
    Disks,
    /// Each member on a host of its own.
    Hosts,
}

/// A fault did not take place; a run in which that happens says nothing.
#[derive(Debug)]
pub(crate) struct Unproven(pub(crate) String);

impl std::fmt::Display for Unproven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no proof that the fault took place: {}", self.0)
    }
}

impl std::error::Error for Unproven {}

/// A fault that has begun and is not proven yet.
#[must_use = "a fault without proof is none"]
pub(crate) struct Going {
    name: &'static str,
    targets: Vec<String>,
    args: BTreeMap<String, Json>,
}

/// A fault that took place.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    /// Its name.
    pub(crate) name: &'static str,
    /// What was looked at, and what was found.
    pub(crate) proof: String,
}

/// A cluster under load. The fields are dropped in their order: members before the disks and the network that they use.
pub(crate) struct Ground {
    /// Clients and watchers.
    pub(crate) load: Load,
    /// The members.
    pub(crate) cluster: Cluster,
    /// Their disks, by place; none on a plain stand.
    pub(crate) disks: Vec<Disk>,
    /// Their network, if it is their own.
    pub(crate) net: Option<Net>,
    /// Where chances come from.
    pub(crate) random: StdRng,
    /// The members as clients see them, and the time.
    pub(crate) seats: Seats,
    /// What is recorded.
    pub(crate) recorder: Recorder,
    /// Faults that were proven.
    pub(crate) proven: Vec<Proven>,
    /// When the history ends: at the end of the run, if it does not end before.
    pub(crate) ended_ns: Option<u64>,
    /// When leaders were killed, for the time without writes.
    pub(crate) leader_killed_ns: Vec<u64>,
    incarnations: BTreeMap<String, u64>,
    /// Ids of members that joined later.
    ids: BTreeMap<String, u64>,
    /// Files of the run; disks and data lie in it.
    pub(crate) work: TempDir,
}

impl Ground {
    /// Starts the cluster and its load.
    pub(crate) async fn start(
        target: Target,
        members: usize,
        stand: Stand,
        seed: u64,
    ) -> Result<Self> {
        let work = machine::work_dir()?;
        let mut disks = Vec::new();
        if stand == Stand::Disks {
            for place in 0..members {
                disks.push(Disk::make(&work.path().join(format!("disk{place}"))).await?);
            }
        }
        let net = match stand {
            Stand::Hosts => Some(Net::up().await?),
            Stand::Plain | Stand::Disks => None,
        };
        if let Some(net) = &net {
            net.enter()?;
        }
        let places = (0..members).map(|place| Place {
            host: net.as_ref().map(|_| Net::address(&Net::host_of(place))),
            data_dir: Some(match disks.get(place) {
                Some(disk) => disk.mounted().join("data"),
                None => work.path().join(format!("data{place}")),
            }),
            through: net
                .as_ref()
                .map_or(Vec::new(), |net| net.through(&Net::host_of(place))),
            program: None,
        });
        let setup = Setup::new(target, members)
            .flags(&FLAGS)
            .flags(catchup(target))
            .places(places.collect());
        let cluster = Cluster::prepare(setup)?;
        let mut random = StdRng::seed_from_u64(seed);
        let seats = Seats::new();
        let recorder = Recorder::new(Meta::default());
        let load = Load::new(&seats, &recorder, mix(random.random(), stand));
        let mut ground = Self {
            load,
            cluster,
            disks,
            net,
            random,
            seats,
            recorder,
            proven: Vec::new(),
            ended_ns: None,
            leader_killed_ns: Vec::new(),
            incarnations: BTreeMap::new(),
            ids: BTreeMap::new(),
            work,
        };
        ground.bootstrap(seed, stand).await?;
        Ok(ground)
    }

    async fn bootstrap(&mut self, seed: u64, stand: Stand) -> Result<()> {
        self.start_stopped().await?;
        let mut members = Vec::new();
        for member in &self.cluster.members {
            let status = member.client()?.status().await?;
            members.push(MemberInfo {
                name: member.name.clone(),
                id: status.header.unwrap_or_default().member_id,
                endpoint: member.endpoint(),
            });
        }
        let target = self.cluster.setup.target.to_string();
        self.recorder = Recorder::new(Meta {
            run: target.clone(),
            seed: seed.to_string(),
            versions: BTreeMap::from([("target".to_owned(), target)]),
            members,
            heartbeat_ms: HEARTBEAT_MS,
            election_ms: ELECTION_MS,
            settings: BTreeMap::from([
                ("lease_late_ms".to_owned(), LEASE_LATE_MS.into()),
                ("watch_late_ms".to_owned(), WATCH_LATE_MS.into()),
            ]),
            ..Meta::default()
        });
        self.load = Load::new(
            &self.seats,
            &self.recorder,
            mix(self.random.random(), stand),
        );
        for place in 0..self.cluster.members.len() {
            let seat = self.seats.add(&self.cluster.members[place])?;
            self.load.add_witness(&seat);
            self.note(place, ProcEvent::Start, None);
            self.note(place, ProcEvent::Ready, None);
        }
        self.load.start(&mut self.random);
        Ok(())
    }

    /// How many members there are.
    pub(crate) fn size(&self) -> usize {
        self.cluster.members.len()
    }

    /// The place of the leader.
    pub(crate) async fn leader(&self) -> Result<usize> {
        self.cluster.leader().await
    }

    /// The place of some member that does not lead; the only one's, if there is but one.
    pub(crate) async fn follower(&mut self) -> Result<usize> {
        let leader = self.leader().await?;
        let step = self.random.random_range(1..self.size().max(2));
        Ok((leader + step) % self.size())
    }

    /// The process of a member that runs.
    pub(crate) fn pid(&self, place: usize) -> Result<u32> {
        let member = &self.cluster.members[place];
        member
            .pid()
            .with_context(|| format!("{} does not run", member.name))
    }

    /// The name of a member.
    pub(crate) fn name(&self, place: usize) -> String {
        self.cluster.members[place].name.clone()
    }

    /// A member as clients see it.
    pub(crate) fn seat(&self, place: usize) -> Result<Arc<Seat>> {
        let name = self.name(place);
        self.seats
            .of(&name)
            .with_context(|| format!("{name} has left"))
    }

    /// A number from a range.
    pub(crate) fn draw(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.random.random_range(range)
    }

    /// Lets the load run for some milliseconds.
    pub(crate) async fn rest(&self, millis: u64) {
        sleep(Duration::from_millis(millis.min(REST_MS_MAX))).await;
    }

    /// Waits until clients were answered some more times.
    pub(crate) async fn goes_on(&self, answers: u64) -> Result<()> {
        let wanted = self.load.done() + answers;
        wait_until("clients are answered", GOES_ON_WITHIN, async || {
            (self.load.done() >= wanted).then_some(())
        })
        .await
    }

    /// A fault begins.
    pub(crate) fn begin(
        &self,
        name: &'static str,
        places: &[usize],
        args: &[(&str, Json)],
    ) -> Going {
        let going = Going {
            name,
            targets: places.iter().map(|place| self.name(*place)).collect(),
            args: args
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        };
        self.recorder.fault(Fault {
            ns: self.seats.now_ns(),
            name: name.to_owned(),
            phase: Phase::Start,
            targets: going.targets.clone(),
            args: going.args.clone(),
            proof: None,
        });
        going
    }

    /// The fault is over, and this shows that it took place.
    pub(crate) fn end(&mut self, going: Going, kind: &str, value: impl Into<Json>) -> Result<()> {
        let value = value.into();
        let empty = value.is_null() || value == 0 || value == "";
        ensure!(
            !empty,
            Unproven(format!("{}: {kind} is {value}", going.name))
        );
        let proof = format!("{kind}: {value}");
        self.recorder.fault(Fault {
            ns: self.seats.now_ns(),
            name: going.name.to_owned(),
            phase: Phase::End,
            targets: going.targets,
            args: going.args,
            proof: Some(Proof {
                kind: kind.to_owned(),
                value,
            }),
        });
        self.proven.push(Proven {
            name: going.name,
            proof,
        });
        Ok(())
    }
}

/// Few entries are kept for members that are away. etcd had no such flag before 3.6.
fn catchup(target: Target) -> &'static [&'static str] {
    match target {
        Target::Etcd(Release::V35 | Release::V34) => &[],
        Target::Etcd(Release::V37) | Target::Catena | Target::InProcess => {
            &["--snapshot-catchup-entries=200"]
        }
    }
}

fn mix(seed: u64, stand: Stand) -> AnyMix {
    let mut random = StdRng::seed_from_u64(seed);
    let chance = move |bound: u64| random.random_range(0..bound);
    let mut settings = Settings::default();
    if stand == Stand::Disks {
        settings.long_value_bytes = LONG_VALUE_BYTES;
    }
    Mix::new(Box::new(chance), settings)
}
