//! Members that join, are promoted, leave, are replaced, or are away for so long that the log has gone on without them.

use std::time::Duration;

use anyhow::Result;
use catena_api::etcd::etcdserverpb as pb;
use framework::wait_until;
use serde_json::json;

use super::{Fault, fault};
use crate::ground::Ground;

pub(super) const FAULTS: &[Fault] = &[
    fault!("add-and-remove", Plain, add_and_remove).reseats(),
    fault!("replace", Plain, replace_running)
        .of_three()
        .reseats(),
    fault!("away-until-snapshot", Plain, away).of_three(),
];

/// A change of members is taken by then: it waits for a leader and for the members to be in touch for some seconds.
const CHANGED_WITHIN: Duration = Duration::from_secs(60);
/// More answers than entries are kept for a member that is away.
const AWAY_ANSWERS: u64 = 2_500;
/// How members say that they have taken a snapshot over: ours and etcd's words.
const INSTALLED: [&str; 3] = [
    "installed snapshot",
    "applied snapshot",
    "restored incoming snapshot",
];

/// A fourth member joins as a learner, votes, and leaves again.
async fn add_and_remove(g: &mut Ground) -> Result<()> {
    let place = join(g).await?;
    g.goes_on(200).await?;
    leave(g, place).await
}

/// A member is lost with its disk, and another takes its place.
async fn replace_running(g: &mut Ground) -> Result<()> {
    let place = g.follower().await?;
    let name = g.name(place);
    let going = g.begin("replace", &[place], &[]);
    let status = g.kill(place).await?;
    replace(g, place).await?;
    g.end(
        going,
        "exit status of the one that is gone",
        format!("{name}: {status}"),
    )
}

/// Takes a member that does not run out of the cluster, removes its data and lets a new one join.
pub(super) async fn replace(g: &mut Ground, place: usize) -> Result<()> {
    let id = id_of(g, place).await?;
    remove(g, place, id).await?;
    join(g).await?;
    Ok(())
}

/// Adds a learner, starts it and promotes it; gives its place.
async fn join(g: &mut Ground) -> Result<usize> {
    let name = g.next_name();
    let going = g.begin("member-add", &[], &[("name", json!(name))]);
    let url = g.cluster.joining(&name)?.peer_url();
    let place = g.size() - 1;
    let request = pb::MemberAddRequest {
        peer_urls: vec![url.clone()],
        is_learner: true,
    };
    let id = wait_until("a learner is added", CHANGED_WITHIN, async || {
        let client = &g.seats.at(0).client;
        let had = client.members().await.ok()?;
        // An attempt whose answer was lost may have been taken.
        if let Some(member) = had.iter().find(|member| member.peer_urls.contains(&url)) {
            return Some(member.id);
        }
        let added = client.cluster().member_add(request.clone()).await.ok()?;
        added.into_inner().member.map(|member| member.id)
    })
    .await?;
    g.joined(&name, id);
    g.launch(place)?;
    g.cluster.members[place].listening().await?;
    wait_until("the learner is promoted", CHANGED_WITHIN, async || {
        let client = &g.seats.at(0).client;
        let had = client.members().await.ok()?;
        if had
            .iter()
            .any(|member| member.id == id && !member.is_learner)
        {
            return Some(());
        }
        let request = pb::MemberPromoteRequest { id };
        client
            .cluster()
            .member_promote(request)
            .await
            .ok()
            .map(drop)
    })
    .await?;
    g.ready(place).await?;
    let seat = g.seats.add(&g.cluster.members[place])?;
    g.load.add_witness(&seat);
    g.end(going, "id of the member", format!("{id:x}"))?;
    Ok(place)
}

/// Removes a member that runs.
async fn leave(g: &mut Ground, place: usize) -> Result<()> {
    let id = id_of(g, place).await?;
    remove(g, place, id).await
}

async fn remove(g: &mut Ground, place: usize, id: u64) -> Result<()> {
    let name = g.name(place);
    let going = g.begin("member-remove", &[place], &[]);
    g.seats.remove(&name);
    let left = wait_until("a member is removed", CHANGED_WITHIN, async || {
        let client = &g.seats.at(0).client;
        let had = client.members().await.ok()?;
        if had.iter().all(|member| member.id != id) {
            return Some(had.len());
        }
        let request = pb::MemberRemoveRequest { id };
        client.cluster().member_remove(request).await.ok()?;
        None
    })
    .await?;
    g.forget(place).await?;
    g.end(going, "members that are left", left)
}

async fn id_of(g: &Ground, place: usize) -> Result<u64> {
    let name = g.name(place);
    let mut asked = place;
    let what = format!("somebody knows {name}");
    wait_until(&what, CHANGED_WITHIN, async || {
        asked += 1;
        let members = g.seats.at(asked).client.members().await.ok()?;
        let member = members.iter().find(|member| member.name == name)?;
        Some(member.id)
    })
    .await
}

/// A follower is away while the others cut their log behind a snapshot.
async fn away(g: &mut Ground) -> Result<()> {
    let place = g.follower().await?;
    let going = g.begin("away-until-snapshot", &[place], &[]);
    g.kill(place).await?;
    let before = installed(g, place);
    g.goes_on(AWAY_ANSWERS).await?;
    g.restart(place).await?;
    wait_until("the snapshot is installed", CHANGED_WITHIN, async || {
        (installed(g, place) > before).then_some(())
    })
    .await?;
    g.end(going, "snapshots installed", installed(g, place) - before)
}

fn installed(g: &Ground, place: usize) -> usize {
    let log = g.cluster.members[place].log();
    let says = |line: &&str| INSTALLED.iter().any(|words| line.contains(words));
    log.lines().filter(says).count()
}
