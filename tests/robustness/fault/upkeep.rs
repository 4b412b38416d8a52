//! What an operator does to a store that runs.

use anyhow::{Result, ensure};
use catena_api::etcd::etcdserverpb as pb;
use framework::{
    history::{Args, Compact, Outcome},
    wait_until,
};
use serde_json::json;

use super::{Fault, fault};
use crate::{ground::Ground, load::execute};

pub(super) const FAULTS: &[Fault] = &[
    fault!("defragment", Plain, defragment),
    fault!("compact-often", Plain, compact_often),
    fault!("move-leader", Plain, move_leader).of_three(),
];

/// Rounds over all members.
const DEFRAGMENTS: usize = 3;
/// Compactions in a row, and the pause between two.
const COMPACTIONS: u64 = 30;
const COMPACTION_EVERY_MS: u64 = 100;
/// What is compacted stays so far behind what a witness has seen.
const BEHIND: i64 = 20;
/// Times that leadership is moved.
const MOVES: usize = 4;
/// A leader that was named leads by then, on every member.
const LEADS_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

async fn defragment(g: &mut Ground) -> Result<()> {
    for _ in 0..DEFRAGMENTS {
        for place in 0..g.size() {
            let going = g.begin("defragment", &[place], &[]);
            defragment_one(g, place).await?;
            g.end(going, "answer", "ok")?;
        }
    }
    Ok(())
}

/// Rewrites the engine of a member.
pub(super) async fn defragment_one(g: &Ground, place: usize) -> Result<()> {
    let mut service = g.seat(place)?.client.maintenance();
    service.defragment(pb::DefragmentRequest {}).await?;
    Ok(())
}

async fn compact_often(g: &mut Ground) -> Result<()> {
    let places: Vec<_> = (0..g.size()).collect();
    let going = g.begin("compact-often", &places, &[("times", json!(COMPACTIONS))]);
    let mut done = 0_u64;
    for round in 0..COMPACTIONS {
        let revision = g.seats.witnessed() - BEHIND;
        let args = Args::Compact(Compact {
            revision,
            physical: round % 2 == 0,
        });
        let seat = g.seats.at(round as usize);
        let number = g.recorder.new_client();
        let now = g.seats.now_ns();
        let id = g
            .recorder
            .call(number, &seat.endpoint, args.clone(), None, now);
        let outcome = execute(&seat.client, &args).await;
        done += u64::from(matches!(outcome, Outcome::Ok(_)));
        g.recorder.finish(id, outcome, g.seats.now_ns());
        g.rest(COMPACTION_EVERY_MS).await;
    }
    g.end(going, "compactions done", done)
}

async fn move_leader(g: &mut Ground) -> Result<()> {
    for _ in 0..MOVES {
        let (from, to) = (g.leader().await?, g.follower().await?);
        let going = g.begin("move-leader", &[from, to], &[]);
        let status = g.seat(to)?.client.status().await?;
        let target_id = status.header.unwrap_or_default().member_id;
        let mut service = g.seat(from)?.client.maintenance();
        service
            .move_leader(pb::MoveLeaderRequest { target_id })
            .await?;
        let leads = wait_until("the one that was named leads", LEADS_WITHIN, async || {
            let status = g.seat(to).ok()?.client.status().await.ok()?;
            (status.leader == target_id).then_some(status.raft_term)
        })
        .await?;
        ensure!(leads > status.raft_term, "the term did not rise: {leads}");
        g.end(going, "term of the new leader", leads)?;
        g.goes_on(80).await?;
    }
    Ok(())
}
