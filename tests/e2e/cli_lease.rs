//! etcdctl: leases.

use anyhow::{Context, Result, ensure};

use crate::case::{Case, Ground, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(a_lease_from_grant_to_revoke).every_release(),
        case!(keep_alive_goes_on).every_release(),
        case!(an_expired_lease_is_told).every_release(),
    ]
}

fn grant(g: &Ground<'_>, ttl: &str) -> Result<String> {
    let printed = g.ok(&["lease", "grant", ttl])?;
    let id = printed
        .split_whitespace()
        .nth(1)
        .context("an id")?
        .to_owned();
    ensure!(
        printed == format!("lease {id} granted with TTL({ttl}s)\n"),
        "{printed}"
    );
    Ok(id)
}

async fn a_lease_from_grant_to_revoke(g: &Ground<'_>) -> Result<()> {
    let id = grant(g, "100")?;
    g.ok(&["put", "k", "v", "--lease", &id])?;
    let printed = g.ok(&["lease", "timetolive", &id, "--keys"])?;
    ensure!(
        printed.starts_with(&format!("lease {id} granted with TTL(100s), remaining(")),
        "{printed}"
    );
    ensure!(printed.contains("attached keys([k])"), "{printed}");
    let printed = g.ok(&["lease", "keep-alive", "--once", &id])?;
    ensure!(
        printed == format!("lease {id} keepalived with TTL(100)\n"),
        "{printed}"
    );
    let printed = g.ok(&["lease", "list"])?;
    ensure!(printed == format!("found 1 leases\n{id}\n"), "{printed}");
    ensure!(g.ok(&["lease", "revoke", &id])? == format!("lease {id} revoked\n"));
    ensure!(g.ok(&["get", "k"])?.is_empty());
    ensure!(g.ok(&["lease", "timetolive", &id])? == format!("lease {id} already expired\n"));
    Ok(())
}

async fn keep_alive_goes_on(g: &Ground<'_>) -> Result<()> {
    let id = grant(g, "3")?;
    let running = g.ctl.follow(&["lease", "keep-alive", &id])?;
    let line = format!("lease {id} keepalived with TTL(3)\n");
    running.prints(&line.repeat(4)).await?;
    ensure!(g.ok(&["lease", "timetolive", &id])?.contains("remaining("));
    Ok(())
}

async fn an_expired_lease_is_told(g: &Ground<'_>) -> Result<()> {
    let id = grant(g, "2")?;
    let start = (g.revision().await? + 1).to_string();
    g.ok(&["put", "k", "v", "--lease", &id])?;
    let watch = g.ctl.follow(&["watch", "k", "--rev", &start])?;
    watch.prints("DELETE\nk\n").await?;
    ensure!(g.ok(&["lease", "timetolive", &id])? == format!("lease {id} already expired\n"));
    let printed = g.fails(&["lease", "keep-alive", "--once", &id])?;
    ensure!(printed.contains("requested lease not found"), "{printed}");
    Ok(())
}
