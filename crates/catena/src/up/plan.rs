//! Which members there are, where, and whether they can be started.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use super::Options;

/// The port that every etcd client tries first.
pub(super) const FIRST_PORT: u16 = 2379;

/// The step between members' ports, as in the local cluster of etcd's own documentation: 2379, 22379, 32379.
const PORT_STEP: u32 = 10_000;

/// The step where no usual place is left: a client and a peer port.
const SPARE_STEP: u32 = 2;

const DEFAULT_MEMBERS: u8 = 3;

/// File in the data directory that says how many members the cluster was made of.
const COUNT_FILE: &str = "members";

/// All members.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) data_dir: PathBuf,
    pub(super) members: Vec<Member>,
    /// What the user should know about the ports.
    pub(super) note: Option<String>,
    /// Whether the directory holds a cluster already.
    pub(super) continues: bool,
    /// Whether any member has data: a member without data is then no founder, but has to join.
    pub(super) founded: bool,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) client_port: u16,
    pub(super) peer_port: u16,
    pub(super) data_dir: PathBuf,
    pub(super) log: PathBuf,
    /// The flags of `catena server`, but for the state of the cluster.
    pub(super) flags: Vec<String>,
}

impl Member {
    pub(super) fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    pub(super) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// The flag that tells the member whether it founds the cluster or joins it. One that has data does neither, and ignores it.
    pub(super) fn cluster_state(&self, founded: bool) -> &'static str {
        match founded && !self.data_dir.exists() {
            true => "--initial-cluster-state=existing",
            false => "--initial-cluster-state=new",
        }
    }
}

impl Plan {
    /// Plans as many members as asked for, or as the data directory holds.
    pub(super) fn new(options: &Options) -> Result<Self> {
        let data_dir = &options.data_dir;
        let held = count_in(data_dir)?;
        let count = match (held, options.members) {
            (Some(held), Some(asked)) if held != asked => bail!(
                "{} holds a cluster of {held} members: leave out --members, or choose another --data-dir for one of {asked}",
                data_dir.display()
            ),
            (Some(held), _) => held,
            (None, asked) => asked.unwrap_or(DEFAULT_MEMBERS),
        };
        let (ports, note) = ports(options.first_port, count)?;
        let mut members: Vec<Member> = ports
            .into_iter()
            .zip(1..)
            .map(|(port, number)| Member {
                name: format!("infra{number}"),
                client_port: port,
                peer_port: port + 1,
                data_dir: data_dir.join(format!("infra{number}.etcd")),
                log: data_dir.join(format!("infra{number}.log")),
                flags: Vec::new(),
            })
            .collect();
        let cluster: Vec<String> = members
            .iter()
            .map(|member| format!("{}={}", member.name, member.peer_url()))
            .collect();
        for member in &mut members {
            member.flags = flags(member, &cluster.join(","), &options.storage_engine);
        }
        Ok(Self {
            data_dir: data_dir.clone(),
            founded: members.iter().any(|member| member.data_dir.exists()),
            members,
            note,
            continues: held.is_some(),
        })
    }

    /// Makes sure that every port can be listened on, before anything is started.
    pub(super) fn check_ports(&self) -> Result<()> {
        let mut taken = Vec::new();
        for member in &self.members {
            for (port, what) in [(member.client_port, "clients"), (member.peer_port, "peers")] {
                if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                    let name = &member.name;
                    taken.push(match error.kind() {
                        io::ErrorKind::AddrInUse => {
                            format!("port {port} ({name}, {what}) is in use")
                        }
                        _ => format!("port {port} ({name}, {what}): {error}"),
                    });
                }
            }
        }
        ensure!(
            taken.is_empty(),
            "nothing was started:\n  {}\nStop what listens there (another `catena up`, or an etcd?), or choose other ports with --first-port.",
            taken.join("\n  ")
        );
        Ok(())
    }

    /// Makes the data directory and notes the number of members in it.
    pub(super) fn prepare(&self) -> Result<()> {
        let dir = self.data_dir.display();
        fs::create_dir_all(&self.data_dir).with_context(|| format!("cannot make {dir}"))?;
        if !self.continues {
            let count = format!("{}\n", self.members.len());
            fs::write(self.data_dir.join(COUNT_FILE), count)
                .with_context(|| format!("cannot write to {dir}"))?;
        }
        Ok(())
    }
}

/// How many members the directory's cluster has, if there is one.
fn count_in(data_dir: &Path) -> Result<Option<u8>> {
    let path = data_dir.join(COUNT_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map(Some).with_context(|| {
            format!(
                "{} should hold the number of members, but holds {text:?}",
                path.display()
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The client port of each member, and a sentence if not all lie in the usual places: the first port, 20000 above it, and from
/// there in steps of 10000 while there are such ports. Further members are put into the step left out, then close to the first.
fn ports(first: u16, count: u8) -> Result<(Vec<u16>, Option<String>)> {
    let usual = std::iter::once(0).chain((2..=6).map(|step| step * PORT_STEP));
    let close = (1..=u32::from(count)).map(|number| number * SPARE_STEP);
    let usual_count = usual
        .clone()
        .filter_map(|offset| port(first, offset))
        .count();
    let ports: Vec<u16> = usual
        .chain(std::iter::once(PORT_STEP))
        .chain(close)
        .filter_map(|offset| port(first, offset))
        .take(usize::from(count))
        .collect();
    ensure!(
        ports.len() == usize::from(count),
        "--first-port {first} leaves no room for {count} members"
    );
    let moved: Vec<String> = ports.iter().skip(usual_count).map(u16::to_string).collect();
    let note = (!moved.is_empty()).then(|| {
        format!(
            "steps of {PORT_STEP} from {first} run out of ports, so the last members have {}",
            moved.join(", ")
        )
    });
    Ok((ports, note))
}

/// A client port, if it and the peer port above it are ports.
fn port(first: u16, offset: u32) -> Option<u16> {
    let port = u16::try_from(u32::from(first) + offset).ok()?;
    (port < u16::MAX).then_some(port)
}

fn flags(member: &Member, cluster: &str, engine: &str) -> Vec<String> {
    vec![
        format!("--name={}", member.name),
        format!("--data-dir={}", member.data_dir.display()),
        format!("--listen-client-urls={}", member.client_url()),
        format!("--advertise-client-urls={}", member.client_url()),
        format!("--listen-peer-urls={}", member.peer_url()),
        format!("--initial-advertise-peer-urls={}", member.peer_url()),
        format!("--initial-cluster={cluster}"),
        "--initial-cluster-token=catena-up".to_owned(),
        format!("--storage-engine={engine}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(data_dir: &Path, members: Option<u8>) -> Options {
        Options {
            data_dir: data_dir.to_owned(),
            members,
            storage_engine: "redb".to_owned(),
            first_port: FIRST_PORT,
        }
    }

    #[test]
    fn three_members_stand_where_etcds_documentation_puts_them() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new(&options(dir.path(), None)).unwrap();
        let ports: Vec<(u16, u16)> = plan
            .members
            .iter()
            .map(|member| (member.client_port, member.peer_port))
            .collect();
        assert_eq!(ports, [(2379, 2380), (22379, 22380), (32379, 32380)]);
        assert_eq!(plan.note, None);
    }

    #[test]
    fn the_ports_of_seven_members_are_ports_and_differ() {
        for count in 1..=7 {
            let (ports, note) = ports(FIRST_PORT, count).unwrap();
            let mut all: Vec<u16> = ports.iter().flat_map(|port| [*port, port + 1]).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), 2 * usize::from(count), "{ports:?}");
            assert_eq!(note.is_some(), count == 7);
        }
        assert_eq!(ports(FIRST_PORT, 7).unwrap().0[6], 12379);
        assert_eq!(ports(60_000, 3).unwrap().0, [60_000, 60_002, 60_004]);
        assert!(ports(65_535, 1).is_err());
    }

    #[test]
    fn a_cluster_keeps_its_number_of_members() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new(&options(dir.path(), Some(5))).unwrap();
        assert!(!plan.continues);
        plan.prepare().unwrap();
        let again = Plan::new(&options(dir.path(), None)).unwrap();
        assert_eq!(again.members, plan.members);
        assert!(again.continues);
        let error = Plan::new(&options(dir.path(), Some(3)))
            .unwrap_err()
            .to_string();
        assert!(error.contains("holds a cluster of 5 members"), "{error}");
    }

    #[test]
    fn only_a_member_without_data_in_a_cluster_with_data_joins() {
        let dir = tempfile::tempdir().unwrap();
        let states = || {
            let plan = Plan::new(&options(dir.path(), None)).unwrap();
            let of = |member: &Member| member.cluster_state(plan.founded).ends_with("=existing");
            plan.members.iter().map(of).collect::<Vec<bool>>()
        };
        assert_eq!(states(), [false; 3]);
        fs::create_dir(dir.path().join("infra1.etcd")).unwrap();
        fs::create_dir(dir.path().join("infra3.etcd")).unwrap();
        assert_eq!(states(), [false, true, false]);
    }

    #[test]
    fn every_port_in_use_is_named_before_anything_is_started() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path(), Some(1));
        options.first_port = taken.local_addr().unwrap().port();
        let error = Plan::new(&options)
            .unwrap()
            .check_ports()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("port {} (infra1, clients)", options.first_port)),
            "{error}"
        );
    }
}
