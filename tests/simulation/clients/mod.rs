//! Clients: what they ask, through which member, and how it is written down.
//!
//! A client draws from the [`Mix`] of the run, goes to a member chosen at random, waits as long as its patience lasts and never asks
//! twice. What a member does for it runs in the member's process and ends with it, so a call ends like one on a broken connection.

pub(crate) mod finals;
pub(crate) mod watches;

use std::{sync::Arc, time::Duration};

use catena_api::etcd::etcdserverpb as pb;
use catena_client::{Error, Kv};
use framework::{
    history::{Answer, Args, Operation, Outcome, Put, not_sent, outcome_of},
    mix::{Call, Mix},
};
use futures_util::future::{self, Either};
use parking_lot::Mutex;
use tonic::Status;

use crate::{
    cluster::{Cluster, Process, name, now_ns},
    world::{self, Chance, Event, covered},
};

/// Longest way from a client to a member and back, each.
const WAY_MICROS_MAX: u64 = 500;

/// One answer in so many is lost on its way.
const ANSWER_LOST_ONCE_IN: u64 = 300;

/// One answer in so many is checked on the disks.
const DISKS_LOOKED_AT_ONCE_IN: u64 = 12;

type Draw = Box<dyn FnMut(u64) -> u64 + Send>;

/// The mix that all clients of a run draw from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Load(Arc<Mutex<Mix<Draw>>>);

impl Load {
    /// A mix of its own chances.
    pub(crate) fn new(chance: &Chance, settings: framework::mix::Settings) -> Self {
        let chance = chance.fork();
        let draw: Draw = Box::new(move |bound| chance.below(bound));
        Self(Arc::new(Mutex::new(Mix::new(draw, settings))))
    }
}

/// Asks one thing after the other until `done` says so.
pub(crate) async fn run(
    cluster: Cluster,
    load: Load,
    chance: Chance,
    done: impl Fn() -> bool + Send + 'static,
) {
    let think = cluster.settings().think.as_micros() as u64;
    let mut number = cluster.recorder().new_client();
    while !done() {
        world::sleep(chance.micros(think)).await;
        let ids = cluster.ids();
        let id = *chance.pick(&ids);
        // Who finds nobody at home goes elsewhere, most of the time.
        if cluster.process(id).is_none() && !chance.once_in(20) {
            continue;
        }
        let call = load.0.lock().next(number);
        let Some(ended) = recorded(&cluster, &chance, (number, id), call).await else {
            continue;
        };
        load.0.lock().learn(&ended);
        match &ended.outcome {
            Outcome::Unknown(_) => covered(Event::OutcomeUnknown),
            Outcome::Fail(_) => covered(Event::Refused),
            Outcome::Ok(_) if matches!(ended.args, Args::Compact(_)) => covered(Event::Compacted),
            Outcome::Ok(_) => {}
        }
        if ended.unknown() {
            number = cluster.recorder().new_client();
        }
        if ended.answer().is_some() && chance.once_in(DISKS_LOOKED_AT_ONCE_IN) {
            cluster.invariants().answered(&cluster, id);
        }
    }
}

/// Puts something through a member, once; whether that succeeded.
pub(crate) async fn put(cluster: &Cluster, chance: &Chance, id: u64, put: Put) -> bool {
    let number = cluster.recorder().new_client();
    let token = String::from_utf8_lossy(put.value.token()).into_owned();
    let call = Call {
        args: Args::Put(put),
        token: Some(token),
    };
    let ended = recorded(cluster, chance, (number, id), call).await;
    ended.is_some_and(|ended| ended.answer().is_some())
}

/// One operation of a client at a member, from its call to its end.
async fn recorded(
    cluster: &Cluster,
    chance: &Chance,
    (client, member): (u64, u64),
    call: Call,
) -> Option<Operation> {
    let (recorder, endpoint) = (cluster.recorder(), name(member));
    let args = call.args.clone();
    let op = recorder.call(client, &endpoint, args, call.token, now_ns());
    world::tell(|| format!("client {client} calls {op} at {endpoint}: {:?}", call.args));
    let outcome = ask(cluster, member, call.args, chance).await;
    world::tell(|| format!("client {client} has {op}: {outcome:?}"));
    recorder.finish(op, outcome, now_ns())
}

async fn ask(cluster: &Cluster, id: u64, args: Args, chance: &Chance) -> Outcome {
    world::sleep(chance.micros(WAY_MICROS_MAX)).await;
    let Some(process) = cluster.process(id) else {
        return not_sent("connection refused");
    };
    let kv = process.indoor.kv();
    let call = process.call(async move { execute(kv.as_ref(), args).await });
    let answer = within(cluster.settings().patience, call).await.flatten();
    world::sleep(chance.micros(WAY_MICROS_MAX)).await;
    match answer {
        // A member that ended before the answer arrived has sent none.
        _ if !is_same(cluster, &process) => Outcome::Unknown(None),
        None => Outcome::Unknown(None),
        Some(_) if chance.once_in(ANSWER_LOST_ONCE_IN) => Outcome::Unknown(None),
        Some(Ok(answer)) => Outcome::Ok(answer),
        Some(Err(error)) => outcome_of(&Status::new(error.code(), error.to_string())),
    }
}

fn is_same(cluster: &Cluster, process: &Arc<Process>) -> bool {
    let now = cluster.process(process.id);
    now.is_some_and(|now| Arc::ptr_eq(&now, process))
}

/// Waits for `future`, but no longer than `limit`.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let future = std::pin::pin!(future);
    let sleep = std::pin::pin!(world::sleep(limit));
    match future::select(future, sleep).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(((), _)) => None,
    }
}

async fn execute(kv: &dyn Kv, args: Args) -> Result<Answer, Error> {
    Ok(match args {
        Args::Get(get) => kv.range((&get).into()).await?.into(),
        Args::Put(put) => kv.put((&put).into()).await?.into(),
        Args::Delete(delete) => kv.delete_range((&delete).into()).await?.into(),
        Args::Txn(txn) => kv.txn((&txn).into()).await?.into(),
        Args::Compact(compact) => kv.compact((&compact).into()).await?.into(),
        Args::LeaseGrant(grant) => kv.lease_grant((&grant).into()).await?.into(),
        Args::LeaseRevoke(lease) => kv.lease_revoke(lease.id).await?.into(),
        Args::LeaseKeepalive(lease) => kv.lease_renew(lease.id).await?.into(),
        Args::LeaseTtl(lease) => kv.lease_time_to_live((&lease).into()).await?.into(),
        Args::Leases {} => kv.leases().await?.into(),
        Args::Hashkv(_) | Args::Other(_) => unreachable!("no mix asks for it"),
    })
}

/// Reads all pairs from what a member has, whatever the others do.
pub(crate) async fn all_pairs(process: &Arc<Process>) -> Option<pb::RangeResponse> {
    let kv = process.indoor.kv();
    let request = pb::RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        serializable: true,
        ..pb::RangeRequest::default()
    };
    process
        .call(async move { kv.range(request).await })
        .await?
        .ok()
}
