//! Clusters that test cases share, one after another.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{runtime, time::timeout};

use crate::{Cluster, Left, Setup, Target, leave_out, peers::Missing};

/// Idle clusters of one kind, at most one for each thread that runs cases.
#[derive(Debug)]
pub struct Pool {
    /// Whose members.
    pub target: Target,
    /// How many in a cluster.
    pub members: usize,
    idle: Mutex<Vec<Cluster>>,
}

impl Pool {
    /// A pool without clusters; they are started when a case needs one.
    pub fn new(target: Target, members: usize) -> Self {
        Self {
            target,
            members,
            idle: Mutex::default(),
        }
    }

    /// Runs a case to its end, on a runtime of its own.
    ///
    /// With `flags` the cluster is a new one with these flags, and ends with the case. Without, it may have served other cases and
    /// will serve more, so the case finds it without keys and leases and must leave every member running. A cluster on which a case
    /// failed is not used again; its logs are printed.
    pub fn run(
        &self,
        flags: Option<&[&str]>,
        within: Duration,
        case: impl AsyncFnOnce(&mut Cluster) -> Result<()>,
    ) -> Result<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut cluster = match runtime.block_on(self.cluster(flags)) {
            Ok(cluster) => cluster,
            Err(error) => {
                let missing = error.downcast::<Missing>()?;
                return leave_out(&self.to_string(), &missing).map(|Left::Out| ());
            }
        };
        // After a panic the cluster is only looked at and dropped.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async { timeout(within, case(&mut cluster)).await })
        }));
        let result = match ended {
            Ok(ended) => ended
                .context("the case takes too long")
                .and_then(|result| result),
            Err(panic) => {
                cluster.show_logs();
                resume_unwind(panic)
            }
        };
        if result.is_err() {
            cluster.show_logs();
        } else if flags.is_none() {
            runtime.block_on(cluster.clear())?;
            self.idle
                .lock()
                .expect("no holder of the lock panics")
                .push(cluster);
        }
        result
    }

    async fn cluster(&self, flags: Option<&[&str]>) -> Result<Cluster> {
        let setup = Setup::new(self.target, self.members);
        let Some(flags) = flags else {
            let idle = self
                .idle
                .lock()
                .expect("no holder of the lock panics")
                .pop();
            return match idle {
                Some(cluster) => Ok(cluster),
                None => Cluster::start(setup).await,
            };
        };
        Cluster::start(setup.flags(flags)).await
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_x{}", self.target, self.members)
    }
}
