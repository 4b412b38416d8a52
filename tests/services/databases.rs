//! The real MariaDB and PostgreSQL: the same users, and statements that end with their request.
//!
//! Each test has a server of its own, in a directory of its own, reached over a Unix socket so that no port can be taken.

use std::{
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use framework::{Left, leave_out, wait_until};
use sqlx::{Connection, MySqlConnection, PgConnection, Row};
use tempfile::TempDir;

use crate::{
    servers::{self, MARIADB, POSTGRES, Programs},
    stand::{Stand, Way, Wish},
    users,
    wire::{Client, Version},
};

/// A server that was killed by another test's load takes seconds to start.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// As root, servers run as nobody: PostgreSQL refuses to be root.
const NOBODY: u32 = 65_534;

/// A server that ends with the test.
struct Server {
    child: Child,
    _directory: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The programs, or none after saying so; an error where nothing may be left out.
fn programs(server: &servers::Server, wanted: &[&str]) -> Result<Option<Programs>> {
    match server.programs(wanted) {
        Ok(programs) => Ok(Some(programs)),
        Err(missing) => {
            let Left::Out = leave_out("the user service on a real database", &missing)?;
            Ok(None)
        }
    }
}

/// As an unprivileged user in a directory of its own.
fn command(programs: &Programs, name: &str, directory: &Path) -> Command {
    let mut command = programs.command(name);
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn directory() -> Result<TempDir> {
    let directory = tempfile::tempdir()?;
    if rustix::process::geteuid().is_root() {
        chown(directory.path(), Some(NOBODY), Some(NOBODY))?;
    }
    Ok(directory)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// A database that holds nothing, and its URL.
async fn postgres() -> Result<Option<(Server, String)>> {
    let Some(programs) = programs(&POSTGRES, &["initdb", "postgres"])? else {
        return Ok(None);
    };
    let directory = directory()?;
    let data = directory.path().join("data");
    let path = directory.path().display().to_string();
    run(command(&programs, "initdb", directory.path())
        .arg("-D")
        .arg(&data)
        .args([
            "-U",
            "catena",
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ]))?;
    let child = command(&programs, "postgres", directory.path())
        .arg("-D")
        .arg(&data)
        .args(["-h", "", "-k", &path, "-c", "fsync=off"])
        .spawn()?;
    let server = Server {
        child,
        _directory: directory,
    };
    let url = format!("postgres://catena@localhost/postgres?host={path}");
    wait_until("PostgreSQL answers", STARTED_WITHIN, async || {
        PgConnection::connect(&url).await.ok()
    })
    .await?;
    Ok(Some((server, url)))
}

async fn mariadb() -> Result<Option<(Server, String)>> {
    let Some(programs) = programs(&MARIADB, &["mariadb-install-db", "mariadbd"])? else {
        return Ok(None);
    };
    // What is unpacked does not find its own files.
    let base = programs.unpacked.as_ref();
    let base = base.map(|dir| format!("--basedir={}", dir.join("usr").display()));
    let directory = directory()?;
    let path = directory.path().display().to_string();
    run(command(&programs, "mariadb-install-db", directory.path())
        .args(["--no-defaults", "--auth-root-authentication-method=normal"])
        .args(&base)
        .arg(format!("--datadir={path}/data")))?;
    let child = command(&programs, "mariadbd", directory.path())
        .args([
            "--no-defaults",
            "--skip-networking",
            "--innodb-flush-log-at-trx-commit=0",
        ])
        .args(&base)
        .arg(format!("--datadir={path}/data"))
        .arg(format!("--socket={path}/socket"))
        .arg(format!("--pid-file={path}/pid"))
        .spawn()?;
    let server = Server {
        child,
        _directory: directory,
    };
    let url = format!("mariadb://root@localhost/test?socket={path}/socket");
    let plain = url.replace("mariadb:", "mysql:");
    wait_until("MariaDB answers", STARTED_WITHIN, async || {
        MySqlConnection::connect(&plain).await.ok()
    })
    .await?;
    Ok(Some((server, url)))
}

async fn stand(url: &str, way: Way) -> Stand {
    let database = Some(url.to_owned());
    Stand::start(Wish {
        way,
        database,
        ..Wish::default()
    })
    .await
}

/// A read that waits for a lock ends by its deadline.
async fn ends_late(stand: &Stand) {
    let mut client = Client::connect(Version::Http1, stand.address()).await;
    let late = client
        .ask_with("GET", "/user/1", &[("x-request-timeout-ms", "500")], "")
        .await;
    assert_eq!(
        (late.status, late.reason().as_str()),
        (504, "DEADLINE_EXCEEDED")
    );
}

async fn works_again(stand: &Stand) {
    let mut client = Client::connect(Version::Http1, stand.address()).await;
    let nobody = "/user/9223372036854775807";
    wait_until("the database answers in time", STARTED_WITHIN, async || {
        let answer = client.ask("GET", nobody, None).await;
        let late = matches!(answer.status, 503 | 504);
        assert!(late || answer.reason() == "USER_NOT_FOUND", "{answer:?}");
        (!late).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn postgres_keeps_users_and_deadlines() -> Result<()> {
    let Some((server, url)) = postgres().await? else {
        return Ok(());
    };
    let stand = stand(&url, Way::Channel).await;
    users::live(&stand).await;
    users::ids_are_new(&stand).await;
    users::a_thousand(&stand).await;

    let mut other = PgConnection::connect(&url).await?;
    sqlx::raw_sql("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        .execute(&mut other)
        .await?;
    ends_late(&stand).await;
    wait_until(
        "nothing waits in the database",
        STARTED_WITHIN,
        async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
            let count: i64 = sqlx::query(waiting)
                .fetch_one(&mut other)
                .await
                .ok()?
                .get(0);
            (count == 0).then_some(())
        },
    )
    .await?;
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await?;
    works_again(&stand).await;
    drop(server);
    Ok(())
}

#[tokio::test]
async fn mariadb_keeps_users_and_deadlines() -> Result<()> {
    let Some((server, url)) = mariadb().await? else {
        return Ok(());
    };
    let stand = stand(&url, Way::Local).await;
    users::live(&stand).await;
    users::ids_are_new(&stand).await;
    users::a_thousand(&stand).await;

    let mut other = MySqlConnection::connect(&url.replace("mariadb:", "mysql:")).await?;
    sqlx::raw_sql("LOCK TABLES users WRITE")
        .execute(&mut other)
        .await?;
    ends_late(&stand).await;
    wait_until("nothing waits in the database", STARTED_WITHIN, async || {
        let waiting = "SELECT count(*) FROM information_schema.processlist WHERE state LIKE 'Waiting for table%'";
        let count: i64 = sqlx::query(waiting).fetch_one(&mut other).await.ok()?.get(0);
        (count == 0).then_some(())
    })
    .await?;
    sqlx::raw_sql("UNLOCK TABLES").execute(&mut other).await?;
    works_again(&stand).await;
    drop(server);
    Ok(())
}
