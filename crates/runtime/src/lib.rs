//! The world as the store sees it: clock, disk, network, randomness and task spawning.
//!
//! `wal`, `store`, `raft` and the parts of `server` that decide about reads, leases and watches reach the outside only through the
//! traits here. Each has two forms: the real one in this crate, and the one of a simulation, which runs several members in one
//! thread on virtual time and a disk that loses what was not synced. That is the whole reason for the traits: nothing else may
//! stand behind them.
//!
//! What is deliberately absent: locks, and channels but one. Those of `tokio::sync` and `parking_lot` know no clock and no thread and
//! wake in the order of waiting, so they behave alike in both worlds. The exception is `tokio::sync::watch`, which draws the order
//! in which it wakes: [`watch`] stands in for it.

mod clock;
mod disk;
mod network;
mod tasks;
pub mod watch;

use std::sync::Arc;

pub use clock::{Clock, SystemClock};
pub use disk::{Disk, File, OpenMode, SystemDisk};
pub use network::{Duplex, NetError, Network, STREAM_FRAMES_MAX, Service};
pub use tasks::{BoxFuture, SystemTasks, Task, Tasks};

/// Randomness for decisions that need no secrecy, such as jitter and ids.
pub trait Random: Send + Sync + 'static {
    /// A uniformly distributed number.
    fn next_u64(&self) -> u64;
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}

/// All that a member needs of the outside, except its peers. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Tasks and threads.
    pub tasks: Arc<dyn Tasks>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

impl Runtime {
    /// The real world. Tasks run on the tokio runtime from within which they are spawned.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            disk: Arc::new(SystemDisk),
            tasks: Arc::new(SystemTasks::default()),
            random: Arc::new(SystemRandom),
        }
    }
}
