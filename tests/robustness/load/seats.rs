//! Where clients find members, which come and go while the load runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Instant,
};

use anyhow::Result;
use framework::{Client, Member};
use parking_lot::Mutex;

/// One member as clients see it.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The member's name.
    pub(crate) name: String,
    /// Its client URL.
    pub(crate) endpoint: String,
    /// A connection that all clients of the run share.
    pub(crate) client: Client,
    gone: AtomicBool,
}

impl Seat {
    /// Whether the member has left the cluster for good.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

/// The members of a run; clones share one list.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    begin: Instant,
    seats: Arc<Mutex<Vec<Arc<Seat>>>>,
    /// What the witness that has seen most has seen.
    witnessed: Arc<AtomicI64>,
}

impl Seats {
    /// No members yet. The run's time begins.
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
            seats: Arc::default(),
            witnessed: Arc::default(),
        }
    }

    /// Nanoseconds since the run began.
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).expect("a run ends within centuries")
    }

    /// Adds a member.
    pub(crate) fn add(&self, member: &Member) -> Result<Arc<Seat>> {
        let seat = Arc::new(Seat {
            name: member.name.clone(),
            endpoint: member.endpoint(),
            client: member.client()?,
            gone: AtomicBool::new(false),
        });
        self.seats.lock().push(seat.clone());
        Ok(seat)
    }

    /// Takes a member out that leaves the cluster.
    pub(crate) fn remove(&self, name: &str) {
        self.seats.lock().retain(|seat| {
            let leaves = seat.name == name;
            seat.gone.fetch_or(leaves, Ordering::AcqRel);
            !leaves
        });
    }

    /// The seat of a member.
    pub(crate) fn of(&self, name: &str) -> Option<Arc<Seat>> {
        let seats = self.seats.lock();
        seats.iter().find(|seat| seat.name == name).cloned()
    }

    /// The member at a place, counted round.
    pub(crate) fn at(&self, place: usize) -> Arc<Seat> {
        let seats = self.seats.lock();
        seats[place % seats.len()].clone()
    }

    /// A witness has seen this revision.
    pub(crate) fn witness(&self, revision: i64) {
        self.witnessed.fetch_max(revision, Ordering::AcqRel);
    }

    /// The newest revision that a witness has seen. What is compacted stays below it, so that one witness has seen everything.
    pub(crate) fn witnessed(&self) -> i64 {
        self.witnessed.load(Ordering::Acquire)
    }
}
