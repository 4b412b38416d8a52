//! Whether the store is there, and whether it is still the same.
//!
//! One task of each process reads one key that need not exist, for the header: it says whether the store answers, which cluster it is,
//! and at which revision. When it answers again, or its revision has gone back, everybody who relies on what the store once said is
//! told to look again; a registration that waits for its next attempt makes it at once.
//!
//! A store that is restored between two beats, and then written so fast that its revision passes the old one, is not noticed here. The
//! watches are interrupted by that too, and who follows them looks then ([`sight`](crate::sight)).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use catena_client::{Error, Kv, pb::ResponseHeader, request};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use crate::backoff::Backoff;

/// From beat to beat while the store answers: short beside the TTL of a registration, and a small load for a thousand processes.
const EVERY: Duration = Duration::from_secs(2);

/// A beat that is not answered by then counts as missed, and the next one goes to another member.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The store counts as unreachable after this time without an answer: longer than an election.
const DOWN_AFTER: Duration = Duration::from_secs(3);

/// What everybody may know of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// Whether it answers.
    pub(crate) up: bool,
    /// Grows when it answers again, and when it is another than before.
    pub(crate) returns: u64,
}

/// What is remembered from beat to beat.
#[derive(Debug)]
struct Heart {
    pulse: Pulse,
    answered: Instant,
    missed: bool,
    cluster_id: u64,
    revision: i64,
}

impl Heart {
    fn new(now: Instant) -> Self {
        Self {
            pulse: Pulse {
                up: true,
                returns: 0,
            },
            answered: now,
            missed: false,
            cluster_id: 0,
            revision: 0,
        }
    }

    fn beat(&mut self, answer: Result<ResponseHeader, Error>, now: Instant) {
        let header = match answer {
            Ok(header) => header,
            Err(error) => return self.miss(&error, now),
        };
        let other = self.cluster_id != 0 && header.cluster_id != self.cluster_id;
        let back = header.revision < self.revision;
        if other || back {
            warn!(
                revision = header.revision,
                before = self.revision,
                "the store is another, or has gone back"
            );
        }
        if self.missed || other || back {
            self.pulse.returns += 1;
        }
        if !self.pulse.up {
            info!("the store answers again");
        }
        self.pulse.up = true;
        self.missed = false;
        self.answered = now;
        self.cluster_id = header.cluster_id;
        self.revision = header.revision;
    }

    fn miss(&mut self, error: &Error, now: Instant) {
        self.missed = true;
        if self.pulse.up && now.duration_since(self.answered) >= DOWN_AFTER {
            self.pulse.up = false;
            warn!(%error, "the store does not answer; what is known of it is kept");
        }
    }
}

/// Beats for ever.
pub(crate) async fn run(kv: Arc<dyn Kv>, key: Bytes, pulse: watch::Sender<Pulse>) {
    let mut rng = SmallRng::from_os_rng();
    let mut heart = Heart::new(Instant::now());
    let mut backoff = Backoff::default();
    loop {
        let read = timeout(ANSWER_WITHIN, kv.range(request::get(key.clone())));
        let answer = read.await.unwrap_or(Err(Error::Deadline));
        heart.beat(
            answer.map(|answer| answer.header.unwrap_or_default()),
            Instant::now(),
        );
        pulse.send_if_modified(|known| std::mem::replace(known, heart.pulse) != heart.pulse);
        if heart.missed {
            sleep(backoff.pause(&mut rng)).await;
        } else {
            backoff.reset();
            sleep(EVERY).await;
        }
    }
}

/// Completes when the store answers again, or is another than before: once for each time that this happened, `heard` times so far.
pub(crate) async fn returned(pulse: &mut watch::Receiver<Pulse>, heard: &mut u64) {
    let news = pulse.wait_for(|pulse| pulse.returns != *heard).await;
    match news.map(|pulse| pulse.returns) {
        Ok(returns) => *heard = returns,
        Err(_closing) => std::future::pending().await,
    }
}

/// What is assumed before the first beat.
pub(crate) fn channel() -> (watch::Sender<Pulse>, watch::Receiver<Pulse>) {
    watch::channel(Heart::new(Instant::now()).pulse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(cluster_id: u64, revision: i64) -> Result<ResponseHeader, Error> {
        Ok(ResponseHeader {
            cluster_id,
            revision,
            ..ResponseHeader::default()
        })
    }

    #[tokio::test]
    async fn returns_count_outages_and_lost_history() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut heart = Heart::new(start);
        let mut step = |answer, secs| {
            heart.beat(answer, at(secs));
            (heart.pulse.up, heart.pulse.returns)
        };
        assert_eq!(step(header(1, 10), 0), (true, 0));
        assert_eq!(step(header(1, 10), 2), (true, 0));
        // A short silence is not an outage, but worth a look.
        assert_eq!(step(Err(Error::Deadline), 4), (true, 0));
        assert_eq!(step(header(1, 11), 4), (true, 1));
        assert_eq!(step(Err(Error::Deadline), 7), (false, 1));
        assert_eq!(step(Err(Error::Deadline), 3600), (false, 1));
        assert_eq!(step(header(1, 11), 3601), (true, 2));
        // Restored, then replaced.
        assert_eq!(step(header(1, 5), 3603), (true, 3));
        assert_eq!(step(header(2, 5), 3605), (true, 4));
        assert_eq!(step(header(2, 6), 3607), (true, 4));
    }
}
