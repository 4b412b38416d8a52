//! What runs, of processes that live and of those that have ended.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    cluster::{Cluster, Freezer},
    world,
};

/// What a process has started is gone so long after its end. Calls that others answer are waited for no longer.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// Processes of which something may still run, by member and number.
#[derive(Default)]
pub(super) struct Lives(BTreeMap<(u64, u64), Life>);

struct Life {
    tasks: Freezer,
    /// When it was found to have ended.
    ended: Option<Duration>,
}

impl Lives {
    pub(super) fn begin(&mut self, process: (u64, u64), tasks: Freezer) {
        self.0.insert(process, Life { tasks, ended: None });
    }

    /// No task outlives its process for long.
    pub(super) fn look(&mut self, cluster: &Cluster) {
        self.bury(cluster);
        for ((id, incarnation), life) in &self.0 {
            let Some(ended) = life.ended else {
                continue;
            };
            assert!(
                world::now() < ended + GONE_WITHIN,
                "invariant 22: process {incarnation} of member {id:x} has ended and still runs: {:?}",
                life.tasks.all_tasks()
            );
        }
    }

    pub(super) fn dead_are_gone(&mut self, cluster: &Cluster) -> bool {
        self.bury(cluster);
        self.0.values().all(|life| life.ended.is_none())
    }

    /// Notes who has ended, and forgets those of whom nothing is left.
    fn bury(&mut self, cluster: &Cluster) {
        for ((id, incarnation), life) in &mut self.0 {
            if life.ended.is_none() && cluster.incarnation(*id) != *incarnation {
                life.ended = Some(world::now());
            }
        }
        self.0
            .retain(|_, life| life.ended.is_none() || !life.tasks.all_tasks().is_empty());
    }
}
