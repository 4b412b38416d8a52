//! How fast a member that is far behind is sent what it lacks, while clients write.
//!
//! To read the past, to carry it and to apply it takes the same cores, disks and cables as what is written now. Sent as fast as the
//! member takes it, the past would halve what clients get for as long as it lasts. So it goes at a multiple of the rate at which the
//! log grows, and never slower than a bound that leaves clients of a leader with less to do enough room. While hardly anything is
//! written, nothing is held back.
//!
//! A multiple, since that is what makes the member arrive: however much is written, it comes nearer, as long as it can take more than
//! that at all. A snapshot goes the faster the more the log has grown since it began, because the log is held for the
//! member only up to a bound; see [`crate::behind`].
//!
//! Entries are the past if they are read from files: the newest ones, which are in memory, go as they come, and so does everything
//! that is no entry, such as heartbeats.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use catena_runtime::Clock;
use parking_lot::Mutex;

/// How many times as fast as the log grows the past is sent, in halves: a member needs twice as long to catch up as it took to write
/// what it lacks. To take the past in large parts costs it little more than half of what entries cost as they come, so that while it
/// catches up it takes hardly more from clients than when it has.
const HALVES: u128 = 3;

/// Of the least rate at which the past is sent, the part that must be written for clients to need the room.
const BUSY_PART: u64 = 16;

/// How long the log is watched for the rate at which it grows: many batches, and much less than a member needs to arrive.
const WINDOW: Duration = Duration::from_millis(100);

const NANOS: u128 = 1_000_000_000;

/// What a member knows of how fast its log grows.
pub(crate) struct Pace {
    clock: Arc<dyn Clock>,
    /// Bytes a second at which the past is sent at least.
    bytes_min: u64,
    /// Bytes that the log may hold behind a snapshot when nobody is behind.
    log_bytes_max: u64,
    /// Bytes of entries that were appended.
    written: AtomicU64,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    began: Duration,
    /// What was written before.
    written: u64,
    /// Bytes a second in the window before.
    rate: u64,
}

/// The past on its way to one member.
#[derive(Clone)]
pub(crate) struct Past {
    pace: Arc<Pace>,
    /// When the next part may go.
    due: Duration,
    /// What was written when the snapshot that is sent began, if it is one.
    since: Option<u64>,
}

impl Pace {
    /// For a log of which nothing is known yet.
    pub(crate) fn new(clock: Arc<dyn Clock>, bytes_min: u64, log_bytes_max: u64) -> Self {
        Self {
            clock,
            bytes_min: bytes_min.max(1),
            log_bytes_max: log_bytes_max.max(1),
            written: AtomicU64::new(0),
            window: Mutex::default(),
        }
    }

    /// Entries of so many bytes were appended.
    pub(crate) fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The log from somewhere on is sent to a member.
    pub(crate) fn log(self: &Arc<Self>) -> Past {
        Past {
            pace: self.clone(),
            due: Duration::ZERO,
            since: None,
        }
    }

    /// A snapshot of now is sent to a member.
    pub(crate) fn snapshot(self: &Arc<Self>) -> Past {
        let since = Some(self.written.load(Ordering::Relaxed));
        Past {
            since,
            ..self.log()
        }
    }

    /// Bytes a second that were lately written.
    fn rate(&self) -> u64 {
        let (now, written) = (self.clock.now(), self.written.load(Ordering::Relaxed));
        let mut window = self.window.lock();
        let length = now.saturating_sub(window.began);
        if length >= WINDOW {
            let grown = u128::from(written.saturating_sub(window.written));
            *window = Window {
                began: now,
                written,
                rate: u64::try_from(grown * NANOS / length.as_nanos()).unwrap_or(u64::MAX),
            };
        }
        window.rate
    }

    /// What a part of so many bytes takes at least; `grown` is what was written since the snapshot began.
    fn time(&self, bytes: usize, grown: u64) -> Duration {
        let rate = self.rate();
        if rate.saturating_mul(BUSY_PART) < self.bytes_min {
            return Duration::ZERO;
        }
        // A snapshot that the log has outgrown once goes three times as fast.
        let haste = u128::from(self.log_bytes_max) + 2 * u128::from(grown);
        let past = u128::from(rate) * HALVES * haste / (2 * u128::from(self.log_bytes_max));
        let nanos = bytes as u128 * NANOS / past.max(u128::from(self.bytes_min));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Past {
    /// Waits until the next part may go.
    pub(crate) async fn wait(&self) {
        let clock = self.pace.clock.as_ref();
        let left = self.due.saturating_sub(clock.now());
        if !left.is_zero() {
            clock.sleep(left).await;
        }
    }

    /// A part of so many bytes goes now.
    pub(crate) fn goes(&mut self, bytes: usize) {
        let written = self.pace.written.load(Ordering::Relaxed);
        let grown = self.since.map_or(0, |since| written - since);
        self.due = self.pace.clock.now() + self.pace.time(bytes, grown);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use catena_runtime::BoxFuture;

    use super::*;

    const MIB: u64 = 1 << 20;
    const PART: usize = 1 << 20;

    /// A clock that goes on only when somebody sleeps.
    #[derive(Default)]
    pub(crate) struct Sleepers(Mutex<Duration>);

    impl Clock for Sleepers {
        fn now(&self) -> Duration {
            *self.0.lock()
        }

        fn unix_secs(&self) -> u64 {
            self.now().as_secs()
        }

        fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
            *self.0.lock() += time;
            Box::pin(std::future::ready(()))
        }
    }

    struct World {
        clock: Arc<Sleepers>,
        pace: Arc<Pace>,
        /// Bytes a second that clients write.
        rate: u64,
        /// Bytes a second that the member takes at most.
        takes: u64,
    }

    impl World {
        fn new(rate: u64, takes: u64) -> Self {
            let clock = Arc::new(Sleepers::default());
            Self {
                pace: Arc::new(Pace::new(clock.clone(), 16 * MIB, 256 * MIB)),
                clock,
                rate,
                takes,
            }
        }

        fn written(&self) -> u64 {
            self.pace.written.load(Ordering::Relaxed)
        }

        /// Lets clients write up to now.
        fn write(&self) {
            let nanos = self.clock.now().as_nanos();
            let wanted = (u128::from(self.rate) * nanos / NANOS) as u64;
            self.pace.wrote((wanted - self.written()) as usize);
        }

        /// Sends a part; what it takes to take it, passes.
        async fn part(&self, past: &mut Past) {
            past.wait().await;
            self.write();
            past.goes(PART);
            let taking = PART as u128 * NANOS / u128::from(self.takes);
            self.clock.sleep(Duration::from_nanos(taking as u64)).await;
            self.write();
        }

        /// Bytes a second at which the log is sent, once it is known how fast it grows.
        async fn speed(&self) -> u64 {
            let mut past = self.pace.log();
            while self.clock.now() < 10 * WINDOW {
                self.part(&mut past).await;
            }
            let began = self.clock.now();
            for _ in 0..500 {
                self.part(&mut past).await;
            }
            let nanos = (self.clock.now() - began).as_nanos();
            (500 * PART as u128 * NANOS / nanos) as u64
        }
    }

    /// Within a twentieth: the rate is that of the window before.
    fn assert_near(found: u64, wanted: u64) {
        let off = found.abs_diff(wanted);
        assert!(off <= wanted / 20, "{found} instead of {wanted}");
    }

    #[tokio::test]
    async fn the_past_goes_as_fast_as_it_is_taken_while_nothing_is_written() {
        assert_near(World::new(0, 100 * MIB).speed().await, 100 * MIB);
        assert_near(World::new(MIB / 2, 100 * MIB).speed().await, 100 * MIB);
    }

    #[tokio::test]
    async fn the_past_goes_faster_than_what_is_written() {
        for rate in [12, 20, 40] {
            let speed = World::new(rate * MIB, 1000 * MIB).speed().await;
            assert_near(speed, rate * MIB * 3 / 2);
        }
    }

    #[tokio::test]
    async fn the_past_is_not_slower_than_the_bound() {
        assert_near(World::new(2 * MIB, 100 * MIB).speed().await, 16 * MIB);
    }

    /// Whoever can take more than is written gets more than is written.
    #[tokio::test]
    async fn who_can_catch_up_is_not_kept_from_it() {
        for (rate, takes) in [(20, 21), (20, 30), (40, 90), (3, 4)] {
            let speed = World::new(rate * MIB, takes * MIB).speed().await;
            let wanted = takes.min((rate * 3 / 2).max(16));
            assert_near(speed, wanted * MIB);
        }
    }

    /// The log is held for four times 256 MiB, and the rest of it must come behind the snapshot.
    #[tokio::test]
    async fn a_large_snapshot_arrives_before_the_log_has_grown_too_long() {
        let world = World::new(12 * MIB, 1000 * MIB);
        let mut past = world.pace.snapshot();
        for _ in 0..6 << 10 {
            world.part(&mut past).await;
        }
        assert!(world.written() < 1000 * MIB, "{}", world.written() / MIB);
        assert!(world.written() > 300 * MIB, "it was not held back");
    }
}
