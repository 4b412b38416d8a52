//! SIGKILL under load.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use framework::{Cluster, Load, Target, kept, wait_until};
use tokio::time::timeout;

use crate::{
    case::{Case, Ground, case},
    failure::endpoints,
};

/// Rounds on our members. The real etcd runs enough to prove the test.
const ROUNDS: usize = 20;
const ROUNDS_OF_ETCD: usize = 4;
/// Every so many rounds all members are killed at once.
const ALL_EVERY: usize = 4;
/// Writes go on by then after a member died. It bounds a hang: how soon they do is measured, not asserted.
const WRITES_GO_ON_WITHIN: Duration = Duration::from_secs(30);
/// One attempt of the write that measures this.
const ATTEMPT: Duration = Duration::from_millis(500);
/// Each round sees so many acknowledged writes before it kills.
const WRITES_BEFORE: usize = 50;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(every_member_in_turn_and_all_at_once)
            .members(3)
            .fresh(&[]),
        case!(one_member_alone).fresh(&[]),
    ]
}

fn rounds(cluster: &Cluster) -> usize {
    match cluster.setup.target {
        Target::Etcd(_) => ROUNDS_OF_ETCD,
        Target::Catena | Target::InProcess => ROUNDS,
    }
}

async fn every_member_in_turn_and_all_at_once(g: &mut Ground<'_>) -> Result<()> {
    let load = Load::start(&endpoints(g.cluster), 8);
    for round in 0..rounds(g.cluster) {
        under_load(&load)
            .await
            .with_context(|| format!("round {round}"))?;
        if round % ALL_EVERY == ALL_EVERY - 1 {
            for member in &mut g.cluster.members {
                member.kill()?;
            }
        } else {
            // Each member in turn, and the leader in every second round, so that both kinds fall.
            let place = if round % 2 == 0 {
                g.cluster.leader().await?
            } else {
                round % 3
            };
            g.cluster.members[place].kill()?;
            goes_on(g.cluster, place)
                .await
                .with_context(|| format!("round {round}"))?;
        }
        g.cluster
            .start_all()
            .await
            .with_context(|| format!("round {round}"))?;
    }
    under_load(&load).await?;
    let acknowledged = load.stop().await?;
    for place in 0..3 {
        kept(&g.cluster.client(place)?, &acknowledged).await?;
    }
    let hashes = g.cluster.hashes().await?;
    ensure!(
        hashes.windows(2).all(|pair| pair[0].hash == pair[1].hash),
        "{hashes:?}"
    );
    Ok(())
}

async fn one_member_alone(g: &mut Ground<'_>) -> Result<()> {
    let load = Load::start(&[g.cluster.members[0].endpoint()], 4);
    for round in 0..rounds(g.cluster) / 2 {
        under_load(&load)
            .await
            .with_context(|| format!("round {round}"))?;
        g.cluster.members[0].kill()?;
        g.cluster
            .start_all()
            .await
            .with_context(|| format!("round {round}"))?;
    }
    let acknowledged = load.stop().await?;
    kept(&g.cluster.client(0)?, &acknowledged).await
}

async fn under_load(load: &Load) -> Result<()> {
    let begin = load.acknowledged();
    let written = async || (load.acknowledged() > begin + WRITES_BEFORE).then_some(());
    wait_until("writes are acknowledged", Duration::from_secs(30), written).await
}

/// Demands that a member that is left takes a write soon.
async fn goes_on(cluster: &Cluster, killed: usize) -> Result<()> {
    let begin = Instant::now();
    let mut attempt = 0;
    let clients = [cluster.client(killed + 1)?, cluster.client(killed + 2)?];
    wait_until("writes go on", WRITES_GO_ON_WITHIN, async || {
        attempt += 1;
        let client = &clients[attempt % 2];
        timeout(ATTEMPT, client.put("after", attempt.to_string()))
            .await
            .ok()?
            .ok()
    })
    .await
    .with_context(|| {
        format!(
            "{:?} after {} was killed",
            begin.elapsed(),
            cluster.members[killed].name
        )
    })?;
    Ok(())
}
