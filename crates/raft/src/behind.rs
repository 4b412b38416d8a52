//! Members that are sent a snapshot, and need the log behind it once they have it.
//!
//! Where much is written, the log that is kept is over in less time than a snapshot takes to travel. If it were cut meanwhile, the
//! member would need another snapshot as soon as it had the first one, and so on for as long as the load lasts. So the log is held for
//! it until it has caught up, is silent, or the log has grown too long; see [`crate::machine::LogMeter`].

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;

use crate::PeerStatus;

/// A member that is silent for so long is not waited for.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// By member, the index that its snapshot reaches to.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    sent: Mutex<BTreeMap<u64, u64>>,
}

impl Behind {
    /// A snapshot up to `index` is on its way.
    pub(crate) fn sending(&self, member: u64, index: u64) {
        self.sent.lock().insert(member, index);
    }

    /// It did not arrive.
    pub(crate) fn failed(&self, member: u64) {
        self.sent.lock().remove(&member);
    }

    /// The index up to which nobody needs the log, if it is to be cut at `upto`; `None` if nobody needs what is before that. `peers` is
    /// what this member knows of the others as their leader.
    pub(crate) fn needed(&self, upto: u64, peers: &[PeerStatus]) -> Option<u64> {
        let mut sent = self.sent.lock();
        let mut needed: Option<u64> = None;
        sent.retain(|member, index| {
            let peer = peers.iter().find(|peer| peer.id == *member);
            let Some(peer) = peer.filter(|peer| peer.silent.is_none_or(|for_| for_ < SILENT_MAX))
            else {
                return false;
            };
            // It counts from 1, and so is the index of the next entry.
            let has = peer
                .matched
                .map_or(*index, |matched| matched.saturating_sub(1).max(*index));
            if has >= upto {
                return false;
            }
            needed = Some(needed.map_or(has, |needed| needed.min(has)));
            true
        });
        needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(behind.needed(900, &[peer(2, Some(5), 0)]), None);
        behind.sending(2, 500);
        assert_eq!(
            behind.needed(400, &[peer(2, None, 0)]),
            None,
            "it needs less"
        );
        behind.sending(2, 500);
        assert_eq!(behind.needed(900, &[peer(2, None, 0)]), Some(500));
        assert_eq!(behind.needed(900, &[peer(2, Some(701), 0)]), Some(700));
        assert_eq!(behind.needed(900, &[peer(2, Some(901), 0)]), None);
        assert_eq!(
            behind.needed(1900, &[peer(2, Some(901), 0)]),
            None,
            "as any other from now on"
        );
    }

    #[test]
    fn the_one_that_is_farthest_behind_counts() {
        let behind = Behind::default();
        behind.sending(2, 500);
        behind.sending(3, 300);
        let peers = [peer(2, None, 0), peer(3, None, 0)];
        assert_eq!(behind.needed(900, &peers), Some(300));
        behind.failed(3);
        assert_eq!(behind.needed(900, &peers), Some(500));
    }

    #[test]
    fn nobody_waits_for_the_silent_and_the_removed() {
        let behind = Behind::default();
        behind.sending(2, 500);
        behind.sending(3, 300);
        assert_eq!(behind.needed(900, &[peer(2, None, 11)]), None);
        assert_eq!(
            behind.needed(900, &[peer(2, None, 0), peer(3, None, 0)]),
            None
        );
    }
}
