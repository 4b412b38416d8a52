//! What each program says, and what is done between its lines.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use framework::{Client, Cluster, Running, Setup, Target, wait_until};
use tokio::time::Instant;

use crate::languages::Program;

/// The TTL that the programs ask for.
const LEASE_TTL: Duration = Duration::from_secs(3);

/// All that a program says, but for `renewed`, which it says whenever its lease was renewed.
const LINES: [&str; 10] = [
    "put",
    "get one",
    "txn then",
    "txn else two",
    "lease",
    "watching",
    "event put 1",
    "event put 2",
    "event delete",
    "done",
];

/// Runs a program against a member that is killed and restarted while the program watches and keeps its lease alive.
pub(crate) async fn hold(target: Target, program: &Program) -> Result<()> {
    let mut cluster = Cluster::start(Setup::new(target, 1)).await?;
    let member = &mut cluster.members[0];
    let mut args = program.args.clone();
    args.push(member.endpoint().into());
    let mut running = program.tool.follow(&args)?;

    running.prints("watching").await?;
    member.client()?.put("c/watched", "1").await?;
    running.prints("event put 1").await?;

    member.kill()?;
    member.start()?;
    member.ready().await?;
    let client = member.client()?;
    client.put("c/watched", "2").await?;
    running.prints("event put 2").await?;
    lease_lives_on(&client, &running).await?;

    client.delete("c/watched").await?;
    running.prints("done").await?;
    let (code, printed) = running.end().await?;
    ensure!(code == 0, "exit code {code}: {printed}");
    let said: Vec<_> = printed.lines().filter(|line| is_said(line)).collect();
    ensure!(said == LINES, "{printed}");
    ensure!(
        client.get("c/leased").await?.kvs.is_empty(),
        "the lease is not revoked"
    );
    Ok(())
}

/// Looks on for twice the TTL, within which a lease that nobody renews ends.
async fn lease_lives_on(client: &Client, running: &Running) -> Result<()> {
    let (begin, before) = (Instant::now(), renewals(running));
    wait_until(
        "a lease that lives on",
        LEASE_TTL * 5,
        async || match client.get("c/leased").await {
            Ok(answer) if answer.kvs.is_empty() => {
                Some(Err(anyhow!("the lease ended: {}", running.printed())))
            }
            Ok(_) => {
                (begin.elapsed() > LEASE_TTL * 2 && renewals(running) > before).then_some(Ok(()))
            }
            Err(status) => Some(Err(status.into())),
        },
    )
    .await?
}

fn renewals(running: &Running) -> usize {
    let printed = running.printed();
    printed.lines().filter(|line| *line == "renewed").count()
}

/// Libraries write warnings of their own during the outage.
fn is_said(line: &str) -> bool {
    let word = line.split(' ').next();
    line != "renewed" && LINES.iter().any(|said| said.split(' ').next() == word)
}
