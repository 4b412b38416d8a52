//! Following a service.

use std::{cmp::Ordering, sync::Arc};

use futures_util::{Stream, stream};
use tokio::sync::watch;

use super::{Change, Snapshot, View};
use crate::{Error, Instance, Registry, Result};

/// Follows a service. A slow follower misses nothing that is, only what was in between: each change leads from what it saw last to
/// what is known now, and waits in no queue.
pub struct Watcher {
    views: watch::Receiver<View>,
    /// Where the last change led to; `None` before the first.
    seen: Option<Arc<Snapshot>>,
    /// Keeps the tasks of the registry alive.
    _registry: Registry,
}

impl Watcher {
    pub(crate) fn new(views: watch::Receiver<View>, registry: Registry) -> Self {
        Self {
            views,
            seen: None,
            _registry: registry,
        }
    }

    /// The next change. The first answers at once with all that is known, even if that is nothing; `synced` tells "none" from "not
    /// known". Dropping the future loses nothing. Fails once the registry is closed.
    pub async fn next(&mut self) -> Result<Change> {
        loop {
            if self.seen.is_some() {
                let changed = self.views.changed().await;
                changed.map_err(|_closed| Error::Closed)?;
            }
            let now = self.views.borrow_and_update().snapshot.clone();
            let before = self.seen.replace(now.clone());
            let change = change(before.as_deref(), &now);
            if before.is_none_or(|before| differs(&before, &change)) {
                return Ok(change);
            }
        }
    }

    /// The changes as a stream. It ends when the registry is closed.
    pub fn into_stream(self) -> impl Stream<Item = Change> {
        stream::unfold(self, |mut watcher| async move {
            let change = watcher.next().await.ok()?;
            Some((change, watcher))
        })
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

/// Whether a change says anything. An instance that went and came back in between leaves nothing to say.
fn differs(before: &Snapshot, change: &Change) -> bool {
    !(change.added.is_empty() && change.updated.is_empty() && change.removed.is_empty())
        || before.settings != change.settings
        || (before.synced, before.stale) != (change.synced, change.stale)
}

/// What leads from one snapshot to another; both are sorted by id.
fn change(before: Option<&Snapshot>, now: &Snapshot) -> Change {
    let mut change = Change {
        revision: now.revision,
        all: now.instances.clone(),
        added: Vec::new(),
        updated: Vec::new(),
        removed: Vec::new(),
        settings: now.settings.clone(),
        synced: now.synced,
        stale: now.stale,
    };
    let mut old = before.map_or(&[][..], |before| &before.instances);
    let mut new = &now.instances[..];
    loop {
        let order = match (old.first(), new.first()) {
            (Some(old), Some(new)) => old.id.cmp(&new.id),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return change,
        };
        if order.is_le() {
            let gone = take(&mut old);
            if order.is_eq() {
                let here = take(&mut new);
                if !Arc::ptr_eq(&gone, &here) {
                    change.updated.push((gone, here));
                }
            } else {
                change.removed.push(gone);
            }
        } else {
            change.added.push(take(&mut new));
        }
    }
}

fn take(rest: &mut &[Arc<Instance>]) -> Arc<Instance> {
    let (first, others) = rest.split_first().expect("its first was just looked at");
    *rest = others;
    first.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServiceName;

    fn snapshot(instances: &[&Arc<Instance>]) -> Snapshot {
        Snapshot {
            instances: instances.iter().copied().cloned().collect(),
            synced: true,
            stale: false,
            ..Snapshot::unknown()
        }
    }

    fn instance(id: &str) -> Arc<Instance> {
        let service = ServiceName::new("user").unwrap();
        Arc::new(Instance::new(service, id, Vec::new()))
    }

    #[test]
    fn a_change_leads_from_one_list_to_the_other() {
        let (a, b, b2, c) = (instance("a"), instance("b"), instance("b"), instance("c"));
        let first = change(None, &snapshot(&[&a, &b]));
        assert_eq!(first.added, [a.clone(), b.clone()]);
        let second = change(Some(&snapshot(&[&a, &b])), &snapshot(&[&b2, &c]));
        assert_eq!(second.added, std::slice::from_ref(&c));
        assert_eq!(second.removed, std::slice::from_ref(&a));
        assert_eq!(second.updated, [(b, b2.clone())]);
        let last = change(Some(&snapshot(&[&b2, &c])), &snapshot(&[]));
        assert_eq!(last.removed, [b2, c]);
        assert!(last.synced && last.all.is_empty());
    }
}
