//! Every RPC that a member serves, with what is decided about it before its handler runs.

use std::{collections::HashMap, sync::LazyLock};

/// One RPC.
#[derive(Debug)]
pub(crate) struct Rpc {
    /// Which service it belongs to.
    pub(crate) service: Service,
    /// Its name in the service.
    pub(crate) method: &'static str,
    /// How many messages go in each direction.
    pub(crate) kind: Kind,
    /// Whether a learner answers it.
    pub(crate) learner: Learner,
    /// Whether it takes a place for writes.
    pub(crate) writing: Writing,
}

/// The services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the protocol")]
pub(crate) enum Service {
    Kv,
    Watch,
    Lease,
    Cluster,
    Maintenance,
    Auth,
    Lock,
    Election,
    Health,
}

/// Shape of an RPC, as it is labelled in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One message each way.
    Unary,
    /// One request, many responses.
    ServerStream,
    /// Many each way.
    BidiStream,
}

/// Whether a learner answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learner {
    /// As any member does.
    Answers,
    /// If the request wants local state only: its handler decides.
    Serializable,
    /// Not at all.
    Refuses,
}

/// Whether a call takes one of the places for writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// It waits for a place before it is read, and is refused if none becomes free.
    Waits,
    /// It does not write, or must not wait: what ends leases and frees space makes room for the others.
    Passes,
}

impl Service {
    /// The full name in paths.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kv => "etcdserverpb.KV",
            Self::Watch => "etcdserverpb.Watch",
            Self::Lease => "etcdserverpb.Lease",
            Self::Cluster => "etcdserverpb.Cluster",
            Self::Maintenance => "etcdserverpb.Maintenance",
            Self::Auth => "etcdserverpb.Auth",
            Self::Lock => "v3lockpb.Lock",
            Self::Election => "v3electionpb.Election",
            Self::Health => "grpc.health.v1.Health",
        }
    }

    /// Whether its series exist from the start; those of the others come with the first call, as in etcd.
    pub(crate) fn counted_from_start(self) -> bool {
        !matches!(self, Self::Lock | Self::Election)
    }
}

impl Kind {
    /// The label in `grpc_server_*`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

const fn rpc(service: Service, method: &'static str, kind: Kind, learner: Learner) -> Rpc {
    Rpc {
        service,
        method,
        kind,
        learner,
        writing: Writing::Passes,
    }
}

const fn write(service: Service, method: &'static str) -> Rpc {
    Rpc {
        writing: Writing::Waits,
        ..unary(service, method)
    }
}

const fn unary(service: Service, method: &'static str) -> Rpc {
    rpc(service, method, Kind::Unary, Learner::Refuses)
}

const fn stream(service: Service, method: &'static str, kind: Kind) -> Rpc {
    rpc(service, method, kind, Learner::Refuses)
}

use Service::{Auth, Cluster, Election, Health, Kv, Lease, Lock, Maintenance, Watch};

/// All of them.
pub(crate) static RPCS: [Rpc; 51] = [
    rpc(Kv, "Range", Kind::Unary, Learner::Serializable),
    stream(Kv, "RangeStream", Kind::ServerStream),
    write(Kv, "Put"),
    write(Kv, "DeleteRange"),
    write(Kv, "Txn"),
    unary(Kv, "Compact"),
    stream(Watch, "Watch", Kind::BidiStream),
    write(Lease, "LeaseGrant"),
    unary(Lease, "LeaseRevoke"),
    stream(Lease, "LeaseKeepAlive", Kind::BidiStream),
    unary(Lease, "LeaseTimeToLive"),
    unary(Lease, "LeaseLeases"),
    unary(Cluster, "MemberAdd"),
    unary(Cluster, "MemberRemove"),
    unary(Cluster, "MemberUpdate"),
    unary(Cluster, "MemberList"),
    unary(Cluster, "MemberPromote"),
    unary(Maintenance, "Alarm"),
    rpc(Maintenance, "Status", Kind::Unary, Learner::Answers),
    unary(Maintenance, "Defragment"),
    unary(Maintenance, "Hash"),
    unary(Maintenance, "HashKV"),
    rpc(
        Maintenance,
        "Snapshot",
        Kind::ServerStream,
        Learner::Answers,
    ),
    unary(Maintenance, "MoveLeader"),
    unary(Maintenance, "Downgrade"),
    unary(Auth, "AuthEnable"),
    unary(Auth, "AuthDisable"),
    unary(Auth, "AuthStatus"),
    unary(Auth, "Authenticate"),
    unary(Auth, "UserAdd"),
    unary(Auth, "UserGet"),
    unary(Auth, "UserList"),
    unary(Auth, "UserDelete"),
    unary(Auth, "UserChangePassword"),
    unary(Auth, "UserGrantRole"),
    unary(Auth, "UserRevokeRole"),
    unary(Auth, "RoleAdd"),
    unary(Auth, "RoleGet"),
    unary(Auth, "RoleList"),
    unary(Auth, "RoleDelete"),
    unary(Auth, "RoleGrantPermission"),
    unary(Auth, "RoleRevokePermission"),
    unary(Lock, "Lock"),
    unary(Lock, "Unlock"),
    unary(Election, "Campaign"),
    unary(Election, "Proclaim"),
    unary(Election, "Leader"),
    stream(Election, "Observe", Kind::ServerStream),
    unary(Election, "Resign"),
    unary(Health, "Check"),
    stream(Health, "Watch", Kind::ServerStream),
];

/// Place in [`RPCS`] of the RPC at a path such as `/etcdserverpb.KV/Range`.
pub(crate) fn find(path: &str) -> Option<usize> {
    static PLACES: LazyLock<HashMap<String, usize>> = LazyLock::new(|| {
        let path = |rpc: &Rpc| format!("/{}/{}", rpc.service.name(), rpc.method);
        RPCS.iter().map(path).zip(0..).collect()
    });
    PLACES.get(path).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The services as `proto/` declares them: none is missing in the table, and none is in it that is not there.
    #[test]
    fn table_and_contracts_agree() {
        let mut declared = Vec::new();
        for text in [
            include_str!("../../../../proto/etcd/rpc.proto"),
            include_str!("../../../../proto/etcd/lock.proto"),
            include_str!("../../../../proto/etcd/election.proto"),
            include_str!("../../../../proto/etcd/health.proto"),
        ] {
            declared.extend(declarations(text));
        }
        let mut listed: Vec<_> = RPCS
            .iter()
            .map(|rpc| {
                let path = format!("/{}/{}", rpc.service.name(), rpc.method);
                (path, rpc.kind.label())
            })
            .collect();
        declared.sort();
        listed.sort();
        assert_eq!(listed, declared);
        for (place, rpc) in RPCS.iter().enumerate() {
            let path = format!("/{}/{}", rpc.service.name(), rpc.method);
            assert_eq!(find(&path), Some(place));
        }
        assert_eq!(find("/etcdserverpb.KV/Nothing"), None);
    }

    fn declarations(text: &str) -> Vec<(String, &'static str)> {
        let (mut package, mut service, mut found) = ("", "", Vec::new());
        for line in text.lines().map(str::trim) {
            let words: Vec<&str> = line
                .split([' ', '(', ';'])
                .filter(|w| !w.is_empty())
                .collect();
            match words.as_slice() {
                ["package", name, ..] => package = name,
                ["service", name, ..] => service = name,
                ["rpc", name, ..] => {
                    let kind = match line.matches("stream ").count() {
                        0 => Kind::Unary,
                        1 => Kind::ServerStream,
                        _ => Kind::BidiStream,
                    };
                    found.push((format!("/{package}.{service}/{name}"), kind.label()));
                }
                _ => {}
            }
        }
        found
    }
}
