//! Automatic compaction, by age or by number of revisions. The leader does it; the others only remember, so that a new leader goes
//! on without waiting for a whole retention.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use catena_api::etcd::etcdserverpb as pb;
use catena_raft::Role;
use catena_store::{Error, Request};

use crate::{config::AutoCompaction, server::Server};

/// Longest time between two compactions by age.
const PERIOD_MAX: Duration = Duration::from_secs(60 * 60);

/// Looks in one period.
const LOOKS: u32 = 10;

/// Time between two compactions by number of revisions.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Compacts as `mode` says, until the member stops.
pub(crate) async fn run(server: Arc<Server>, mode: AutoCompaction) {
    match mode {
        AutoCompaction::Periodic(retention) => by_age(&server, retention).await,
        AutoCompaction::Revision(retention) => by_revisions(&server, retention).await,
    }
}

async fn by_age(server: &Server, retention: Duration) {
    let mut ages = Ages::new(retention);
    loop {
        server.runtime.clock.sleep(ages.interval()).await;
        let target = ages.look(server.reader.revision());
        let Some(revision) = target.filter(|_| leads(server)) else {
            continue;
        };
        if compact(server, revision, "periodic").await {
            ages.compacted();
        }
    }
}

async fn by_revisions(server: &Server, retention: i64) {
    let mut last = 0;
    loop {
        server.runtime.clock.sleep(REVISION_INTERVAL).await;
        let revision = server.reader.revision().saturating_sub(retention);
        if revision > 0
            && revision != last
            && leads(server)
            && compact(server, revision, "revision").await
        {
            last = revision;
        }
    }
}

fn leads(server: &Server) -> bool {
    server.leadership().role == Role::Leader
}

/// Whether the history before `revision` is gone now.
async fn compact(server: &Server, revision: i64, mode: &'static str) -> bool {
    let request = pb::CompactionRequest {
        revision,
        physical: false,
    };
    tracing::info!(revision, mode, "starting auto compaction");
    let began = server.runtime.clock.now();
    let failure = match server.propose(Request::Compact(request)).await {
        Ok(outcome) => outcome
            .result
            .err()
            .filter(|error| *error != Error::Compacted)
            .map(|error| error.to_string()),
        Err(status) => Some(status.message().to_owned()),
    };
    let took = server.runtime.clock.now().saturating_sub(began);
    match failure {
        None => tracing::info!(revision, mode, ?took, "completed auto compaction"),
        Some(ref error) => tracing::warn!(revision, mode, error, "failed auto compaction"),
    }
    failure.is_none()
}

/// The revisions of the last looks, so that the one of a retention ago is known.
struct Ages {
    interval: Duration,
    /// Looks in a retention.
    kept: usize,
    /// Looks between two compactions.
    spacing: usize,
    revisions: VecDeque<i64>,
    looks_since: usize,
    compacted_to: i64,
}

impl Ages {
    fn new(retention: Duration) -> Self {
        let period = retention.min(PERIOD_MAX);
        let interval = period / LOOKS;
        let kept = retention
            .as_nanos()
            .checked_div(interval.as_nanos())
            .unwrap_or(1);
        Self {
            interval,
            kept: usize::try_from(kept).unwrap_or(usize::MAX).max(1),
            spacing: LOOKS as usize,
            revisions: VecDeque::new(),
            // The first compaction is due as soon as a retention has passed.
            looks_since: LOOKS as usize,
            compacted_to: 0,
        }
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    /// Notes the present revision; the revision to compact to, if a compaction is due.
    fn look(&mut self, revision: i64) -> Option<i64> {
        self.revisions.push_back(revision);
        self.looks_since = self.looks_since.saturating_add(1);
        if self.revisions.len() <= self.kept {
            return None;
        }
        self.revisions.drain(..self.revisions.len() - self.kept - 1);
        let oldest = self.revisions.front().copied()?;
        let due = self.looks_since >= self.spacing && oldest > self.compacted_to;
        due.then_some(oldest)
    }

    fn compacted(&mut self) {
        self.looks_since = 0;
        self.compacted_to = self.revisions.front().copied().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks with revisions 1, 2, 3 …; at which looks a compaction is due, and to what.
    fn compactions(retention: Duration, looks: i64) -> Vec<(i64, i64)> {
        let mut ages = Ages::new(retention);
        let mut found = Vec::new();
        for look in 1..=looks {
            if let Some(revision) = ages.look(look) {
                ages.compacted();
                found.push((look, revision));
            }
        }
        found
    }

    #[test]
    fn short_retention_compacts_once_in_it() {
        let retention = Duration::from_secs(600);
        assert_eq!(Ages::new(retention).interval(), Duration::from_secs(60));
        assert_eq!(compactions(retention, 35), [(11, 1), (21, 11), (31, 21)]);
    }

    #[test]
    fn long_retention_compacts_every_hour() {
        let retention = Duration::from_secs(3 * 3600);
        assert_eq!(Ages::new(retention).interval(), Duration::from_secs(360));
        assert_eq!(compactions(retention, 55), [(31, 1), (41, 11), (51, 21)]);
    }

    #[test]
    fn a_failed_compaction_is_tried_again_at_the_next_look() {
        let mut ages = Ages::new(Duration::from_secs(10));
        for revision in 1..=10 {
            assert_eq!(ages.look(revision), None);
        }
        assert_eq!(ages.look(11), Some(1));
        assert_eq!(ages.look(12), Some(2));
        ages.compacted();
        assert_eq!(ages.look(13), None);
    }

    #[test]
    fn nothing_is_due_while_nothing_changes() {
        let mut ages = Ages::new(Duration::from_secs(10));
        let mut due = 0;
        for _ in 0..100 {
            if ages.look(5).is_some() {
                ages.compacted();
                due += 1;
            }
        }
        assert_eq!(due, 1);
    }
}
