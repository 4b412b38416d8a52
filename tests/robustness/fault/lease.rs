//! Leases that nobody renews while the leader, by whose clock they end, dies.
//!
//! That none ends early the judges say. That it ends is waited for here, and how late it was is told and not judged: it is the
//! speed of the machine.

use std::time::Duration;

use anyhow::{Context, Result};
use framework::{
    history::{Args, LeaseGrant, Outcome, Put, Value},
    message, wait_until,
};
use serde_json::json;

use super::{Fault, fault};
use crate::{
    ground::{Ground, Unproven},
    load::execute,
};

pub(super) const FAULTS: &[Fault] = &[fault!("lease-ends", Plain, ends).of_three()];

const TTL_SECS: i64 = 4;
const LEASE: i64 = 0x1ea5e;
const KEY: &str = "k-of-a-lease";
/// A lease whose time is up has ended by then, on a busy machine too.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

async fn ends(g: &mut Ground) -> Result<()> {
    let leader = g.leader().await?;
    let args = [("ttl_s", json!(TTL_SECS))];
    let going = g.begin("lease-ends", &[leader], &args);
    let grant = LeaseGrant {
        ttl: TTL_SECS,
        id: LEASE,
    };
    asked(g, Args::LeaseGrant(grant), None).await?;
    let due_ns = g.seats.now_ns() + TTL_SECS.unsigned_abs() * 1_000_000_000;
    let token = "the value of a lease";
    let put = Put {
        key: KEY.into(),
        value: Value::Whole(token.into()),
        lease: LEASE,
        ..Put::default()
    };
    asked(g, Args::Put(put), Some(token.to_owned())).await?;
    g.leader_killed_ns.push(g.seats.now_ns());
    let status = g.kill(leader).await?;
    g.restart(leader).await?;
    wait_until("the key goes with its lease", ENDS_WITHIN, async || {
        for place in 0..g.size() {
            let mut read = message::one(KEY);
            read.serializable = true;
            let answer = g.seat(place).ok()?.client.range(read).await.ok()?;
            if answer.count > 0 {
                return None;
            }
        }
        Some(())
    })
    .await?;
    let late_ms = g.seats.now_ns().saturating_sub(due_ns) / 1_000_000;
    g.end(
        going,
        "exit status of the leader; end of the lease",
        format!("{status}; {late_ms} ms after its time"),
    )
}

/// An operation that has to go through before the fault is one.
async fn asked(g: &Ground, args: Args, token: Option<String>) -> Result<()> {
    let seat = g.seats.at(0);
    let number = g.recorder.new_client();
    let now = g.seats.now_ns();
    let called = args.clone();
    let id = g.recorder.call(number, &seat.endpoint, called, token, now);
    let outcome = execute(&seat.client, &args).await;
    let recorded = g.recorder.finish(id, outcome, g.seats.now_ns());
    match recorded.context("it was open")?.outcome {
        Outcome::Ok(_) => Ok(()),
        refused => Err(Unproven(format!("the lease was not set up: {refused:?}")).into()),
    }
}
