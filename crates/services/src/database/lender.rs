//! Connections to a file of SQLite, each lent to one request at a time.
//!
//! Each connection has a thread of its own, and the way there and back costs more than most statements do. sqlx's pool goes it before
//! and after each loan, to ask whether the connection lives, and a third time would have to say how long the statement may take.
//! A file does not go away as a server does, so here nobody asks, and the moment at which a statement ends is kept where both
//! threads see it.
//!
//! What a request has left behind that was given up runs until its own moment. Such a connection is lent last, and whoever gets it
//! waits for it before setting another moment.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Instructions of SQLite's virtual machine between two looks at the clock: some microseconds.
const INSTRUCTIONS: i32 = 1000;

/// Lends connections, in the order in which they are asked for.
#[derive(Clone)]
pub(super) struct Lender(Arc<Desk>);

struct Desk {
    options: SqliteConnectOptions,
    connections_max: u32,
    room: Arc<Semaphore>,
    /// The last one is lent first: it is warm.
    idle: Mutex<Vec<Open>>,
}

/// A connection.
struct Open {
    connection: SqliteConnection,
    /// When its statement ends; none is never.
    end: Arc<Mutex<Option<Instant>>>,
    /// Whether its last statement has come to its end, and well.
    is_at_rest: bool,
}

/// A connection that is lent; dropping it gives it back.
pub(crate) struct Lent {
    /// None if it was found broken.
    open: Option<Open>,
    desk: Arc<Desk>,
    _room: OwnedSemaphorePermit,
}

impl Lender {
    /// Nothing is opened yet.
    pub(super) fn new(options: SqliteConnectOptions, connections_max: u32) -> Self {
        Self(Arc::new(Desk {
            options,
            connections_max,
            room: Arc::new(Semaphore::new(connections_max as usize)),
            idle: Mutex::default(),
        }))
    }

    /// Lends a connection, opened if none is idle. Fails if all of them are lent for longer than `within`.
    pub(super) async fn lend(&self, within: Duration) -> sqlx::Result<Lent> {
        let Self(desk) = self;
        let room = timeout(within, desk.room.clone().acquire_owned()).await;
        let room = room.map_err(|_elapsed| sqlx::Error::PoolTimedOut)?;
        let room = room.map_err(|_closed| sqlx::Error::PoolClosed)?;
        let mut lent = Lent {
            open: desk.idle().pop(),
            desk: desk.clone(),
            _room: room,
        };
        if let Some(open) = &mut lent.open
            && !open.is_at_rest
            && open.connection.ping().await.is_err()
        {
            lent.open = None;
        }
        if lent.open.is_none() {
            lent.open = Some(Open::connect(&desk.options).await?);
        }
        Ok(lent)
    }

    /// Waits for all that is lent, and closes it.
    pub(super) async fn close(&self) {
        let Self(desk) = self;
        // It fails only if it is closed already.
        let _all = desk.room.acquire_many(desk.connections_max).await;
        desk.room.close();
        let idle = std::mem::take(&mut *desk.idle());
        for open in idle {
            // One that cannot be closed in order has lost its thread, and is closed by that.
            let _closed = open.connection.close().await;
        }
    }
}

impl fmt::Debug for Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self.0.room.available_permits();
        f.debug_struct("Lender").field("free", &free).finish()
    }
}

impl Desk {
    fn idle(&self) -> MutexGuard<'_, Vec<Open>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    async fn connect(options: &SqliteConnectOptions) -> sqlx::Result<Self> {
        let mut connection = options.connect().await?;
        let end = Arc::new(Mutex::new(None));
        let seen = end.clone();
        let goes_on = move || {
            let end = *seen.lock().unwrap_or_else(PoisonError::into_inner);
            end.is_none_or(|end| Instant::now() < end)
        };
        let mut handle = connection.lock_handle().await?;
        handle.set_progress_handler(INSTRUCTIONS, goes_on);
        drop(handle);
        Ok(Self {
            connection,
            end,
            is_at_rest: true,
        })
    }
}

impl Lent {
    fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("a loan begins with a connection")
    }

    /// Says when the statements that follow end.
    pub(super) fn end_at(&mut self, end: Instant) {
        let shared = &self.open().end;
        *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// The connection, for a statement. Until it is said that this [came to its end](Self::rest), it is taken to be running.
    pub(crate) fn begin(&mut self) -> &mut SqliteConnection {
        let open = self.open();
        open.is_at_rest = false;
        &mut open.connection
    }

    /// Says that nothing runs any more.
    pub(crate) fn rest(&mut self) {
        self.open().is_at_rest = true;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        let mut idle = self.desk.idle();
        match open.is_at_rest {
            true => idle.push(open),
            false => idle.insert(0, open),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::fault;

    const ENDLESS: &str =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

    /// A bound against hangs, not a wish.
    const LONG: Duration = Duration::from_secs(60);

    fn lender(connections_max: u32) -> Lender {
        Lender::new("sqlite::memory:".parse().unwrap(), connections_max)
    }

    async fn one(lent: &mut Lent) -> i64 {
        let one = sqlx::query_scalar("SELECT 1").fetch_one(lent.begin());
        let one = one.await.unwrap();
        lent.rest();
        one
    }

    #[tokio::test]
    async fn a_statement_that_runs_for_too_long_is_given_up() {
        let lender = lender(1);
        let mut lent = lender.lend(LONG).await.unwrap();
        lent.end_at(Instant::now() + Duration::from_millis(50));
        let ended = sqlx::query(ENDLESS).fetch_one(lent.begin());
        assert_eq!(
            fault(ended.await.unwrap_err()).reason(),
            "DEADLINE_EXCEEDED"
        );
        lent.end_at(Instant::now() + LONG);
        assert_eq!(one(&mut lent).await, 1);
    }

    #[tokio::test]
    async fn one_who_waits_too_long_is_told_so() {
        let lender = lender(1);
        let lent = lender.lend(LONG).await.unwrap();
        let waits = lender.lend(Duration::from_millis(20)).await;
        assert!(matches!(waits, Err(sqlx::Error::PoolTimedOut)));
        drop(lent);
        assert!(lender.lend(LONG).await.is_ok());
    }

    /// The second loan would be the statement's new life, if its moment were set before the statement has ended.
    #[tokio::test]
    async fn what_was_left_behind_ends_at_its_own_moment() {
        let lender = lender(1);
        let mut lent = lender.lend(LONG).await.unwrap();
        let end = Instant::now() + Duration::from_millis(200);
        lent.end_at(end);
        let left = timeout(
            Duration::from_millis(20),
            sqlx::query(ENDLESS).fetch_one(lent.begin()),
        );
        assert!(left.await.is_err(), "it has no end");
        drop(lent);
        let mut lent = lender.lend(LONG).await.unwrap();
        assert!(Instant::now() >= end);
        lent.end_at(Instant::now() + LONG);
        let answered = timeout(LONG, one(&mut lent)).await;
        assert_eq!(answered.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_connection_that_is_not_at_rest_is_lent_last() {
        let lender = lender(2);
        let mut left = lender.lend(LONG).await.unwrap();
        let mut calm = lender.lend(LONG).await.unwrap();
        one(&mut calm).await;
        drop(calm);
        left.begin();
        drop(left);
        let at_rest = |lender: &Lender| -> Vec<bool> {
            let idle = lender.0.idle();
            idle.iter().map(|open| open.is_at_rest).collect()
        };
        assert_eq!(at_rest(&lender), [false, true]);
        let lent = lender.lend(LONG).await.unwrap();
        assert_eq!(at_rest(&lender), [false]);
        drop(lent);
    }

    #[tokio::test]
    async fn closing_waits_for_what_is_lent() {
        let lender = lender(2);
        let lent = lender.lend(LONG).await.unwrap();
        let closing = tokio::spawn({
            let lender = lender.clone();
            async move { lender.close().await }
        });
        while lender.0.room.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(!closing.is_finished());
        drop(lent);
        closing.await.unwrap();
        let refused = lender.lend(LONG).await;
        assert!(matches!(refused, Err(sqlx::Error::PoolClosed)));
        assert!(lender.0.idle().is_empty());
    }
}
