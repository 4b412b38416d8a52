//! The kinds of store that the cases run on.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result};
use catena_client::{Kv, Options, Remote};
use framework::{
    Cluster, Setup, Target, leave_out,
    peers::{Missing, Release},
};
use libtest_mimic::Failed;
use tokio::{runtime::Runtime, time::timeout};

use crate::{
    OwnStore,
    config_order::{PUBLICATION_WITHIN, publications},
    ground::Ground,
};

/// No case needs more, on a busy machine either.
const CASE_WITHIN: Duration = Duration::from_secs(120);

/// The same of a case on a store of its own: more if very much is to be published.
fn own_within() -> Duration {
    let publications = u32::try_from(publications()).unwrap_or(u32::MAX);
    CASE_WITHIN.max(PUBLICATION_WITHIN * publications)
}

/// One kind of store; its shared one is started when the first case needs it.
pub(crate) struct Subject {
    target: Target,
    members: usize,
    runtime: Arc<Runtime>,
    shared: OnceLock<Result<Cluster, Arc<anyhow::Error>>>,
}

/// All kinds. The embedded one is a member alone in this process.
pub(crate) fn all(runtime: &Arc<Runtime>) -> Vec<Arc<Subject>> {
    let kinds = [
        (Target::InProcess, 1),
        (Target::Catena, 3),
        (Target::Etcd(Release::V37), 1),
        (Target::Etcd(Release::V35), 1),
        (Target::Etcd(Release::V34), 1),
    ];
    kinds.map(|kind| subject(kind, runtime)).into()
}

/// Those that have a leader to lose, and others to follow it.
pub(crate) fn with_leaders(runtime: &Arc<Runtime>) -> [Arc<Subject>; 2] {
    let kinds = [(Target::Catena, 3), (Target::Etcd(Release::V37), 3)];
    kinds.map(|kind| subject(kind, runtime))
}

fn subject((target, members): (Target, usize), runtime: &Arc<Runtime>) -> Arc<Subject> {
    Arc::new(Subject {
        target,
        members,
        runtime: runtime.clone(),
        shared: OnceLock::new(),
    })
}

impl Subject {
    /// Runs a case on the shared store.
    pub(crate) fn run(
        &self,
        name: &str,
        case: impl AsyncFnOnce(Ground) -> Result<()>,
    ) -> Result<(), Failed> {
        let shared = self.shared.get_or_init(|| {
            let setup = Setup::new(self.target, self.members);
            self.runtime
                .block_on(Cluster::start(setup))
                .map_err(Arc::new)
        });
        let cluster = match shared {
            Ok(cluster) => cluster,
            Err(error) => return missing(name, error),
        };
        let result = self.runtime.block_on(async {
            let ground = Ground::new(connect(cluster)?, cluster.members[0].endpoint());
            let run = case(ground);
            timeout(CASE_WITHIN, run)
                .await
                .context("the case takes too long")?
        });
        Ok(result.map_err(text)?)
    }

    /// Whether cases that are dear, or whose outcome is the same on all forms and releases of one implementation, run on it.
    pub(crate) fn stands_for_its_kind(&self) -> bool {
        matches!(self.target, Target::InProcess | Target::Etcd(Release::V37))
    }

    /// Runs a case on a store of its own.
    pub(crate) fn run_on_own(
        &self,
        name: &str,
        case: impl AsyncFnOnce(&mut OwnStore) -> Result<()>,
    ) -> Result<(), Failed> {
        let setup = Setup::new(self.target, self.members);
        let started = self.runtime.block_on(OwnStore::start(setup));
        let mut store = match started {
            Ok(store) => store,
            Err(error) => return missing(name, &Arc::new(error)),
        };
        let result = self.runtime.block_on(async {
            let run = case(&mut store);
            timeout(own_within(), run)
                .await
                .context("the case takes too long")?
        });
        if result.is_err() {
            store.show_logs();
        }
        Ok(result.map_err(text)?)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target {
            Target::InProcess => f.write_str("embedded"),
            Target::Catena | Target::Etcd(_) => write!(f, "{}_x{}", self.target, self.members),
        }
    }
}

/// A client of a cluster, or the member itself if it is in this process.
pub(crate) fn connect(cluster: &Cluster) -> Result<Arc<dyn Kv>> {
    if let Some(kv) = cluster.members[0].embedded() {
        return Ok(kv);
    }
    let endpoints: Vec<_> = cluster
        .members
        .iter()
        .map(|member| member.endpoint())
        .collect();
    Ok(Arc::new(Remote::connect(&endpoints, Options::default())?))
}

/// A case whose store cannot be had is left out, except where nothing may be.
fn missing(name: &str, error: &Arc<anyhow::Error>) -> Result<(), Failed> {
    match error.downcast_ref::<Missing>() {
        Some(missing) => {
            leave_out(name, missing).map_err(text)?;
            Ok(())
        }
        None => Err(format!("{error:#}").into()),
    }
}

fn text(error: anyhow::Error) -> String {
    format!("{error:#}")
}
