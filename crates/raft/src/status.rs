//! What a member knows of itself and the cluster.

/// The part that a member plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Votes are asked of others.
    Candidate,
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Leads; a leader that has lost its quorum says so too, so this is no proof.
    Leader,
    /// Receives the log and does not vote.
    Learner,
}

/// Who leads. Changes rarely, so it can be watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, if one is known.
    pub leader: Option<u64>,
    /// Current term.
    pub term: u64,
    /// Our own part.
    pub role: Role,
}

impl Leadership {
    /// The term that this member leads.
    pub fn led_term(&self) -> Option<u64> {
        (self.role == Role::Leader).then_some(self.term)
    }
}

/// A snapshot of a member's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The leader, if one is known.
    pub leader: Option<u64>,
    /// Current term.
    pub term: u64,
    /// Our own part.
    pub role: Role,
    /// Index of the last entry known to be committed.
    pub committed: u64,
    /// Index of the last applied entry.
    pub applied: u64,
    /// Index of the last entry in the log.
    pub last_index: u64,
    /// Index up to which the log is purged.
    pub purged: u64,
    /// How far the others are; known to the leader only.
    pub peers: Vec<PeerStatus>,
}

/// What the leader knows of another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The member.
    pub id: u64,
    /// Index up to which its log is known to equal ours.
    pub matched: Option<u64>,
    /// Time since it last answered a heartbeat.
    pub silent: Option<std::time::Duration>,
}
