//! What is done to a cluster under load. Each fault ends with a proof that it took place.
//!
//! | file | faults |
//! |---|---|
//! | `kill` | SIGKILL of the leader, a follower, all; restarts in a loop and in turn |
//! | `pause` | SIGSTOP for 0.1 to 10 s; a share of the processor |
//! | `power` | loss of power of one and of all, plain and with a slow sync; a disk that lies about syncs |
//! | `disk` | full, slow, frozen; a sync that fails once |
//! | `rot` | a damaged byte at rest |
//! | `network` | partitions of each shape, one-way cuts, loss, doubling, a slow line, resets |
//! | `lease` | a lease that nobody renews, whose leader dies |
//! | `clock` | wall clocks that jump |
//! | `upkeep` | defragmentation, compaction, leadership moved by hand |
//! | `members` | joined, promoted, removed, replaced; away until a snapshot is needed |

mod clock;
mod disk;
mod kill;
mod lease;
mod members;
mod network;
mod pause;
mod power;
mod rot;
mod upkeep;

use anyhow::Result;
use futures_util::future::LocalBoxFuture;

use crate::ground::{Ground, Stand};

type Inflict = for<'a> fn(&'a mut Ground) -> LocalBoxFuture<'a, Result<()>>;

/// One fault.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    /// Its name on the command line and in the history.
    pub(crate) name: &'static str,
    /// What the members have to stand on.
    pub(crate) stand: Stand,
    /// The smallest cluster that it makes sense for.
    pub(crate) members_min: usize,
    /// Whether only our own program can be hurt this way.
    pub(crate) ours_only: bool,
    /// Whether members may be replaced, so that a place is no longer that of a disk or a host.
    pub(crate) reseats: bool,
    /// Whether acknowledged writes must be lost: the control of the judges.
    pub(crate) loses: bool,
    /// Does it.
    pub(crate) inflict: Inflict,
}

/// Makes a [`Fault`] of a function.
macro_rules! fault {
    ($name:literal, $stand:ident, $function:path) => {
        $crate::fault::Fault {
            name: $name,
            stand: $crate::ground::Stand::$stand,
            members_min: 1,
            ours_only: false,
            reseats: false,
            loses: false,
            inflict: |ground| Box::pin($function(ground)),
        }
    };
}
pub(crate) use fault;

impl Fault {
    /// The fault needs a majority beside the member it hits.
    const fn of_three(mut self) -> Self {
        self.members_min = 3;
        self
    }

    /// The fault is one of our own program.
    const fn ours(mut self) -> Self {
        self.ours_only = true;
        self
    }

    /// The fault may replace members.
    const fn reseats(mut self) -> Self {
        self.reseats = true;
        self
    }

    /// The fault loses what was acknowledged.
    const fn loses(mut self) -> Self {
        self.loses = true;
        self
    }

    /// Whether it can be done in one run with another that decides what the members stand on.
    pub(crate) fn goes_with(&self, other: &Fault) -> bool {
        match self.stand {
            Stand::Plain => other.stand == Stand::Plain || !self.reseats,
            Stand::Disks | Stand::Hosts => self.stand == other.stand,
        }
    }

    /// Whether it can be done to such a cluster.
    pub(crate) fn fits(&self, members: usize, ours: bool) -> bool {
        self.members_min <= members && (ours || !self.ours_only)
    }
}

/// Every fault.
pub(crate) fn all() -> Vec<Fault> {
    let chapters = [
        kill::FAULTS,
        pause::FAULTS,
        power::FAULTS,
        disk::FAULTS,
        rot::FAULTS,
        network::FAULTS,
        lease::FAULTS,
        clock::FAULTS,
        upkeep::FAULTS,
        members::FAULTS,
    ];
    chapters.concat()
}

/// The fault of this name.
pub(crate) fn named(name: &str) -> Option<Fault> {
    all().into_iter().find(|fault| fault.name == name)
}
