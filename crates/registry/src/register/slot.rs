//! A consumer's slot: who calls a service, and which share of it.
//!
//! Every consumer of a service holds the lowest number that is free, on a lease. Balancers that use a part of the instances choose it
//! by that number, so that all parts together cover the service evenly; operators see from the keys who listens.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use catena_client::{
    KeepAlive, Kv,
    pb::{PutRequest, RangeRequest, TxnRequest},
    request::{self, Operation},
};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use crate::{Result, backoff::Backoff};

/// The TTL of a slot's lease: a consumer that died frees its number after this time.
const TTL_SECS: i64 = 15;

/// A store's answer is waited for so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A consumer's slot, held and held again until it is dropped.
#[derive(Debug)]
pub struct ClientSlot {
    number: watch::Receiver<Option<u32>>,
    _held: DropGuard,
}

impl ClientSlot {
    /// The number and its changes; none while the store cannot be reached.
    pub fn number(&self) -> watch::Receiver<Option<u32>> {
        self.number.clone()
    }
}

/// One who calls a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The slot.
    pub slot: u32,
    /// The consumer's instance id.
    pub consumer: String,
}

/// A slot and the task that holds it.
pub(crate) fn claim(
    kv: Arc<dyn Kv>,
    prefix: String,
    consumer: String,
    closing: &CancellationToken,
) -> (ClientSlot, impl Future<Output = ()> + Send + 'static) {
    let (tx, number) = watch::channel(None);
    let over = closing.child_token();
    let slot = ClientSlot {
        number,
        _held: over.clone().drop_guard(),
    };
    let holder = Holder {
        kv,
        prefix,
        consumer,
        number: tx,
        lease: 0,
    };
    (slot, holder.run(over))
}

/// The slots that stand under a prefix.
pub(crate) async fn subscribers(kv: &dyn Kv, prefix: &str) -> Result<Vec<Subscriber>> {
    let answer = kv.range(request::get_prefix(prefix.to_owned())).await?;
    let subscriber = |kv: &catena_client::pb::KeyValue| {
        let view = kv.view();
        Some(Subscriber {
            slot: number(prefix, &view.key)?,
            consumer: String::from_utf8_lossy(&view.value).into_owned(),
        })
    };
    let mut all: Vec<_> = answer.kvs.iter().filter_map(subscriber).collect();
    all.sort_by_key(|subscriber| subscriber.slot);
    Ok(all)
}

fn number(prefix: &str, key: &[u8]) -> Option<u32> {
    let key = std::str::from_utf8(key).ok()?;
    key.strip_prefix(prefix)?.parse().ok()
}

struct Holder {
    kv: Arc<dyn Kv>,
    prefix: String,
    consumer: String,
    number: watch::Sender<Option<u32>>,
    lease: i64,
}

impl Holder {
    async fn run(mut self, over: CancellationToken) {
        tokio::select! {
            never = self.hold() => match never {},
            () = over.cancelled() => {}
        }
        if self.lease != 0 {
            let revoked = timeout(ANSWER_WITHIN, self.kv.lease_revoke(self.lease)).await;
            debug!(?revoked, "slot given up");
        }
    }

    async fn hold(&mut self) -> std::convert::Infallible {
        let mut rng = SmallRng::from_os_rng();
        let mut backoff = Backoff::default();
        loop {
            match self.take().await {
                Ok(Some((keep_alive, number))) => {
                    backoff.reset();
                    self.number.send_replace(Some(number));
                    let lost = keep_alive.lost().await;
                    debug!(%lost, "slot lost");
                    self.number.send_replace(None);
                }
                // Somebody else was quicker.
                Ok(None) => {}
                Err(error) => debug!(%error, "no slot"),
            }
            sleep(backoff.pause(&mut rng)).await;
        }
    }

    /// Takes the lowest free number, unless somebody else does at the same moment.
    async fn take(&mut self) -> catena_client::Result<Option<(KeepAlive, u32)>> {
        let within = |call| timeout(ANSWER_WITHIN, call);
        let deadline = |_elapsed| catena_client::Error::Deadline;
        let keys = RangeRequest {
            keys_only: true,
            ..request::get_prefix(self.prefix.clone())
        };
        let taken = within(self.kv.range(keys)).await.map_err(deadline)??;
        let taken = taken.kvs.iter();
        let taken: BTreeSet<u32> = taken
            .filter_map(|kv| number(&self.prefix, &kv.key()))
            .collect();
        let Some(free) = (0..u32::MAX).find(|number| !taken.contains(number)) else {
            return Ok(None);
        };
        if self.lease == 0 {
            let grant = self.kv.lease_grant(request::grant(TTL_SECS));
            let granted = timeout(ANSWER_WITHIN, grant).await.map_err(deadline)??;
            self.lease = granted.id;
        }
        let key = format!("{}{free}", self.prefix);
        let put = PutRequest {
            lease: self.lease,
            ..request::put(key.clone(), self.consumer.clone())
        };
        let write = TxnRequest {
            compare: vec![request::absent(key)],
            success: vec![put.op()],
            failure: Vec::new(),
        };
        let written = timeout(ANSWER_WITHIN, self.kv.txn(write)).await;
        match written.map_err(deadline)? {
            Ok(answer) if answer.succeeded => {
                let lease = std::mem::take(&mut self.lease);
                let ttl = Duration::from_secs(TTL_SECS.unsigned_abs());
                Ok(Some((KeepAlive::start(self.kv.clone(), lease, ttl), free)))
            }
            Ok(_taken) => Ok(None),
            Err(error) => {
                self.lease = 0;
                Err(error)
            }
        }
    }
}
