//! What running services are told by documents in the store: limits, timeouts and the log level change without a restart and without
//! a failed request, at all instances or at some first; a document that is wrong changes nothing and says so; what is sealed opens in
//! processes that have the key, and shows nowhere.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use framework::{Finished, Tool, get, request, wait_until};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::{
    case::{Case, Ground, case},
    services::{PATIENCE, Service, catena, create, first_user},
};

/// Instances hear of a change in a second; this is for a loaded machine and a debug build.
const HEARD_WITHIN: Duration = Duration::from_secs(20);

/// Callers at the same time.
const CALLERS: usize = 4;

/// Answers that show that callers have been served since.
const SOME: u64 = 40;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(limits_and_level_change_under_load),
        case!(timeouts_change_at_some_instances_first),
        case!(a_wrong_document_changes_nothing_and_says_so),
        case!(what_is_sealed_opens_where_its_key_is_and_shows_nowhere),
        case!(what_documents_said_last_holds_without_the_store).fresh(&[]),
        case!(secrets_are_made_without_a_store).ours(),
    ]
}

/// Who publishes.
struct Operator {
    endpoints: String,
    dir: tempfile::TempDir,
}

impl Operator {
    fn of(g: &Ground<'_>) -> Result<Self> {
        Ok(Self {
            endpoints: g.cluster.endpoints(),
            dir: tempfile::tempdir()?,
        })
    }

    fn run(&self, words: &[&str]) -> Result<Finished> {
        let endpoints = format!("--endpoints={}", self.endpoints);
        catena()?.run(&[&["ctl", "config", &endpoints], words].concat())
    }

    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.dir.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    fn put(&self, app: &str, text: &str) -> Result<()> {
        let file = self.file("document", text)?;
        self.run(&["put", app, "app.toml", &file])?.ok()?;
        Ok(())
    }

    /// What a process with these flags would be told, each row in single spaces.
    fn explain(&self, more: &[&str]) -> Result<String> {
        let endpoints = format!("--endpoints={}", self.endpoints);
        let words = ["config", "explain", "--live", &endpoints];
        let told = catena()?.run(&[&words, more].concat())?.ok()?;
        let rows = told
            .lines()
            .map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "));
        Ok(rows.collect::<Vec<_>>().join("\n"))
    }

    /// A service on the store.
    async fn start(&self, name: &str, more: &[&str]) -> Result<Service> {
        self.start_as(&catena()?, name, more).await
    }

    async fn start_as(&self, tool: &Tool, name: &str, more: &[&str]) -> Result<Service> {
        Service::start_as(tool, name, &self.endpoints, self.dir.path(), more).await
    }

    /// Waits until a service says so of a version of a document: its id, and what it says of why.
    async fn says(
        &self,
        app: &str,
        service: &Service,
        document: &str,
        said: &str,
    ) -> Result<(String, String)> {
        let port = service.address.rsplit(':').next().unwrap_or_default();
        let (end, said) = (format!("-{port}"), format!("{document} {said}"));
        let mut last = String::new();
        let found = wait_until(&said, HEARD_WITHIN, async || {
            last = self.run(&["listeners", app]).ok()?.ok().ok()?;
            last.lines().find_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let (id, rest) = words.split_first()?;
                let rest = rest.join(" ");
                let why = rest.strip_prefix(&said).filter(|_| id.ends_with(&end))?;
                Some(((*id).to_owned(), why.trim().to_owned()))
            })
        })
        .await;
        found.with_context(|| last)
    }

    /// Takes all documents away, and lets the services leave.
    async fn leave(&self, g: &Ground<'_>, services: Vec<Service>) -> Result<()> {
        for service in services {
            let (code, printed) = service.running.terminate().await?;
            ensure!(code == 0, "{printed}");
        }
        for prefix in ["/config", "/registry"] {
            g.ok(&["del", "--prefix", prefix])?;
        }
        Ok(())
    }
}

/// Callers that call until they are stopped. Every one of their requests has to be answered with the user.
struct Load {
    answered: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    failed: Arc<Mutex<Option<String>>>,
    callers: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(gateways: &[&Service]) -> Self {
        let (answered, stopped) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let failed = Arc::<Mutex<Option<String>>>::default();
        let caller = |gateway: &&Service| {
            let (address, answered) = (gateway.address.clone(), answered.clone());
            let (stopped, failed) = (stopped.clone(), failed.clone());
            tokio::spawn(async move {
                while !stopped.load(Ordering::Relaxed) {
                    if let Err(error) = first_user(&address).await {
                        failed.lock().get_or_insert(format!("{error:#}"));
                        return;
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let gateways = gateways.iter().cycle().take(CALLERS * gateways.len());
        Self {
            callers: gateways.map(caller).collect(),
            answered,
            stopped,
            failed,
        }
    }

    /// How many requests have been answered, none of which failed.
    fn answered(&self) -> Result<u64> {
        let answered = self.answered.load(Ordering::Relaxed);
        match &*self.failed.lock() {
            Some(error) => bail!("after {answered} answers: {error}"),
            None => Ok(answered),
        }
    }

    /// Waits until more have been answered.
    async fn goes_on(&self) -> Result<()> {
        let before = self.answered()?;
        wait_until("callers are answered", PATIENCE, async || {
            match self.answered() {
                Ok(answered) => (answered >= before + SOME).then_some(Ok(())),
                Err(error) => Some(Err(error)),
            }
        })
        .await?
    }

    /// How many requests there were, none of which failed.
    async fn stop(self) -> Result<u64> {
        self.stopped.store(true, Ordering::Relaxed);
        let answered = self.answered();
        try_join_all(self.callers).await?;
        answered
    }
}

/// What a gateway answers to a body of so many bytes that names no user.
async fn answer_to(gateway: &Service, bytes: usize) -> Result<u16> {
    let body = format!("{{\"name\":\"{}\"}}", "x".repeat(bytes.saturating_sub(11)));
    ensure!(body.len() == bytes, "{} bytes", body.len());
    Ok(request(&gateway.address, "POST", "/users", &body)
        .await?
        .status)
}

/// Waits until a body of so many bytes is answered so.
async fn answers(gateway: &Service, bytes: usize, status: u16) -> Result<()> {
    let what = format!("{bytes} bytes are answered {status}");
    wait_until(&what, HEARD_WITHIN, async || {
        (answer_to(gateway, bytes).await.ok()? == status).then_some(())
    })
    .await
}

/// How many lines of requests the log of a process has.
fn lines(service: &Service) -> usize {
    service.running.printed().matches("trace-id").count()
}

/// The example of the article: limits and switches change without a restart, at all instances, in seconds.
async fn limits_and_level_change_under_load(g: &Ground<'_>) -> Result<()> {
    let operator = Operator::of(g)?;
    let user = operator.start("user", &[]).await?;
    let one = operator.start("gateway", &[]).await?;
    let told = ["--gateway-body-bytes-max=4096"];
    let two = operator.start("gateway", &told).await?;
    for service in [&user, &one, &two] {
        service.ready().await?;
    }
    create(&one.address).await?;
    let load = Load::on(&[&one, &two]);
    load.goes_on().await?;
    ensure!(answer_to(&one, 300).await? == 400);

    operator.put(
        "gateway",
        "[gateway]\nbody-bytes-max = 256\nrequest-timeout = '2500ms'\n",
    )?;
    answers(&one, 300, 413).await?;
    ensure!(answer_to(&one, 256).await? == 400);
    for gateway in [&one, &two] {
        operator
            .says("gateway", gateway, "app.toml", "1 applied")
            .await?;
    }
    // A flag is above all documents.
    ensure!(answer_to(&two, 300).await? == 400);
    let explained = operator.explain(&[])?;
    let rows = [
        "gateway.body-bytes-max 256 gateway/app.toml version 1",
        "gateway.request-timeout 2500ms gateway/app.toml version 1",
        "gateway.call-timeout 2s default",
    ];
    for row in rows {
        ensure!(explained.contains(row), "{row}: {explained}");
    }
    let explained = operator.explain(&told)?;
    let row = "gateway.body-bytes-max 4096 --gateway-body-bytes-max";
    ensure!(explained.contains(row), "{explained}");
    load.goes_on().await?;

    operator.put("_shared", "log-level = 'warn'\n")?;
    for (app, service) in [("gateway", &one), ("gateway", &two), ("user", &user)] {
        operator
            .says(app, service, "_shared/app.toml", "1 applied")
            .await?;
        let quiet = async || {
            let before = lines(service);
            let went_on = load.goes_on().await;
            (went_on.is_err() || lines(service) == before).then_some(went_on)
        };
        wait_until("no line is written any more", HEARD_WITHIN, quiet).await??;
    }
    operator.put("_shared", "log-level = 'info'\n")?;
    for gateway in [&one, &two] {
        let before = lines(gateway);
        let again = async || (lines(gateway) > before).then_some(());
        wait_until("lines are written again", HEARD_WITHIN, again).await?;
    }
    operator.put("gateway", "")?;
    answers(&one, 300, 400).await?;
    load.goes_on().await?;
    let answered = load.stop().await?;
    ensure!(answered > 4 * SOME, "{answered}");

    // What a process reads at its start waits for the next.
    operator.put("user", "[user]\nttl = '20s'\n")?;
    operator
        .says("user", &user, "app.toml", "1 restart required")
        .await?;
    operator.leave(g, vec![two, one, user]).await
}

async fn timeouts_change_at_some_instances_first(g: &Ground<'_>) -> Result<()> {
    let operator = Operator::of(g)?;
    let user = operator.start("user", &[]).await?;
    let one = operator.start("gateway", &[]).await?;
    let two = operator.start("gateway", &[]).await?;
    for service in [&user, &one, &two] {
        service.ready().await?;
    }
    create(&one.address).await?;
    operator.put("gateway", "[gateway]\nrequest-timeout = '5s'\n")?;
    operator
        .says("gateway", &one, "app.toml", "1 applied")
        .await?;
    let (id, _) = operator
        .says("gateway", &two, "app.toml", "1 applied")
        .await?;
    let load = Load::on(&[&one]);
    let only = format!("--id={id}");
    for short in ["request-timeout = '1ms'", "call-timeout = '1us'"] {
        let file = operator.file("gray", &format!("[gateway]\n{short}\n"))?;
        let put = ["gray", "put", "gateway", "app.toml", "short", &file, &only];
        operator.run(&put)?.ok()?;
        let late = async || {
            let answer = get(&two.address, "/user/1").await.ok()?;
            (answer.status == 504).then_some(())
        };
        wait_until(short, HEARD_WITHIN, late).await?;
        load.goes_on().await?;
        operator
            .run(&["gray", "abort", "gateway", "app.toml", "short"])?
            .ok()?;
        let again = async || first_user(&two.address).await.ok();
        wait_until("there is time again", HEARD_WITHIN, again).await?;
    }
    load.goes_on().await?;
    load.stop().await?;
    operator.leave(g, vec![two, one, user]).await
}

async fn a_wrong_document_changes_nothing_and_says_so(g: &Ground<'_>) -> Result<()> {
    let operator = Operator::of(g)?;
    let one = operator.start("gateway", &[]).await?;
    operator.put("gateway", "[gateway]\nbody-bytes-max = 256\n")?;
    answers(&one, 300, 413).await?;
    let wrong = [
        (
            "request-timeout = 'soon'",
            "gateway.request-timeout: expected a time above 0 such as 3s, found a string",
        ),
        (
            "listen = '0.0.0.0:80'",
            "gateway.listen is told to the process itself",
        ),
        (
            "body-idle = '${nowhere}'",
            "gateway.body-idle: ${nowhere} names nothing",
        ),
        (
            "body-byte-max = 1",
            "gateway.body-byte-max: expected no such key, found one",
        ),
    ];
    for (n, (line, why)) in wrong.into_iter().enumerate() {
        operator.put(
            "gateway",
            &format!("[gateway]\nbody-bytes-max = 512\n{line}\n"),
        )?;
        let said = format!("{} rejected", n + 2);
        let (_, reason) = operator.says("gateway", &one, "app.toml", &said).await?;
        ensure!(reason.contains(why), "{reason}");
        ensure!(answer_to(&one, 300).await? == 413);
    }
    let listeners = get(&one.address, "/v1/config/default/gateway/listeners")
        .await?
        .body;
    ensure!(listeners.contains(r#""state":"rejected""#), "{listeners}");

    let explained = operator.explain(&[])?;
    let line = "gateway/app.toml version 5 is refused by gateway: gateway.body-byte-max";
    ensure!(
        explained.contains("gateway.body-bytes-max 1048576 default") && explained.contains(line),
        "{explained}"
    );

    // Who starts now begins with what it was told itself, and says why.
    let two = operator.start("gateway", &[]).await?;
    let (_, reason) = operator
        .says("gateway", &two, "app.toml", "5 rejected")
        .await?;
    ensure!(reason.contains("gateway.body-byte-max"), "{reason}");
    ensure!(answer_to(&two, 300).await? == 400);
    operator.put("gateway", "[gateway]\nbody-bytes-max = 128\n")?;
    for gateway in [&one, &two] {
        operator
            .says("gateway", gateway, "app.toml", "6 applied")
            .await?;
        answers(gateway, 200, 413).await?;
    }
    operator.leave(g, vec![two, one]).await
}

async fn what_documents_said_last_holds_without_the_store(g: &mut Ground<'_>) -> Result<()> {
    let operator = Operator::of(g)?;
    let cold = operator.dir.path().join("cold").display().to_string();
    let cold = format!("--cold-file={cold}");
    let gateway = operator.start("gateway", &[&cold]).await?;
    operator.put("gateway", "[gateway]\nbody-bytes-max = 256\n")?;
    answers(&gateway, 300, 413).await?;
    let (code, printed) = gateway.running.terminate().await?;
    ensure!(code == 0, "{printed}");
    g.cluster.members[0].kill()?;
    let again = operator.start("gateway", &[&cold]).await?;
    answers(&again, 300, 413).await?;
    ensure!(answer_to(&again, 200).await? == 400);
    g.cluster.start_all().await?;
    operator.put("gateway", "[gateway]\nbody-bytes-max = 128\n")?;
    answers(&again, 200, 413).await?;
    operator.leave(g, vec![again]).await
}

/// A setting whose digits are nowhere by themselves.
const SECRET: &str = "7316553ms";

async fn what_is_sealed_opens_where_its_key_is_and_shows_nowhere(g: &Ground<'_>) -> Result<()> {
    let operator = Operator::of(g)?;
    let keys = operator.dir.path().join("keys").display().to_string();
    operator.run(&["key", &keys])?.ok()?;
    let flag = format!("--config-keys={keys}");
    let key = fs::read_to_string(&keys)?;
    let (id, _) = key.split_once(':').context("a key has an id")?;
    let seal = |path: &str, secret: &str| -> Result<String> {
        let secret = operator.file("secret", &format!("{secret}\n"))?;
        let sealed = operator.run(&["seal", "gateway", "app.toml", path, &secret, &flag])?;
        Ok(sealed.ok()?.trim().to_owned())
    };
    let bytes = seal("gateway.body-bytes-max", "256")?;
    let idle = seal("gateway.body-idle", SECRET)?;
    let document =
        |idle: &str| format!("[gateway]\nbody-bytes-max = '{bytes}'\nbody-idle = '{idle}'\n");

    // One by a file, one by a variable; one without, one with another key of the same name.
    let debug = "--log-level=debug";
    let by_file = operator.start("gateway", &[&flag, debug]).await?;
    let with = catena()?.env("CATENA_CONFIG_KEY", key.trim());
    let by_variable = operator.start_as(&with, "gateway", &[debug]).await?;
    let without = operator.start("gateway", &[debug]).await?;
    let other = operator.dir.path().join("other").display().to_string();
    operator.run(&["key", &other])?.ok()?;
    let other = fs::read_to_string(&other)?;
    let (_, other) = other.split_once(':').context("a key has an id")?;
    let impostor = catena()?.env("CATENA_CONFIG_KEY", &format!("{id}:{}", other.trim()));
    let impostor = operator.start_as(&impostor, "gateway", &[debug]).await?;

    operator.put("gateway", &document(&idle))?;
    for gateway in [&by_file, &by_variable] {
        operator
            .says("gateway", gateway, "app.toml", "1 applied")
            .await?;
        answers(gateway, 300, 413).await?;
    }
    for (gateway, why) in [
        (
            &without,
            format!(
                "is sealed with the key \"{id}\", which this process does not have: it has none"
            ),
        ),
        (&impostor, format!("does not open with the key \"{id}\"")),
    ] {
        let (_, reason) = operator
            .says("gateway", gateway, "app.toml", "1 rejected")
            .await?;
        ensure!(
            reason.contains(&format!("gateway.body-bytes-max {why}")),
            "{reason}"
        );
        ensure!(answer_to(gateway, 300).await? == 400);
    }

    // Moved elsewhere it opens for nobody; cut off, it is not even published.
    operator.put("gateway", &format!("moved = '{idle}'\n"))?;
    let (_, reason) = operator
        .says("gateway", &by_file, "app.toml", "2 rejected")
        .await?;
    ensure!(reason.contains("moved does not open"), "{reason}");
    ensure!(answer_to(&by_file, 300).await? == 413);
    let cut = operator.file("cut", &document(&idle[..idle.len() - 3]))?;
    let refused = operator.run(&["put", "gateway", "app.toml", &cut])?.err()?;
    ensure!(refused.contains("is no whole sealed value"), "{refused}");

    operator.put("gateway", &document(&seal("gateway.body-idle", SECRET)?))?;
    operator
        .says("gateway", &by_file, "app.toml", "3 applied")
        .await?;
    let mut shown = String::new();
    for words in [
        &["get", "gateway", "app.toml"][..],
        &["diff", "gateway", "app.toml", "1", "3"],
        &["history", "gateway", "app.toml"],
        &["listeners", "gateway"],
    ] {
        shown.push_str(&operator.run(words)?.ok()?);
    }
    ensure!(shown.contains(&format!("enc:v1:{id}:***")), "{shown}");
    for path in ["", "/history/1", "/diff?from=1&to=3"] {
        let path = format!("/v1/config/default/gateway/app.toml{path}");
        let answer = get(&by_file.address, &path).await?;
        ensure!(answer.status == 200, "{answer:?}");
        shown.push_str(&answer.body);
    }
    shown.push_str(&g.ok(&["get", "--prefix", "/config"])?);
    for gateway in [&by_file, &by_variable, &without, &impostor] {
        shown.push_str(&gateway.running.printed());
    }
    for secret in ["7316553", key.trim(), other.trim()] {
        ensure!(!shown.contains(secret), "{secret}: {shown}");
    }
    let gateways = vec![by_file, by_variable, without, impostor];
    operator.leave(g, gateways).await
}

async fn secrets_are_made_without_a_store(_: &Ground<'_>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let keys = dir.path().join("keys").display().to_string();
    let tool = catena()?.env("CATENA_ENDPOINTS", "http://127.0.0.1:1");
    let config =
        |words: &[&str], input: &str| tool.run_with(&[&["ctl", "config"], words].concat(), input);
    let seal = ["seal", "shop", "app.toml", "db.password"];
    let refused = config(&seal, "hunter2")?.err()?;
    ensure!(
        refused.contains("there is no key to seal with")
            && refused.contains("catena ctl config key"),
        "{refused}"
    );
    let told = config(&["key", &keys], "")?.ok()?;
    let key = fs::read_to_string(&keys)?;
    let (id, secret) = key.trim().split_once(':').context("a key has an id")?;
    ensure!(told.contains(id) && !told.contains(secret), "{told}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&keys)?.permissions());
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let refused = config(&["key", &keys], "")?.err()?;
    ensure!(refused.contains("only written to a new file"), "{refused}");
    ensure!(fs::read_to_string(&keys)? == key, "it stands as it was");

    let flag = format!("--config-keys={keys}");
    let sealed = config(&[&seal[..], &[&flag]].concat(), "hunter2\n")?.ok()?;
    ensure!(sealed.starts_with(&format!("enc:v1:{id}:")), "{sealed}");
    let with = tool.clone().env("CATENA_CONFIG_KEY", key.trim());
    let sealed = with.run_with(&[&["ctl", "config"], &seal[..]].concat(), "hunter2")?;
    ensure!(sealed.ok()?.starts_with(&format!("enc:v1:{id}:")));

    for (text, why) in [
        ("hunter2", "a key is 32 bytes in base64"),
        ("", "there is no key"),
    ] {
        fs::write(&keys, text)?;
        let refused = config(&[&seal[..], &[&flag]].concat(), "x")?.err()?;
        ensure!(
            refused.contains(why) && !refused.contains("hunter2"),
            "{refused}"
        );
    }
    let nowhere = dir.path().join("nowhere").display().to_string();
    let nowhere = format!("--config-keys={nowhere}");
    let refused = catena()?.run(&["run", "gateway", "--gateway-listen=127.0.0.1:0", &nowhere])?;
    let refused = refused.err()?;
    ensure!(
        refused.contains("cannot read the keys of the configuration"),
        "{refused}"
    );
    Ok(())
}
