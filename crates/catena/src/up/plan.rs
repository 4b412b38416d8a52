//! Which members and services there are, where, and whether they can be started.

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

/// Directory below the data directory for members of a real etcd, whose data ours cannot read.
const REAL_ETCD: &str = "real-etcd";

/// The users' database, in the data directory. All services use the one: they are on one machine.
const USERS: &str = "users.db";

/// File in the data directory that says how many members the cluster was made of.
const COUNT_FILE: &str = "members";

/// All that is started.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) data_dir: PathBuf,
    /// Members: ours or, with `--etcd PATH`, those of a real etcd.
    pub(super) members: Vec<Member>,
    /// The services: in the members of the same place if those are ours, in processes of their own otherwise.
    pub(super) services: Vec<Services>,
    pub(super) store: Store,
    /// What the user should know about the ports.
    pub(super) note: Option<String>,
    /// Whether the directory holds a cluster already.
    pub(super) continues: bool,
    /// Whether any member has data: a member without data is then no founder, but has to join.
    pub(super) founded: bool,
}

/// Whose the members are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// Ours, with the services in their processes.
    Catena,
    /// Of the real etcd whose program this is.
    Etcd(PathBuf),
    /// Somebody else's: none is started.
    Elsewhere(String),
}

/// The services of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Services {
    /// The name of their process, if that is no member's.
    pub(super) name: String,
    pub(super) http_port: u16,
    pub(super) grpc_port: u16,
    pub(super) log: PathBuf,
}

impl Services {
    pub(super) fn gateway_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    pub(super) fn user_url(&self) -> String {
        format!("grpc://127.0.0.1:{}", self.grpc_port)
    }

    /// The words of `catena run` for them, but for the store.
    fn words(&self, data_dir: &Path) -> Vec<String> {
        vec![
            "run".to_owned(),
            "user".to_owned(),
            "gateway".to_owned(),
            format!("--user-listen=127.0.0.1:{}", self.grpc_port),
            format!("--user-database=sqlite:{}", data_dir.join(USERS).display()),
            format!("--gateway-listen=127.0.0.1:{}", self.http_port),
        ]
    }
}

/// One process that is kept running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) name: String,
    /// The program, if it is not this one.
    pub(super) program: Option<PathBuf>,
    pub(super) words: Vec<String>,
    pub(super) log: PathBuf,
    /// The data directory, if the process is a member.
    pub(super) member_dir: Option<PathBuf>,
    /// Whether there are services in it, which leave before any member stops.
    pub(super) has_services: bool,
}

impl Process {
    /// The flag that tells a member whether it founds the cluster or joins it. One that has data does neither, and ignores it.
    pub(super) fn cluster_state(&self, founded: bool) -> Option<&'static str> {
        self.member_dir
            .as_ref()
            .map(|dir| match founded && !dir.exists() {
                true => "--initial-cluster-state=existing",
                false => "--initial-cluster-state=new",
            })
    }
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
}

impl Plan {
    /// Plans as many members as asked for, or as the data directory holds.
    pub(super) fn new(options: &Options) -> Result<Self> {
        let store = options.etcd.as_deref().map_or(Ok(Store::Catena), store)?;
        let data_dir = match store {
            Store::Etcd(_) => options.data_dir.join(REAL_ETCD),
            Store::Catena | Store::Elsewhere(_) => options.data_dir.clone(),
        };
        let held = match store {
            Store::Elsewhere(_) => None,
            Store::Catena | Store::Etcd(_) => count_in(&data_dir)?,
        };
        let count = match (held, options.members) {
            (Some(held), Some(asked)) if held != asked => bail!(
                "{} holds a cluster of {held} members: leave out --members, or choose another --data-dir for one of {asked}",
                data_dir.display()
            ),
            (Some(held), _) => held,
            (None, asked) => asked.unwrap_or(DEFAULT_MEMBERS),
        };
        let (members, note) = match store {
            Store::Elsewhere(_) => (Vec::new(), None),
            Store::Catena | Store::Etcd(_) => members(options, count, &data_dir, &store)?,
        };
        let services = match options.members_only {
            true => Vec::new(),
            false => services(options, count, &data_dir)?,
        };
        Ok(Self {
            data_dir,
            founded: members.iter().any(|member| member.data_dir.exists()),
            members,
            services,
            store,
            note,
            continues: held.is_some(),
        })
    }

    /// The store's endpoints, as clients are given them.
    pub(super) fn endpoints(&self) -> String {
        match &self.store {
            Store::Elsewhere(endpoints) => endpoints.clone(),
            Store::Catena | Store::Etcd(_) => {
                let urls = self.members.iter().map(Member::client_url);
                urls.collect::<Vec<_>>().join(",")
            }
        }
    }

    /// What is to be kept running.
    pub(super) fn processes(&self) -> Vec<Process> {
        let mut processes: Vec<Process> = self
            .members
            .iter()
            .enumerate()
            .map(|(place, member)| self.of_member(member, self.services.get(place)))
            .collect();
        if self.store != Store::Catena {
            let endpoints = self.endpoints();
            processes.extend(self.services.iter().map(|services| {
                let mut words = services.words(&self.data_dir);
                words.push(format!("--endpoints={endpoints}"));
                Process {
                    name: services.name.clone(),
                    program: None,
                    words,
                    log: services.log.clone(),
                    member_dir: None,
                    has_services: true,
                }
            }));
        }
        processes
    }

    fn of_member(&self, member: &Member, services: Option<&Services>) -> Process {
        let (program, mut words) = match (&self.store, services) {
            (Store::Etcd(program), _) => (Some(program.clone()), Vec::new()),
            (Store::Catena | Store::Elsewhere(_), Some(services)) => {
                let mut words = services.words(&self.data_dir);
                words.push("--registry=embedded".to_owned());
                (None, words)
            }
            (Store::Catena | Store::Elsewhere(_), None) => (None, vec!["server".to_owned()]),
        };
        words.extend(member.flags.iter().cloned());
        Process {
            name: member.name.clone(),
            program,
            words,
            log: member.log.clone(),
            member_dir: Some(member.data_dir.clone()),
            has_services: self.store == Store::Catena && services.is_some(),
        }
    }

    /// Makes sure that every port can be listened on, before anything is started.
    pub(super) fn check_ports(&self) -> Result<()> {
        let members = self.members.iter().flat_map(|member| {
            let name = &member.name;
            [
                (name, member.client_port, "clients"),
                (name, member.peer_port, "peers"),
            ]
        });
        let services = self.services.iter().flat_map(|services| {
            let name = &services.name;
            [
                (name, services.http_port, "gateway"),
                (name, services.grpc_port, "user service"),
            ]
        });
        let mut taken = Vec::new();
        for (name, port, what) in members.chain(services) {
            if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                taken.push(match error.kind() {
                    io::ErrorKind::AddrInUse => format!("port {port} ({name}, {what}) is in use"),
                    _ => format!("port {port} ({name}, {what}): {error}"),
                });
            }
        }
        ensure!(
            taken.is_empty(),
            "nothing was started:\n  {}\nStop what listens there (another `catena up`, or an etcd?), or choose other ports with --first-port, --http-port and --grpc-port.",
            taken.join("\n  ")
        );
        Ok(())
    }

    /// Makes the data directory and notes the number of members in it.
    pub(super) fn prepare(&self) -> Result<()> {
        let dir = self.data_dir.display();
        fs::create_dir_all(&self.data_dir).with_context(|| format!("cannot make {dir}"))?;
        if !self.continues && !self.members.is_empty() {
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

/// The members, and a sentence if their ports are not in the usual places.
fn members(
    options: &Options,
    count: u8,
    data_dir: &Path,
    store: &Store,
) -> Result<(Vec<Member>, Option<String>)> {
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
        member.flags = flags(member, &cluster.join(","));
        if *store == Store::Catena {
            let engine = &options.storage_engine;
            member.flags.push(format!("--storage-engine={engine}"));
        }
    }
    Ok((members, note))
}

fn flags(member: &Member, cluster: &str) -> Vec<String> {
    vec![
        format!("--name={}", member.name),
        format!("--data-dir={}", member.data_dir.display()),
        format!("--listen-client-urls={}", member.client_url()),
        format!("--advertise-client-urls={}", member.client_url()),
        format!("--listen-peer-urls={}", member.peer_url()),
        format!("--initial-advertise-peer-urls={}", member.peer_url()),
        format!("--initial-cluster={cluster}"),
        "--initial-cluster-token=catena-up".to_owned(),
    ]
}

/// The services, on ports one after the other.
fn services(options: &Options, count: u8, data_dir: &Path) -> Result<Vec<Services>> {
    let port = |first: u16, place: u8| {
        let port = first.checked_add(u16::from(place));
        port.with_context(|| format!("port {first} leaves no room for {count} services"))
    };
    let one = |place: u8| {
        let name = format!("services{}", place + 1);
        Ok(Services {
            http_port: port(options.http_port, place)?,
            grpc_port: port(options.grpc_port, place)?,
            log: data_dir.join(format!("{name}.log")),
            name,
        })
    };
    (0..count).map(one).collect()
}

/// What `--etcd` names: a program, by its path or its name, or endpoints.
fn store(text: &str) -> Result<Store> {
    let path = Path::new(text);
    if path.is_file() {
        return Ok(Store::Etcd(path.to_owned()));
    }
    let named = |dir: PathBuf| Some(dir.join(text)).filter(|path| path.is_file());
    if !text.contains(['/', ':'])
        && let Some(found) =
            std::env::var_os("PATH").and_then(|dirs| std::env::split_paths(&dirs).find_map(named))
    {
        return Ok(Store::Etcd(found));
    }
    let urls: Option<Vec<String>> = text.split(',').map(url).collect();
    let urls = urls.with_context(|| {
        format!("--etcd {text}: there is no such program, and it is no list of endpoints such as http://127.0.0.1:2379")
    })?;
    Ok(Store::Elsewhere(urls.join(",")))
}

/// `http://host:port`, of `host:port` too.
fn url(text: &str) -> Option<String> {
    let url = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let known: Result<catena_server::Url, _> = url.parse();
    known.is_ok().then_some(url)
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
            http_port: 8080,
            grpc_port: 50051,
            members_only: false,
            etcd: None,
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
            let of = |one: &Process| {
                one.cluster_state(plan.founded)
                    .unwrap()
                    .ends_with("=existing")
            };
            plan.processes().iter().map(of).collect::<Vec<bool>>()
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

    #[test]
    fn the_services_run_in_our_members_and_beside_those_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path(), None);
        let names = |plan: &Plan| {
            let processes = plan.processes();
            processes
                .iter()
                .map(|one| one.name.clone())
                .collect::<Vec<_>>()
        };
        let plan = Plan::new(&options).unwrap();
        assert_eq!(names(&plan), ["infra1", "infra2", "infra3"]);
        let words = &plan.processes()[1].words;
        for word in [
            "run",
            "--registry=embedded",
            "--user-listen=127.0.0.1:50052",
            "--gateway-listen=127.0.0.1:8081",
            "--name=infra2",
        ] {
            assert!(
                words.iter().any(|found| found == word),
                "{word} in {words:?}"
            );
        }

        let program = dir.path().join("etcd");
        fs::write(&program, "").unwrap();
        options.etcd = Some(program.display().to_string());
        let plan = Plan::new(&options).unwrap();
        assert_eq!(
            names(&plan),
            [
                "infra1",
                "infra2",
                "infra3",
                "services1",
                "services2",
                "services3"
            ]
        );
        assert_eq!(plan.processes()[0].program, Some(program));
        assert!(
            plan.members[0]
                .data_dir
                .starts_with(dir.path().join(REAL_ETCD))
        );

        options.etcd = Some("10.0.0.1:2379,http://10.0.0.2:2379".to_owned());
        let plan = Plan::new(&options).unwrap();
        assert_eq!(names(&plan), ["services1", "services2", "services3"]);
        let endpoints = "--endpoints=http://10.0.0.1:2379,http://10.0.0.2:2379";
        assert!(
            plan.processes()[0]
                .words
                .iter()
                .any(|word| word == endpoints)
        );

        options.etcd = Some("/no/such/program".to_owned());
        let error = Plan::new(&options).unwrap_err().to_string();
        assert!(error.contains("there is no such program"), "{error}");
    }

    #[test]
    fn members_alone_are_servers() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path(), Some(1));
        options.members_only = true;
        let plan = Plan::new(&options).unwrap();
        assert_eq!(plan.processes()[0].words[0], "server");
        assert!(plan.services.is_empty());
    }
}
