//! Numbers of the peer methods, and the words with which a member is refused.

/// Asks for a vote.
pub(crate) const VOTE: u32 = 1;
/// Asks whether a vote would be given.
pub(crate) const PRE_VOTE: u32 = 2;
/// Asks a member to stand for election at once.
pub(crate) const TRANSFER: u32 = 3;
/// The leader makes itself heard; on a way of its own, so that entries never delay it.
pub(crate) const HEARTBEAT: u32 = 4;
/// A stream of entries.
pub(crate) const APPEND: u32 = 5;
/// A stream that is a snapshot.
pub(crate) const SNAPSHOT: u32 = 6;
/// A forwarded batch.
pub(crate) const PROPOSE: u32 = 7;
/// Asks the leader for a read index.
pub(crate) const READ_INDEX: u32 = 8;
/// A forwarded change of members.
pub(crate) const MEMBERS: u32 = 9;
/// Asks a member for its vote.
pub(crate) const TELL_VOTE: u32 = 10;

/// Begins the refusal of a member that was removed; it stops when it reads this.
const REMOVED: &str = "member was removed from the cluster";

/// Begins the refusal of a member that comes back without its data; it stops when it reads this.
const WIPED: &str = "member has lost its data";

/// The words for a member that was removed.
pub(crate) fn removed(id: u64) -> String {
    format!(
        "{REMOVED}: {id:x} may not come back under this id; empty its data directory and add it again with `etcdctl member add`"
    )
}

/// The words for a member whose data directory is another one than before.
pub(crate) fn wiped(id: u64) -> String {
    format!(
        "{WIPED}: {id:x} had another data directory before, and with it votes and entries that it promised to keep; it must be \
         removed with etcdctl member remove {id:x} and added again"
    )
}

/// Whether a refusal says that we were removed.
pub(crate) fn is_removed(refusal: &str) -> bool {
    refusal.starts_with(REMOVED)
}

/// Whether a refusal says that we are not who we were.
pub(crate) fn is_wiped(refusal: &str) -> bool {
    refusal.starts_with(WIPED)
}
