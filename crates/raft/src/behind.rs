//! Members that are sent a snapshot, and need the log behind it once they have it.
//!
//! Where much is written, the log that is kept is over in less time than a snapshot takes to travel. If it were cut meanwhile, the
//! member would need another snapshot as soon as it had the first one, and so on for as long as the load lasts. So the log is held for
//! it until it has caught up, is silent, or the log has grown too long; see [`crate::machine::LogMeter`].
//!
//! As long as the snapshot travels, the log behind it is held whatever else is known: that the log is not cut so far yet says nothing
//! of the next time, and the member was silent until it came back. Who sends the snapshot notices if nobody takes it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use crate::PeerStatus;

/// A member that is silent for so long is not waited for.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// The last snapshot to each member.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    sent: Mutex<BTreeMap<u64, Sent>>,
    /// Snapshots sent so far.
    count: AtomicU64,
}

#[derive(Debug)]
struct Sent {
    /// Tells it from others to the same member.
    number: u64,
    /// How far it reaches.
    index: u64,
    /// When it was installed; until then it is on its way.
    arrived: Option<Duration>,
}

/// A snapshot on its way. If this is dropped, it did not arrive.
#[must_use]
pub(crate) struct OnItsWay<'a> {
    behind: &'a Behind,
    member: u64,
    number: u64,
}

impl OnItsWay<'_> {
    /// The member has it.
    pub(crate) fn arrived(self, now: Duration) {
        if let Some(sent) = self.behind.sent.lock().get_mut(&self.member)
            && sent.number == self.number
        {
            sent.arrived = Some(now);
        }
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        let mut sent = self.behind.sent.lock();
        let is_lost = |sent: &Sent| sent.number == self.number && sent.arrived.is_none();
        if sent.get(&self.member).is_some_and(is_lost) {
            sent.remove(&self.member);
        }
    }
}

impl Behind {
    /// A snapshot up to `index` is on its way, until what this returns says otherwise.
    pub(crate) fn sending(&self, member: u64, index: u64) -> OnItsWay<'_> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let sent = Sent {
            number,
            index,
            arrived: None,
        };
        self.sent.lock().insert(member, sent);
        OnItsWay {
            behind: self,
            member,
            number,
        }
    }

    /// The index up to which nobody needs the log, if it is to be cut at `upto`; `None` if nobody needs what is before that. `peers` is
    /// what this member knows of the others as their leader.
    pub(crate) fn needed(&self, upto: u64, peers: &[PeerStatus], now: Duration) -> Option<u64> {
        let mut needed: Option<u64> = None;
        self.sent.lock().retain(|member, sent| {
            let Some(peer) = peers.iter().find(|peer| peer.id == *member) else {
                return false;
            };
            let mut has = sent.index;
            if let Some(arrived) = sent.arrived {
                let since = now.saturating_sub(arrived);
                let silent = peer.silent.unwrap_or_default().min(since);
                // It counts from 1, and so is the index of the next entry.
                let matched = peer.matched.map_or(0, |next| next.saturating_sub(1));
                has = has.max(matched);
                if silent >= SILENT_MAX || has >= upto {
                    return false;
                }
            }
            if has < upto {
                needed = Some(needed.map_or(has, |needed| needed.min(has)));
            }
            true
        });
        needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn peer(id: u64, matched: Option<u64>, silent_secs: u64) -> PeerStatus {
        PeerStatus {
            id,
            matched,
            silent: Some(Duration::from_secs(silent_secs)),
        }
    }

    #[test]
    fn the_log_is_held_until_a_member_has_caught_up() {
        let behind = Behind::default();
        assert_eq!(behind.needed(900, &[peer(2, Some(5), 0)], NOW), None);
        behind.sending(2, 500).arrived(NOW);
        assert_eq!(behind.needed(900, &[peer(2, None, 0)], NOW), Some(500));
        assert_eq!(behind.needed(900, &[peer(2, Some(701), 0)], NOW), Some(700));
        assert_eq!(behind.needed(900, &[peer(2, Some(901), 0)], NOW), None);
        assert_eq!(
            behind.needed(1900, &[peer(2, Some(901), 0)], NOW),
            None,
            "as any other from now on"
        );
    }

    /// The log is cut again and again while a snapshot travels, the first time perhaps before where the snapshot ends.
    #[test]
    fn the_log_behind_a_snapshot_is_held_while_it_travels() {
        let behind = Behind::default();
        let on_its_way = behind.sending(2, 500);
        let peers = [peer(2, Some(5), 0)];
        assert_eq!(behind.needed(400, &peers, NOW), None, "nobody needs less");
        assert_eq!(behind.needed(900, &peers, NOW), Some(500));
        on_its_way.arrived(NOW);
        assert_eq!(behind.needed(1400, &peers, NOW), Some(500));
    }

    /// It was not heard while it was away, and what it says when it is back takes its time.
    #[test]
    fn who_takes_a_snapshot_is_not_silent() {
        let behind = Behind::default();
        let on_its_way = behind.sending(2, 500);
        let peers = [peer(2, None, 60)];
        assert_eq!(behind.needed(900, &peers, NOW), Some(500));
        on_its_way.arrived(NOW);
        assert_eq!(behind.needed(900, &peers, NOW), Some(500));
        let later = NOW + SILENT_MAX;
        assert_eq!(behind.needed(900, &peers, later), None);
    }

    #[test]
    fn the_one_that_is_farthest_behind_counts() {
        let behind = Behind::default();
        let _nearer = behind.sending(2, 500);
        let farther = behind.sending(3, 300);
        let peers = [peer(2, None, 0), peer(3, None, 0)];
        assert_eq!(behind.needed(900, &peers, NOW), Some(300));
        drop(farther);
        assert_eq!(behind.needed(900, &peers, NOW), Some(500));
    }

    /// What ends late says nothing of the snapshot that was begun meanwhile.
    #[test]
    fn only_the_last_snapshot_to_a_member_counts() {
        let behind = Behind::default();
        let (first, second) = (behind.sending(2, 500), behind.sending(2, 700));
        let peers = [peer(2, None, 60)];
        drop(first);
        assert_eq!(behind.needed(900, &peers, NOW), Some(700));
        drop(second);
        assert_eq!(behind.needed(900, &peers, NOW), None);
    }

    #[test]
    fn nobody_waits_for_the_silent_and_the_removed() {
        let behind = Behind::default();
        let before = NOW.saturating_sub(SILENT_MAX);
        behind.sending(2, 500).arrived(before);
        let _on_its_way = behind.sending(3, 300);
        assert_eq!(behind.needed(900, &[peer(2, None, 11)], NOW), None);
        assert_eq!(
            behind.needed(900, &[peer(2, None, 0), peer(3, None, 0)], NOW),
            None
        );
    }
}
