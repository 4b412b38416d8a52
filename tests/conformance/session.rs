//! A case and the cluster that it runs on.

use std::{fmt::Debug, time::Duration};

use anyhow::{Result, ensure};
use catena_api::{
    errors::{self, ApiError},
    etcd::etcdserverpb as pb,
};
use framework::{Client, Cluster, Pool, wait_until};
use futures_util::future::LocalBoxFuture;
use tonic::Status;

use crate::differences;

/// No case needs more: the longest wait for the expiry of a lease.
const CASE_WITHIN: Duration = Duration::from_secs(60);

/// etcd counts a voter as connected after 5 s.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

type Run = for<'a> fn(&'a Session<'_>) -> LocalBoxFuture<'a, Result<()>>;

/// One fact about the protocol.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// `chapter::fact`.
    pub(crate) name: &'static str,
    run: Run,
    /// Flags of a cluster of its own; `None` shares one.
    flags: Option<&'static [&'static str]>,
    members: Option<usize>,
}

/// Makes a [`Case`] of a function.
macro_rules! case {
    ($name:ident) => {
        $crate::session::Case::new(
            concat!(module_path!(), "::", stringify!($name)),
            |session| Box::pin($name(session)),
        )
    };
}
pub(crate) use case;

impl Case {
    pub(crate) fn new(path: &'static str, run: Run) -> Self {
        let name = path.split_once("::").map_or(path, |(_, name)| name);
        Self {
            name,
            run,
            flags: None,
            members: None,
        }
    }

    /// The case needs a cluster that nobody has used, with these flags.
    pub(crate) fn fresh(mut self, flags: &'static [&'static str]) -> Self {
        self.flags = Some(flags);
        self
    }

    /// The case makes sense only with so many members.
    pub(crate) fn members(mut self, members: usize) -> Self {
        self.members = Some(members);
        self
    }

    /// Runs the case on a cluster of the pool.
    pub(crate) fn run(&self, pool: &Pool) -> Result<()> {
        pool.run(self.flags, CASE_WITHIN, async |cluster| {
            // Which member is asked depends on the case, so that followers are asked too.
            let place = self.name.bytes().map(usize::from).sum();
            let client = cluster.client(place)?;
            // A follower may not have applied yet what the case before left to be cleared.
            client.revision().await?;
            (self.run)(&Session { cluster, client }).await
        })
    }

    /// Whether the case makes sense on the pool's clusters.
    pub(crate) fn runs_on(&self, pool: &Pool) -> bool {
        self.members.is_none_or(|members| members == pool.members)
    }
}

/// A cluster without keys and leases, and a client of one of its members.
pub(crate) struct Session<'a> {
    /// The cluster.
    pub(crate) cluster: &'a Cluster,
    /// A client of one member, which the case's name decides.
    pub(crate) client: Client,
}

impl Session<'_> {
    /// Whether the members behave in the other way that [`differences::TABLE`] gives reasons for.
    pub(crate) fn differs(&self, name: &str) -> bool {
        let difference = differences::TABLE
            .iter()
            .find(|difference| difference.name == name);
        let known = difference.is_some_and(|difference| !difference.reason.is_empty());
        assert!(known, "no such difference: {name}");
        self.cluster.setup.target.is_catena()
    }

    /// Puts `key = value` pairs, each in a revision of its own; gives the last revision.
    pub(crate) async fn puts(&self, pairs: &[(&'static str, &'static str)]) -> Result<i64> {
        let mut revision = self.client.revision().await?;
        for (key, value) in pairs {
            revision = revision_of(&self.client.put(*key, *value).await?.header);
        }
        Ok(revision)
    }

    /// Waits until members may be changed: etcd wants every voter connected for 5 s.
    pub(crate) async fn settled(&self) -> Result<()> {
        let probe = pb::MemberAddRequest {
            peer_urls: vec![self.cluster.members[0].peer_url()],
            is_learner: true,
        };
        wait_until("the cluster is healthy", SETTLED_WITHIN, async || {
            let error = self
                .client
                .cluster()
                .member_add(probe.clone())
                .await
                .err()?;
            (error.message() == errors::PEER_URL_EXISTS.text).then_some(())
        })
        .await
    }
}

/// The revision of a response's header.
pub(crate) fn revision_of(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().map_or(0, |header| header.revision)
}

/// Demands an error with its code and its exact text.
pub(crate) fn refused<T: Debug>(result: Result<T, Status>, error: ApiError) -> Result<()> {
    match result {
        Ok(response) => anyhow::bail!("no error {:?} but {response:?}", error.text),
        Err(status) => {
            let (code, text) = (status.code(), status.message());
            ensure!(
                (code, text) == (error.code, error.text),
                "{code:?} {text:?} instead of {:?} {:?}",
                error.code,
                error.text
            );
            Ok(())
        }
    }
}
