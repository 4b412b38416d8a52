//! What is to stand in the store for an instance, and the transactions that put it there.
//!
//! A write whose outcome is unknown may be made again, for every one of them compares: with the absence of the keys, or with the very
//! revisions at which they were seen. Keys are known again as ours by their lease, by the epoch that native values carry, or by a
//! value that is ours to the byte: then it names our own address, at which nobody else can listen.

use bytes::Bytes;
use catena_client::{
    pb::{Compare, KeyValueView, PutRequest, RequestOp, TxnRequest, TxnResponse},
    request::{self, Operation},
};
use serde::Deserialize;

use crate::{Instance, Layout, Ulid};

/// What is to stand in the store for an instance on a lease.
#[derive(Debug)]
pub(crate) struct Claim {
    lease: i64,
    epoch: Ulid,
    keys: Vec<Wanted>,
    /// Keys of earlier leases, which have the lease in their names.
    outlived: Vec<Bytes>,
}

/// One key of a claim.
#[derive(Debug)]
struct Wanted {
    layout: Layout,
    key: Bytes,
    value: Bytes,
    /// Whether it is to stand, or to be gone.
    shown: bool,
}

/// What stands under the keys of a claim, in their order.
pub(crate) type Seen = Vec<Option<KeyValueView>>;

/// Somebody else's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) key: String,
    pub(crate) epoch: Option<Ulid>,
}

/// How what stands compares with what should.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// All is as it should be.
    Stands,
    /// Something is missing or old.
    Differs,
    /// Something is somebody else's.
    Held(Holder),
}

impl Claim {
    /// The claim of an instance on `lease`; `leases` are those that it has had before, and `former` its keys that had an address in
    /// their names which is no longer its own.
    pub(crate) fn new(
        namespace: &str,
        instance: &Instance,
        layouts: &[Layout],
        lease: i64,
        leases: &[i64],
        former: &[Bytes],
    ) -> Self {
        let wanted = |layout: &Layout| Wanted {
            layout: *layout,
            key: layout.key(namespace, instance, lease).into(),
            value: layout.value(instance).into(),
            shown: layout.shows(instance),
        };
        // Somebody else may stand there by now, so they are looked at like all others.
        let former = former.iter().map(|key| Wanted {
            layout: Layout::GrpcNaming,
            key: key.clone(),
            value: Bytes::new(),
            shown: false,
        });
        let earlier = leases.iter().filter(|earlier| **earlier != lease);
        let outlived = earlier
            .filter(|_| layouts.contains(&Layout::GoZero))
            .map(|earlier| Layout::GoZero.key(namespace, instance, *earlier).into());
        Self {
            lease,
            epoch: instance.epoch,
            outlived: outlived.collect(),
            keys: layouts.iter().map(wanted).chain(former).collect(),
        }
    }

    /// The keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.iter().map(|wanted| &wanted.key)
    }

    /// Writes all keys if nothing stands under them, those that are to be gone included, else reads them.
    pub(crate) fn write_new(&self) -> TxnRequest {
        let absent = |wanted: &Wanted| request::absent(wanted.key.clone());
        let shown = self.keys.iter().filter(|wanted| wanted.shown);
        let puts = shown.map(|wanted| self.put(wanted));
        TxnRequest {
            compare: self.keys.iter().map(absent).collect(),
            success: puts.chain(self.deletes_of_outlived()).collect(),
            failure: self.gets(),
        }
    }

    /// Writes all keys if what stands is still what was seen, else reads them.
    pub(crate) fn write_over(&self, seen: &Seen, leases: &[i64]) -> TxnRequest {
        let pairs = || self.keys.iter().zip(seen);
        let unchanged = |(wanted, seen): (&Wanted, &Option<KeyValueView>)| unchanged(wanted, seen);
        let op = |(wanted, seen): (&Wanted, &Option<KeyValueView>)| match seen {
            _ if wanted.shown => Some(self.put(wanted)),
            Some(kv) if self.is_ours(wanted, kv, leases) => {
                Some(request::delete(wanted.key.clone()).op())
            }
            Some(_) | None => None,
        };
        let ops = pairs().filter_map(op);
        TxnRequest {
            compare: pairs().map(unchanged).collect(),
            success: ops.chain(self.deletes_of_outlived()).collect(),
            failure: self.gets(),
        }
    }

    /// What a transaction of this claim read.
    pub(crate) fn seen(&self, answer: &TxnResponse) -> Seen {
        let first = |op| request::range_answer(op).kvs.first().map(|kv| kv.view());
        let seen: Seen = answer.responses.iter().map(first).collect();
        // An answer of another shape than was asked for counts as nothing seen; the comparison of a write then fails.
        self.keys
            .iter()
            .zip(seen.into_iter().chain(std::iter::repeat(None)))
            .map(|(_, seen)| seen)
            .collect()
    }

    /// Compares what was seen with what should stand. What is to be gone and is somebody else's is none of our business.
    pub(crate) fn find(&self, seen: &Seen, leases: &[i64]) -> Finding {
        let mut finding = Finding::Stands;
        for (wanted, seen) in self.keys.iter().zip(seen) {
            match seen {
                Some(kv) if self.is_ours(wanted, kv, leases) => {
                    let good = wanted.shown && kv.value == wanted.value && kv.lease == self.lease;
                    if !good {
                        finding = Finding::Differs;
                    }
                }
                Some(kv) if wanted.shown => return Finding::Held(holder(wanted, kv)),
                None if wanted.shown => finding = Finding::Differs,
                Some(_) | None => {}
            }
        }
        finding
    }

    fn is_ours(&self, wanted: &Wanted, kv: &KeyValueView, leases: &[i64]) -> bool {
        if kv.lease != 0 && leases.contains(&kv.lease) {
            return true;
        }
        match wanted.layout {
            Layout::Native => epoch_of(&kv.value) == Some(self.epoch),
            Layout::Kratos | Layout::GrpcNaming | Layout::GoZero | Layout::Article => {
                kv.value == wanted.value
            }
        }
    }

    fn put(&self, wanted: &Wanted) -> RequestOp {
        let put = request::put(wanted.key.clone(), wanted.value.clone());
        PutRequest {
            lease: self.lease,
            ..put
        }
        .op()
    }

    fn gets(&self) -> Vec<RequestOp> {
        let get = |wanted: &Wanted| request::get(wanted.key.clone()).op();
        self.keys.iter().map(get).collect()
    }

    fn deletes_of_outlived(&self) -> impl Iterator<Item = RequestOp> {
        let keys = self.outlived.iter();
        keys.map(|key| request::delete(key.clone()).op())
    }
}

fn unchanged(wanted: &Wanted, seen: &Option<KeyValueView>) -> Compare {
    match seen {
        Some(kv) => request::modified_at(wanted.key.clone(), kv.mod_revision),
        None => request::absent(wanted.key.clone()),
    }
}

fn holder(wanted: &Wanted, kv: &KeyValueView) -> Holder {
    Holder {
        key: String::from_utf8_lossy(&wanted.key).into_owned(),
        epoch: match wanted.layout {
            Layout::Native => epoch_of(&kv.value),
            Layout::Kratos | Layout::GrpcNaming | Layout::GoZero | Layout::Article => None,
        },
    }
}

/// The epoch in a native value, whatever else it holds.
fn epoch_of(value: &[u8]) -> Option<Ulid> {
    #[derive(Deserialize)]
    struct Epoch {
        epoch: Ulid,
    }
    let value: Option<Epoch> = serde_json::from_slice(value).ok();
    value.map(|value| value.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ServiceName, Status};

    const LEASE: i64 = 9;

    fn instance() -> Instance {
        let service = ServiceName::new("user").unwrap();
        Instance {
            epoch: Ulid::from_parts(1, 1),
            ..Instance::new(service, "1", vec!["grpc://h:1".parse().unwrap()])
        }
    }

    fn claim(instance: &Instance, layouts: &[Layout]) -> Claim {
        Claim::new("default", instance, layouts, LEASE, &[7, LEASE], &[])
    }

    fn standing(claim: &Claim, lease: i64) -> Seen {
        let kv = |wanted: &Wanted| {
            Some(KeyValueView {
                key: wanted.key.clone(),
                value: wanted.value.clone(),
                lease,
                mod_revision: 5,
                ..KeyValueView::default()
            })
        };
        claim.keys.iter().map(kv).collect()
    }

    #[test]
    fn own_keys_are_known_by_lease_epoch_or_value() {
        let both = claim(&instance(), &[Layout::Native, Layout::Article]);
        assert_eq!(
            both.find(&standing(&both, LEASE), &[LEASE]),
            Finding::Stands
        );
        // Another lease than the one that is to hold them: written over, whoever's lease it is.
        assert_eq!(both.find(&standing(&both, 4), &[LEASE]), Finding::Differs);
        assert_eq!(both.find(&vec![None, None], &[LEASE]), Finding::Differs);
        let mut other = instance();
        other.epoch = Ulid::from_parts(2, 2);
        let theirs = standing(&claim(&other, &[Layout::Native, Layout::Article]), 4);
        let held = Finding::Held(Holder {
            key: "/registry/v1/default/user/1".to_owned(),
            epoch: Some(other.epoch),
        });
        assert_eq!(both.find(&theirs, &[LEASE]), held);
        // On a lease that was ours before, it was written by us.
        assert_eq!(both.find(&theirs, &[4, LEASE]), Finding::Differs);
        let mut foreign = standing(&both, 4);
        foreign[1].as_mut().unwrap().value = "other:1".into();
        let held = Finding::Held(Holder {
            key: "/services/user/1".to_owned(),
            epoch: None,
        });
        assert_eq!(both.find(&foreign, &[LEASE]), held);
    }

    #[test]
    fn what_cannot_say_that_it_drains_is_deleted() {
        let mut draining = instance();
        draining.status = Status::Draining;
        let claim = claim(&draining, &[Layout::Native, Layout::Article]);
        let seen = standing(&claim, LEASE);
        assert_eq!(claim.find(&seen, &[LEASE]), Finding::Differs);
        let write = claim.write_over(&seen, &[LEASE]);
        let deletion = request::delete("/services/user/1").op();
        assert_eq!(write.success.len(), 2);
        assert_eq!(write.success[1], deletion);
        // Somebody else's is left alone.
        let mut foreign = standing(&claim, LEASE);
        let article = foreign[1].as_mut().unwrap();
        (article.lease, article.value) = (3, "other:1".into());
        assert_eq!(claim.find(&foreign, &[LEASE]), Finding::Stands);
        assert_eq!(claim.write_over(&foreign, &[LEASE]).success.len(), 1);
    }

    #[test]
    fn keys_named_after_earlier_leases_go() {
        let claim = claim(&instance(), &[Layout::GoZero]);
        let expected = request::delete("user/7").op();
        for write in [claim.write_new(), claim.write_over(&vec![None], &[])] {
            assert_eq!(write.success.last(), Some(&expected));
        }
    }

    #[test]
    fn keys_named_after_a_former_address_go_if_they_are_ours() {
        let former = [Bytes::from("user/old:1")];
        let layouts = [Layout::GrpcNaming];
        let claim = Claim::new("default", &instance(), &layouts, LEASE, &[LEASE], &former);
        let mut seen = standing(&claim, LEASE);
        assert_eq!(claim.find(&seen, &[LEASE]), Finding::Differs);
        let write = claim.write_over(&seen, &[LEASE]);
        assert_eq!(
            write.success.last(),
            Some(&request::delete("user/old:1").op())
        );
        assert_eq!(write.compare.len(), 2);
        // Another process listens at that address now.
        seen[1].as_mut().unwrap().lease = 3;
        seen[1].as_mut().unwrap().value = "theirs".into();
        assert_eq!(claim.find(&seen, &[LEASE]), Finding::Stands);
        assert_eq!(claim.write_over(&seen, &[LEASE]).success.len(), 1);
    }

    #[test]
    fn what_is_to_be_gone_is_looked_for_even_alone() {
        let mut draining = instance();
        draining.status = Status::Draining;
        let claim = claim(&draining, &[Layout::Kratos]);
        let write = claim.write_new();
        assert_eq!(write.compare, [request::absent("/microservices/user/1")]);
        assert!(write.success.is_empty());
    }

    #[test]
    fn writes_compare_with_what_was_seen() {
        let claim = claim(&instance(), &[Layout::Native, Layout::Article]);
        let mut seen = standing(&claim, LEASE);
        seen[1] = None;
        let write = claim.write_over(&seen, &[LEASE]);
        let native = request::modified_at("/registry/v1/default/user/1", 5);
        let article = request::absent("/services/user/1");
        assert_eq!(write.compare, [native, article]);
        assert_eq!(write.failure.len(), 2);
    }
}
