//! The user service and the gateway, as `catena run`, `catena dev` and `catena up` start them, on ours and on a real etcd.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use framework::{
    Finished, Running, Target, Tool, free_port, free_row, get, leave_out, peers, request,
    wait_until,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use crate::case::{Case, Ground, case};

/// Anything that takes a moment comes by then, on a loaded machine and in a debug build.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// `dev` is ready in less than a second: five times that in a debug build beside other tests.
const DEV_READY_SECS: f64 = 5.0;

/// Where registrations stand.
const REGISTERED: &str = "/registry/v1/default/user/";

const ALICE: &str = r#"{"name":"Alice","email":"alice@example.com","age":30}"#;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(any_process_of_up_may_be_killed),
        case!(any_member_below_up_may_be_killed)
            .members(3)
            .fresh(&[]),
        case!(processes_find_one_another),
        case!(an_operator_lists_follows_and_overrides),
        case!(an_operator_publishes_and_takes_back),
        case!(an_operator_gives_to_some_and_says_what_must_be),
        case!(a_store_that_is_not_there_is_waited_for).fresh(&[]),
        case!(one_file_is_enough_for_all_in_one_process).ours(),
        case!(the_lines_that_dev_prints_work).ours(),
        case!(what_is_wrong_is_named_with_its_remedy).ours(),
    ]
}

pub(crate) fn catena() -> Result<Tool> {
    Ok(Tool::new(Target::Catena.program()?))
}

/// One service of `catena run`.
pub(crate) struct Service {
    pub(crate) running: Running,
    pub(crate) address: String,
}

impl Service {
    /// Starts it on free ports, its database in `dir`.
    async fn start(name: &str, endpoints: &str, dir: &Path, more: &[&str]) -> Result<Self> {
        Self::start_as(&catena()?, name, endpoints, dir, more).await
    }

    /// The same by a tool with variables of its own.
    pub(crate) async fn start_as(
        tool: &Tool,
        name: &str,
        endpoints: &str,
        dir: &Path,
        more: &[&str],
    ) -> Result<Self> {
        let database = format!("--user-database=sqlite:{}", dir.join("users.db").display());
        let endpoints = format!("--endpoints={endpoints}");
        let fixed = [
            "run",
            name,
            "--user-listen=127.0.0.1:0",
            "--gateway-listen=127.0.0.1:0",
            "--log-format=console",
            &endpoints,
            &database,
        ];
        let running = tool.follow(&[&fixed, more].concat())?;
        let scheme = if name == "user" { "grpc://" } else { "http://" };
        let begin = format!("{name} ");
        let table = running.prints(&begin).await?;
        let line = table.lines().find(|line| line.starts_with(&begin));
        let address = line
            .and_then(|line| line.split_whitespace().nth(1)?.strip_prefix(scheme))
            .with_context(|| format!("no address in {table}"))?
            .to_owned();
        Ok(Self { running, address })
    }

    pub(crate) async fn ready(&self) -> Result<()> {
        ready(&self.address).await
    }
}

/// Waits until all checks of a process are green.
pub(crate) async fn ready(address: &str) -> Result<()> {
    let mut last = String::new();
    let what = format!("{address} is ready");
    let green = wait_until(&what, PATIENCE, async || {
        let answer = get(address, "/readyz").await.ok()?;
        last = answer.body;
        (answer.status == 200).then_some(())
    });
    green.await.with_context(|| last.clone())
}

/// Creates the first user.
pub(crate) async fn create(address: &str) -> Result<()> {
    let created = request(address, "POST", "/users", ALICE).await?;
    ensure!(created.status == 201, "{created:?}");
    Ok(())
}

/// Asks for the first user, who is there.
pub(crate) async fn first_user(address: &str) -> Result<()> {
    let answer = timeout(PATIENCE, get(address, "/user/1")).await??;
    ensure!(answer.status == 200, "{answer:?}");
    ensure!(
        answer
            .body
            .starts_with(r#"{"code":200,"message":"success","data":{"#)
            && answer.body.contains("Alice"),
        "{answer:?}"
    );
    Ok(())
}

async fn processes_find_one_another(g: &Ground<'_>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let endpoints = g.cluster.endpoints();
    let gateway = Service::start("gateway", &endpoints, dir.path(), &[]).await?;
    let first = Service::start("user", &endpoints, dir.path(), &["--user-id=first"]).await?;
    first.ready().await?;
    gateway.ready().await?;
    create(&gateway.address).await?;
    first_user(&gateway.address).await?;

    let written = g.ok(&["get", "--prefix", REGISTERED])?;
    let endpoint = format!(r#""endpoints":["grpc://{}"]"#, first.address);
    ensure!(
        written.starts_with(&format!("{REGISTERED}first\n")) && written.contains(&endpoint),
        "{written}"
    );
    let metrics = get(&first.address, "/metrics").await?.body;
    let state = r#"catena_registration_state{service="user",id="first",state="registered"} 1"#;
    ensure!(metrics.contains(state), "{metrics}");
    let metrics = get(&gateway.address, "/metrics").await?.body;
    let known = r#"catena_discovery_instances{service="user"} 1"#;
    ensure!(metrics.contains(known), "{metrics}");

    let second = Service::start("user", &endpoints, dir.path(), &["--user-id=second"]).await?;
    second.ready().await?;
    knows(&gateway, 2).await?;
    leaves_unnoticed(first, &gateway).await?;
    let written = g.ok(&["get", "--prefix", "--keys-only", REGISTERED])?;
    ensure!(written.trim() == format!("{REGISTERED}second"), "{written}");

    let (code, printed) = second.running.terminate().await?;
    ensure!(code == 0, "{printed}");
    ensure!(g.ok(&["get", "--prefix", REGISTERED])?.is_empty());
    knows(&gateway, 0).await?;
    let answer = get(&gateway.address, "/user/1").await?;
    ensure!(answer.status == 503, "{answer:?}");
    let (code, printed) = gateway.running.interrupt().await?;
    ensure!(code == 0, "{printed}");
    Ok(())
}

/// Waits until the gateway knows so many instances.
async fn knows(gateway: &Service, count: usize) -> Result<()> {
    let line = format!(r#"catena_discovery_instances{{service="user"}} {count}"#);
    wait_until(
        &format!("{count} instances are known"),
        PATIENCE,
        async || {
            let metrics = get(&gateway.address, "/metrics").await.ok()?.body;
            metrics.contains(&line).then_some(())
        },
    )
    .await
}

/// Stops a service while it is called: nobody notices.
async fn leaves_unnoticed(service: Service, gateway: &Service) -> Result<()> {
    let mut leaving = std::pin::pin!(service.running.terminate());
    let mut asked = 0;
    let (code, printed) = loop {
        tokio::select! {
            ended = &mut leaving => break ended?,
            answered = first_user(&gateway.address) => answered.with_context(|| format!("after {asked} answers"))?,
        }
        asked += 1;
    };
    ensure!(code == 0, "{printed}");
    ensure!(asked > 0, "nobody asked meanwhile");
    Ok(())
}

async fn a_store_that_is_not_there_is_waited_for(g: &mut Ground<'_>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    g.cluster.members[0].kill()?;
    let endpoints = g.cluster.endpoints();
    let gateway = Service::start("gateway", &endpoints, dir.path(), &[]).await?;
    let user = Service::start("user", &endpoints, dir.path(), &[]).await?;
    for service in [&gateway, &user] {
        let line = format!("waiting for the store at {endpoints}: it does not answer");
        let printed = service.running.prints(&line).await?;
        ensure!(printed.matches(&line).count() == 1, "{printed}");
    }
    let answer = get(&user.address, "/readyz").await?;
    ensure!(
        answer.status == 503
            && answer
                .body
                .contains(r#""registration":"not registered yet"#),
        "{answer:?}"
    );
    let answer = get(&gateway.address, "/ping").await?;
    ensure!(answer.status == 200, "{answer:?}");

    g.cluster.start_all().await?;
    for service in [&gateway, &user] {
        let line = format!("the store at {endpoints} answers");
        service.running.prints(&line).await?;
        service.ready().await?;
    }
    create(&gateway.address).await?;
    first_user(&gateway.address).await?;

    // The store goes for good: they leave all the same.
    g.cluster.members[0].kill()?;
    for service in [user, gateway] {
        let (code, printed) = service.running.terminate().await?;
        ensure!(code == 0, "{printed}");
    }
    Ok(())
}

async fn one_file_is_enough_for_all_in_one_process(g: &Ground<'_>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let [client, peer, rest, grpc] = [(); 4].map(|()| free_port());
    let path = dir.path().join("all.toml");
    let place = dir.path().display();
    fs::write(
        &path,
        format!(
            r#"
services = ["user", "gateway"]
registry = "embedded"
log-level = "warn"

[user]
listen = "127.0.0.1:{grpc}"
database = "sqlite:{place}/users.db"

[gateway]
listen = "127.0.0.1:{rest}"

[member]
name = "one"
data-dir = "{place}/one.etcd"
listen-client-urls = "http://127.0.0.1:{client}"
advertise-client-urls = "http://127.0.0.1:{client}"
listen-peer-urls = "http://127.0.0.1:{peer}"
initial-advertise-peer-urls = "http://127.0.0.1:{peer}"
heartbeat-interval = 10
election-timeout = 100
"#
        ),
    )?;
    let path = path.to_str().context("the path is UTF-8")?;
    let gateway = format!("127.0.0.1:{rest}");
    let endpoint = format!("--endpoints=http://127.0.0.1:{client}");
    let etcdctl = Tool::new(g.release.programs()?.etcdctl);
    for round in 0..2 {
        let running = catena()?.follow(&["run", path])?;
        running.prints(&format!("http://{gateway}")).await?;
        ready(&gateway).await?;
        if round == 0 {
            create(&gateway).await?;
        }
        first_user(&gateway).await?;
        let written = etcdctl
            .run(&[&endpoint, "get", "--prefix", REGISTERED])?
            .ok()?;
        ensure!(
            written.contains(&format!("grpc://127.0.0.1:{grpc}")),
            "{written}"
        );
        let (code, printed) = running.terminate().await?;
        ensure!(code == 0, "{printed}");
    }

    let explained = catena()?
        .run(&["config", "explain", path, "--namespace=other"])?
        .ok()?;
    let row = |name: &str| {
        let line = explained
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        line.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    ensure!(
        row("namespace").as_deref() == Some("namespace other --namespace"),
        "{explained}"
    );
    let expected = format!("member.name one {path}: member.name");
    ensure!(row("member.name") == Some(expected), "{explained}");
    ensure!(
        row("user.ttl").as_deref() == Some("user.ttl 10s default"),
        "{explained}"
    );
    Ok(())
}

async fn the_lines_that_dev_prints_work(g: &Ground<'_>) -> Result<()> {
    let [client, peer, rest, grpc] = [(); 4].map(|()| free_port().to_string());
    let ports = [
        "dev",
        "--client-port",
        &client,
        "--peer-port",
        &peer,
        "--http-port",
        &rest,
        "--grpc-port",
        &grpc,
    ];
    let running = catena()?.follow(&ports)?;
    let printed = running.prints("/registry/v1/").await?;
    let (_, told) = printed.split_once("(after ").context("when it was ready")?;
    let took: f64 = told.split(' ').next().unwrap_or_default().parse()?;
    ensure!(took < DEV_READY_SECS, "ready after {took} s");
    ready(&format!("127.0.0.1:{rest}")).await?;
    let etcdctl = g.release.programs()?.etcdctl;
    let etcdctl = etcdctl.parent().context("etcdctl stands in a directory")?;
    let shell = shell_with(&[etcdctl])?;
    let pasted = |begin: &str| -> Result<Finished> {
        let line = printed
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with(begin));
        let line = line.with_context(|| format!("no {begin} in {printed}"))?;
        shell.run(&["-c", line])
    };
    let answers = [
        (format!("curl http://127.0.0.1:{rest}/ping"), "pong"),
        ("curl -X POST".to_owned(), r#""name":"Alice""#),
        (
            format!("curl http://127.0.0.1:{rest}/user/1"),
            r#""name":"Alice""#,
        ),
        ("etcdctl".to_owned(), r#""service":"user""#),
    ];
    for (begin, answer) in answers {
        let said = pasted(&begin)?.ok()?;
        ensure!(said.contains(answer), "{begin}: {said}");
    }
    if let Some(place) = grpcurl()? {
        let shell = shell_with(&[&place])?;
        let line = printed
            .lines()
            .find(|line| line.trim().starts_with("grpcurl"));
        let said = shell
            .run(&["-c", line.context("grpcurl is shown")?])?
            .ok()?;
        ensure!(said.contains(r#""name": "Alice""#), "{said}");
    }
    let (code, printed) = running.interrupt().await?;
    ensure!(code == 0, "{printed}");
    Ok(())
}

/// A shell that finds the programs in some directories.
fn shell_with(places: &[&Path]) -> Result<Tool> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = places.iter().map(|place| place.to_path_buf());
    let path = env::join_paths(places.chain(env::split_paths(&path)))?;
    let path = path.to_str().context("the path is UTF-8")?;
    Ok(Tool::new("/bin/sh".into()).env("PATH", path))
}

/// Where grpcurl is; nowhere, after saying so, if it may be left out.
fn grpcurl() -> Result<Option<PathBuf>> {
    match peers::grpcurl() {
        Ok(place) => Ok(Some(place)),
        Err(missing) => {
            leave_out("what `catena dev` prints for grpcurl", &missing)?;
            Ok(None)
        }
    }
}

/// `catena up`, and where its gateways are.
struct Up {
    running: Running,
    gateways: Vec<String>,
    dir: tempfile::TempDir,
}

impl Up {
    async fn start(more: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let data = dir.path().join("data");
        let data = data.to_str().context("the path is UTF-8")?;
        let (first, http, grpc) = (free_row(6), free_row(3), free_row(3));
        let [first, rest, grpc] = [first, http, grpc].map(|port| port.to_string());
        let fixed = [
            "up",
            "--data-dir",
            data,
            "--first-port",
            &first,
            "--http-port",
            &rest,
            "--grpc-port",
            &grpc,
        ];
        let running = catena()?.follow(&[&fixed, more].concat())?;
        running.prints("are ready. Try:").await?;
        let gateways: Vec<String> = (0..3)
            .map(|place| format!("127.0.0.1:{}", http + place))
            .collect();
        for gateway in &gateways {
            ready(gateway).await?;
        }
        create(&gateways[0]).await?;
        for gateway in &gateways {
            first_user(gateway).await?;
        }
        Ok(Self {
            running,
            gateways,
            dir,
        })
    }

    /// The process that was started last under a name.
    fn pid(&self, name: &str) -> Result<Pid> {
        let begin = format!("{name} is ready (pid ");
        let printed = self.running.printed();
        let pid = printed
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix(&begin)?.split(',').next()?.parse().ok());
        pid.and_then(Pid::from_raw).with_context(|| printed)
    }

    /// Calls the gateways, but the one at `except`, until `done`; all of them answer.
    async fn answers_until(
        &self,
        except: Option<usize>,
        done: impl AsyncFn() -> bool,
    ) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !done().await {
            for (place, gateway) in self.gateways.iter().enumerate() {
                if Some(place) != except {
                    first_user(gateway).await.with_context(|| gateway.clone())?;
                }
            }
            ensure!(Instant::now() < end, "{}", self.running.printed());
        }
        Ok(())
    }
}

/// Each member in turn, of ours with its services in it, or of a real etcd that `up` has started.
async fn any_process_of_up_may_be_killed(g: &Ground<'_>) -> Result<()> {
    let ours = g.cluster.setup.target.is_catena();
    let program = g.release.programs()?.etcd;
    let program = program.to_str().context("the path is UTF-8")?;
    let more: &[&str] = if ours { &[] } else { &["--etcd", program] };
    let up = Up::start(more).await?;
    for (place, name) in ["infra1", "infra2", "infra3"].into_iter().enumerate() {
        let killed = up.pid(name)?;
        kill_process(killed, Signal::KILL)?;
        let again = async || up.pid(name).is_ok_and(|pid| pid != killed);
        up.answers_until(ours.then_some(place), again)
            .await
            .with_context(|| name)?;
        ready(&up.gateways[place]).await?;
    }
    let (code, printed) = up.running.interrupt().await?;
    ensure!(code == 0, "{printed}");
    // All services have left before the store lost its quorum.
    let logs = logs(&up.dir.path().join("data"))?;
    ensure!(logs.matches("\"deregistered\"").count() == 3, "{logs}");
    for late in [
        "stays until its lease ends",
        "cannot be told",
        "leaves all the same",
        "what this process holds there",
    ] {
        ensure!(!logs.contains(late), "{late}: {logs}");
    }
    Ok(())
}

/// All that the processes below a directory have logged.
fn logs(dir: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            text.push_str(&fs::read_to_string(&path)?);
        } else if path.ends_with("real-etcd") {
            text.push_str(&logs(&path)?);
        }
    }
    Ok(text)
}

/// The services of `up` on a store that runs already.
async fn any_member_below_up_may_be_killed(g: &mut Ground<'_>) -> Result<()> {
    let endpoints = g.cluster.endpoints();
    let up = Up::start(&["--etcd", &endpoints]).await?;
    for place in 0..3 {
        g.cluster.members[place].kill()?;
        let client = g.cluster.client(place + 1)?;
        let led = async || {
            timeout(PATIENCE, client.put("a", "b"))
                .await
                .is_ok_and(|put| put.is_ok())
        };
        up.answers_until(None, led).await?;
        g.cluster.start_all().await?;
    }
    let (code, printed) = up.running.interrupt().await?;
    ensure!(code == 0, "{printed}");
    ensure!(g.ok(&["get", "--prefix", REGISTERED])?.is_empty());
    Ok(())
}

async fn what_is_wrong_is_named_with_its_remedy(g: &Ground<'_>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let endpoints = format!("--endpoints={}", g.cluster.endpoints());
    let listen = format!("--user-listen=127.0.0.1:{port}");
    let database = format!(
        "--user-database=sqlite:{}",
        dir.path().join("users.db").display()
    );
    let nowhere = format!(
        "--user-database=sqlite:{}",
        dir.path().join("no/users.db").display()
    );
    let refused: [(&[&str], &[&str]); 7] = [
        (&["run"], &["nothing to run", "catena run user"]),
        (
            &["run", "order"],
            &["there is no service", "say user, gateway"],
        ),
        (
            &["run", "user", &listen, &database, &endpoints],
            &["cannot listen on 127.0.0.1:", "ss -ltnp", "--user-listen"],
        ),
        (
            &["run", "gateway", "--gateway-listen=0.0.0.0:0", &endpoints],
            &["other machines can reach 0.0.0.0:0", "--insecure"],
        ),
        (
            &[
                "run",
                "user",
                "--user-listen=127.0.0.1:0",
                &nowhere,
                &endpoints,
            ],
            &["database", "--user-database"],
        ),
        (
            &[
                "run",
                "user",
                "--user-database=oracle:x",
                "--user-listen=127.0.0.1:0",
                &endpoints,
            ],
            &["must begin with sqlite:"],
        ),
        (
            &["run", "user", "--data-dir=x"],
            &["--data-dir is for a member", "--registry embedded"],
        ),
    ];
    for (words, parts) in refused {
        let told = catena()?.run(words)?.err()?;
        for part in parts {
            ensure!(told.contains(part), "{words:?}: {told}");
        }
    }
    Ok(())
}

async fn an_operator_lists_follows_and_overrides(g: &Ground<'_>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let endpoints = g.cluster.endpoints();
    let gateway = Service::start("gateway", &endpoints, dir.path(), &[]).await?;
    let user = Service::start("user", &endpoints, dir.path(), &["--user-id=one"]).await?;
    user.ready().await?;
    gateway.ready().await?;
    create(&gateway.address).await?;
    first_user(&gateway.address).await?;

    let endpoints = format!("--endpoints={endpoints}");
    let svc = |words: &[&str]| {
        catena()?
            .run(&[&["ctl", "svc", &endpoints], words].concat())?
            .ok()
    };
    let flat = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let listed = flat(svc(&["ls"])?);
    ensure!(listed == "SERVICE INSTANCES user 1", "{listed}");
    let listed = flat(svc(&["ls", "user"])?);
    let expected = format!(
        "ID ENDPOINTS STATE one grpc://{} up, weight 100",
        user.address
    );
    ensure!(listed == expected, "{listed}");

    // A variable says where the store is, and the flag says it again.
    let there = |variable: &str, words: &[&str]| {
        let tool = catena()?.env("CATENA_ENDPOINTS", variable);
        tool.run(&[&["ctl", "svc", "ls"], words].concat())
    };
    let listed = flat(there(&g.cluster.endpoints(), &[])?.ok()?);
    ensure!(listed == "SERVICE INSTANCES user 1", "{listed}");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let refused = there(&nobody, &[])?.err()?;
    ensure!(
        refused.contains(&nobody) && refused.contains("CATENA_ENDPOINTS"),
        "{refused}"
    );
    let listed = flat(there(&nobody, &[&endpoints])?.ok()?);
    ensure!(listed == "SERVICE INSTANCES user 1", "{listed}");

    let watch = catena()?.follow(&["ctl", "svc", &endpoints, "watch", "user"])?;
    watch.prints("+ one").await?;
    let told = svc(&["override", "user", "one", "--enabled=false", "--weight=10"])?;
    ensure!(
        told.trim() == "user/one: callers see up, weight 10, disabled",
        "{told}"
    );
    watch.prints("up, weight 10, disabled").await?;
    wait_until("nobody may be called", PATIENCE, async || {
        let answer = get(&gateway.address, "/user/1").await.ok()?;
        (answer.status == 503).then_some(())
    })
    .await?;
    svc(&["override", "user", "one", "--clear"])?;
    wait_until("it may be called again", PATIENCE, async || {
        first_user(&gateway.address).await.ok()
    })
    .await?;
    let (code, printed) = watch.interrupt().await?;
    ensure!(code == 0, "{printed}");

    let refused = catena()?.run(&[
        "ctl",
        "svc",
        &endpoints,
        "override",
        "user",
        "two",
        "--weight=1",
    ])?;
    let refused = refused.err()?;
    ensure!(
        refused.contains("no instance \"two\"") && refused.contains("svc ls user"),
        "{refused}"
    );
    for service in [user, gateway] {
        let (code, printed) = service.running.terminate().await?;
        ensure!(code == 0, "{printed}");
    }
    g.ok(&["del", "--prefix", "/registry"])?;
    Ok(())
}

/// Over the terminal and over the gateway alike.
async fn an_operator_publishes_and_takes_back(g: &Ground<'_>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let endpoints = g.cluster.endpoints();
    let gateway =
        Service::start("gateway", &endpoints, dir.path(), &["--gateway-nacos=true"]).await?;
    let endpoints = format!("--endpoints={endpoints}");
    let run = |words: &[&str]| catena()?.run(&[&["ctl", "config", &endpoints], words].concat());
    let config = |words: &[&str]| run(words)?.ok();
    let file = |name: &str, text: &str| -> Result<String> {
        let path = dir.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let (one, two) = (file("one", "port = 1\n")?, file("two", "port = 2\n")?);
    let broken = file("broken", "port =\n")?;

    let watch = catena()?.follow(&["ctl", "config", &endpoints, "watch", "shop"])?;
    watch.prints("= follows").await?;
    let told = config(&[
        "put",
        "shop",
        "app.toml",
        &one,
        "--expect=0",
        "--author=ada",
    ])?;
    ensure!(told.contains("version 1 is published"), "{told}");
    watch.prints("~ app.toml  version 1").await?;
    let refused = run(&["put", "shop", "app.toml", &two, "--expect=0"])?.err()?;
    ensure!(refused.contains("version"), "{refused}");
    let refused = run(&["put", "shop", "app.toml", &broken])?.err()?;
    ensure!(refused.contains("app.toml"), "{refused}");
    config(&[
        "put",
        "shop",
        "app.toml",
        &two,
        "--expect=1",
        "--comment=more",
    ])?;
    watch.prints("~ app.toml  version 2").await?;

    let told = config(&["diff", "shop", "app.toml", "1", "2"])?;
    ensure!(told == "- port = 1\n+ port = 2\n", "{told}");
    config(&["rollback", "shop", "app.toml", "1"])?;
    ensure!(config(&["get", "shop", "app.toml"])? == "port = 1\n");
    ensure!(config(&["get", "shop", "app.toml", "--version=2"])? == "port = 2\n");
    let told = config(&["history", "shop", "app.toml"])?;
    for part in ["VERSION", "rollback to 1", "ada", "more"] {
        ensure!(told.contains(part), "{part}: {told}");
    }
    ensure!(config(&["ls", "shop"])?.contains("app.toml"));

    let answer = get(&gateway.address, "/v1/config/default/shop/app.toml").await?;
    ensure!(answer.status == 200, "{answer:?}");
    ensure!(answer.body.contains("port = 1"), "{answer:?}");
    let nacos = "/nacos/v1/cs/configs?dataId=app.toml&group=shop";
    let answer = get(&gateway.address, nacos).await?;
    ensure!(answer.body == "port = 1\n", "{answer:?}");

    let refused = run(&["rm", "shop", "app.toml", "--expect=2"])?.err()?;
    ensure!(refused.contains("at version 3"), "{refused}");
    ensure!(config(&["get", "shop", "app.toml"])? == "port = 1\n");
    let told = config(&["rm", "shop", "app.toml", "--expect=3"])?;
    ensure!(
        told == "default/shop/app.toml: taken away; its history stays\n",
        "{told}"
    );
    watch.prints("- app.toml").await?;
    let gone = run(&["rm", "shop", "app.toml"])?.err()?;
    ensure!(gone.contains("does not exist"), "{gone}");
    ensure!(!config(&["ls", "shop"])?.contains("app.toml"));
    ensure!(config(&["history", "shop", "app.toml"])?.contains("rollback to 1"));
    let answer = get(&gateway.address, "/v1/config/default/shop/app.toml").await?;
    ensure!(answer.status == 404, "{answer:?}");
    let told = config(&["put", "shop", "app.toml", &two])?;
    ensure!(told.contains("version 4 is published"), "{told}");
    config(&["rm", "shop", "app.toml"])?;
    let (code, printed) = watch.interrupt().await?;
    ensure!(code == 0, "{printed}");
    let (code, printed) = gateway.running.terminate().await?;
    ensure!(code == 0, "{printed}");
    g.ok(&["del", "--prefix", "/config"])?;
    Ok(())
}

async fn an_operator_gives_to_some_and_says_what_must_be(g: &Ground<'_>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let endpoints = format!("--endpoints={}", g.cluster.endpoints());
    let run = |words: &[&str]| catena()?.run(&[&["ctl", "config", &endpoints], words].concat());
    let config = |words: &[&str]| run(words)?.ok();
    let flat = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let file = |name: &str, text: &str| -> Result<String> {
        let path = dir.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let (one, two) = (file("one", "port = 1\n")?, file("two", "port = 2\n")?);
    let schema = r#"{"properties":{"port":{"type":"integer","maximum":2}}}"#;
    let (schema_file, wrong) = (file("schema", schema)?, file("wrong", "port = 3\n")?);
    config(&["put", "bar", "app.toml", &one])?;

    let missing = run(&["schema", "get", "bar", "app.toml"])?.err()?;
    ensure!(missing.contains("has no schema"), "{missing}");
    config(&["schema", "put", "bar", "app.toml", &schema_file])?;
    ensure!(config(&["schema", "get", "bar", "app.toml"])? == schema);
    let refused = run(&["put", "bar", "app.toml", &wrong])?.err()?;
    ensure!(refused.contains("port must keep to maximum 2"), "{refused}");

    let gray = |words: &[&str]| run(&[&["gray"], words].concat());
    let nobody = gray(&["put", "bar", "app.toml", "first", &two])?.err()?;
    ensure!(nobody.contains("--percent"), "{nobody}");
    let refused = gray(&["put", "bar", "app.toml", "first", &wrong, "--percent=10"])?.err()?;
    ensure!(refused.contains("port must keep to maximum 2"), "{refused}");
    let put = [
        "put",
        "bar",
        "app.toml",
        "first",
        &two,
        "--percent=10",
        "--label=zone=a",
    ];
    gray(&[&put[..], &["--id=b-1,b-2", "--priority=-3"]].concat())?.ok()?;
    let listed = flat(gray(&["ls", "bar", "app.toml"])?.ok()?);
    ensure!(
        listed
            == "RULE PRIORITY BYTES FOR first -3 9 10 % of the instances with zone=a, and b-1, b-2",
        "{listed}"
    );
    ensure!(config(&["get", "bar", "app.toml"])? == "port = 1\n");
    let told = gray(&["promote", "bar", "app.toml", "first"])?.ok()?;
    ensure!(told.contains("version 2 is published"), "{told}");
    ensure!(config(&["get", "bar", "app.toml"])? == "port = 2\n");
    gray(&put)?.ok()?;
    gray(&["abort", "bar", "app.toml", "first"])?.ok()?;
    let gone = gray(&["abort", "bar", "app.toml", "first"])?.err()?;
    ensure!(
        gone.contains("does not exist") && gone.contains("gray ls"),
        "{gone}"
    );

    config(&["schema", "rm", "bar", "app.toml"])?;
    config(&["put", "bar", "app.toml", &wrong])?;
    let listed = flat(config(&["listeners", "bar"])?);
    ensure!(listed == "INSTANCE DOCUMENT VERSION STATE WHY", "{listed}");
    g.ok(&["del", "--prefix", "/config"])?;
    Ok(())
}
