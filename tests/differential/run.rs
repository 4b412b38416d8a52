//! Both sides in lockstep.

use anyhow::{Result, anyhow};
use catena_api::etcd::etcdserverpb::{WatchCreateRequest, WatchResponse};
use framework::Target;

use crate::{
    generate::STREAMS,
    operation::{Operation, Position},
    render::Rendered,
    side::Side,
    watches::Watches,
};

/// Watches are compared whenever so many steps have passed, and before whatever could disturb them.
const STEPS_BETWEEN_COMPARISONS: usize = 100;

/// Where two sides first differ.
pub(crate) struct Difference {
    /// The step, counted from 0.
    pub(crate) place: usize,
    /// What the reference and the subject answered.
    pub(crate) text: String,
    /// All steps until then, with their revisions as numbers.
    pub(crate) steps: Vec<Operation>,
}

/// Runs the steps on two new stores; gives the first difference, if there is one.
pub(crate) async fn run(
    reference: Target,
    subject: Target,
    operations: &[Operation],
) -> Result<Option<Difference>> {
    let (left, right) = tokio::try_join!(Side::start(reference), Side::start(subject))?;
    let watches = Watches::open(&left.client).await?;
    let mut run = Run {
        left,
        right,
        watches,
        position: Position {
            current: 1,
            compacted: -1,
        },
        hashes_settled: [true, true],
        zero_noted: false,
    };
    let mut steps = Vec::new();
    for (place, operation) in operations.iter().enumerate() {
        let operation = operation.at(run.position);
        steps.push(operation.clone());
        let last = place + 1 == operations.len();
        let mut result = run.step(&operation).await;
        if result.is_ok() && (last || place % STEPS_BETWEEN_COMPARISONS == 0) {
            result = run.compare_watches().await;
        }
        if let Err(difference) = result {
            run.right.cluster.show_logs();
            let text = format!("{difference:#}");
            return Ok(Some(Difference { place, text, steps }));
        }
    }
    Ok(None)
}

struct Run {
    left: Side,
    right: Side,
    watches: Watches,
    position: Position,
    /// Whether each of the last two compactions was waited for. A finished compaction notes a hash; whether it has finished is a
    /// matter of time unless it was waited for.
    hashes_settled: [bool; 2],
    /// Whether a compaction at 0 noted a hash: etcd then gives it, for a while, to whoever asks for the present one, which is 0 too.
    zero_noted: bool,
}

/// Two answers that should be one; gives it.
fn same<T: PartialEq>(left: T, right: T, show: impl Fn(&T) -> String) -> Result<T> {
    if left == right {
        return Ok(left);
    }
    Err(anyhow!(
        "reference: {}\n  subject: {}",
        show(&left),
        show(&right)
    ))
}

/// A watch response with what is compared of it.
fn watch_answer(response: &WatchResponse) -> String {
    let revision = response.header.map(|header| header.revision);
    let WatchResponse {
        watch_id,
        created,
        canceled,
        compact_revision,
        cancel_reason,
        ..
    } = response;
    format!(
        "watch {watch_id}, created {created}, canceled {canceled} {cancel_reason:?}, compact revision {compact_revision}, at {revision:?}"
    )
}

impl Run {
    async fn step(&mut self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::Watch { stream, request } => self.watch(*stream, request).await,
            Operation::Cancel { stream, watch_id } => self.cancel(*stream, *watch_id).await,
            Operation::Progress { stream } => self.progress(*stream).await,
            // Whether the hash that a compaction noted is there already is a matter of time.
            Operation::HashKv { revision } if self.is_unsettled(*revision) => Ok(()),
            Operation::Compact(request) => {
                self.compare_watches().await?;
                if !self.ask(operation).await?.failed() {
                    self.position.compacted = request.revision;
                    self.hashes_settled = [self.hashes_settled[1], request.physical];
                    self.zero_noted |= request.revision == 0;
                }
                Ok(())
            }
            Operation::Range(_)
            | Operation::RangeStream(_)
            | Operation::Put(_)
            | Operation::Delete(_)
            | Operation::Txn(_)
            | Operation::Grant { .. }
            | Operation::Revoke { .. }
            | Operation::KeepAlive { .. }
            | Operation::TimeToLive { .. }
            | Operation::Leases
            | Operation::HashKv { .. } => self.ask(operation).await.map(drop),
        }
    }

    fn is_unsettled(&self, revision: i64) -> bool {
        let hashed = if revision == 0 {
            self.position.current
        } else {
            revision
        };
        let noted = hashed == self.position.compacted && self.hashes_settled != [true, true];
        noted || (revision == 0 && self.zero_noted)
    }

    async fn ask(&mut self, operation: &Operation) -> Result<Rendered> {
        let (left, right) = tokio::join!(self.left.answer(operation), self.right.answer(operation));
        let answer = same(left, right, |answer| answer.text.clone())?;
        let revision = answer.revision.unwrap_or_default();
        self.position.current = self.position.current.max(revision);
        Ok(answer)
    }

    async fn watch(&mut self, stream: usize, request: &WatchCreateRequest) -> Result<()> {
        let (start, now) = (request.start_revision, self.position.current);
        let stream = Self::stream_for(stream, start > now);
        let (left, right) = (
            &mut self.left.streams[stream],
            &mut self.right.streams[stream],
        );
        let created = tokio::try_join!(left.create(request.clone()), right.create(request.clone()));
        let (left, right) = created?;
        same(watch_answer(&left), watch_answer(&right), String::clone)?;
        if left.canceled {
            return Ok(());
        }
        if start != 0 && start < self.position.compacted {
            return self.overtaken(stream, left.watch_id).await;
        }
        self.watches
            .add(stream, left.watch_id, request.clone(), now);
        self.compare_watches().await?;
        // Until it has caught up with history, even if nothing in it is its own, a compaction would cancel it.
        if start != 0 && start <= now {
            self.progress(stream).await?;
        }
        Ok(())
    }

    /// Watches that start later have a stream of their own: they keep progress from being answered.
    fn stream_for(stream: usize, later: bool) -> usize {
        if later {
            STREAMS - 1
        } else {
            stream % (STREAMS - 1)
        }
    }

    /// A watch from before the compaction is cancelled by itself. Its id is free only after the client cancels it too.
    async fn overtaken(&mut self, stream: usize, watch_id: i64) -> Result<()> {
        self.canceled(stream, watch_id).await?;
        self.cancel_both(stream, watch_id).await?;
        self.canceled(stream, watch_id).await
    }

    async fn cancel_both(&self, stream: usize, watch_id: i64) -> Result<()> {
        self.left.streams[stream].cancel(watch_id).await?;
        self.right.streams[stream].cancel(watch_id).await
    }

    async fn canceled(&mut self, stream: usize, watch_id: i64) -> Result<()> {
        let (left, right) = (
            &mut self.left.streams[stream],
            &mut self.right.streams[stream],
        );
        let (left, right) = tokio::try_join!(left.canceled(watch_id), right.canceled(watch_id))?;
        same(watch_answer(&left), watch_answer(&right), String::clone).map(drop)
    }

    async fn cancel(&mut self, stream: usize, watch_id: i64) -> Result<()> {
        // What happened before is delivered first, or else a cancellation could overtake it on one side only.
        self.compare_watches().await?;
        self.cancel_both(stream, watch_id).await?;
        if self.watches.alive.remove(&(stream, watch_id)).is_none() {
            return Ok(());
        }
        self.canceled(stream, watch_id).await
    }

    async fn progress(&mut self, stream: usize) -> Result<()> {
        self.compare_watches().await?;
        let now = self.position.current;
        if !self.watches.answers_progress(stream, now) {
            return Ok(());
        }
        let (left, right) = (
            &mut self.left.streams[stream],
            &mut self.right.streams[stream],
        );
        let (left, right) = tokio::try_join!(left.progress(now), right.progress(now))?;
        same(watch_answer(&left), watch_answer(&right), String::clone).map(drop)
    }

    /// Waits until every watch has delivered what it must on both sides, and compares it.
    async fn compare_watches(&mut self) -> Result<()> {
        self.watches.catch_up(self.position.current).await?;
        for watch in self.watches.alive.keys().copied().collect::<Vec<_>>() {
            let ((stream, id), due) = (watch, self.watches.due(&watch));
            let (left, right) = (
                &mut self.left.streams[stream],
                &mut self.right.streams[stream],
            );
            let (left, right) = tokio::try_join!(left.events(id, due), right.events(id, due))?;
            let events = same(left, right, |events| {
                format!("stream {stream} watch {id}: {events:?}")
            })?;
            if events.len() != due {
                return Err(anyhow!(
                    "stream {stream} watch {id} delivered {events:?}, due were {due}"
                ));
            }
            self.watches.delivered(&watch);
        }
        self.watches.forget_below(self.position.compacted);
        Ok(())
    }
}
