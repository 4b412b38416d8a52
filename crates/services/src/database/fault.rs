//! What a failed statement means for the one who asked.

use std::time::Duration;

use catena_middleware::error::{Error, Reason, reasons};

/// All connections were taken for a whole second.
pub static DB_POOL_EXHAUSTED: Reason = Reason::new(
    503,
    "DB_POOL_EXHAUSTED",
    "数据库连接已用尽",
    "all database connections are in use",
);

/// The database does not answer.
pub static DB_UNAVAILABLE: Reason = Reason::new(
    503,
    "DB_UNAVAILABLE",
    "数据库不可用",
    "the database is unavailable",
);

/// When it is worth another try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How each database says that it has ended a statement whose time was over: SQLite interrupted or still without the lock,
/// PostgreSQL `query_canceled`, MariaDB `ER_STATEMENT_TIMEOUT`.
const TIME_IS_OVER: [&str; 5] = ["9", "5", "517", "57014", "70100"];

/// The error to answer with. The database's own words stay in the log.
pub(crate) fn fault(error: sqlx::Error) -> Error {
    let reason = match &error {
        sqlx::Error::PoolTimedOut => &DB_POOL_EXHAUSTED,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => &DB_UNAVAILABLE,
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            if TIME_IS_OVER.contains(&&*code) {
                return Error::of(&reasons::DEADLINE_EXCEEDED).with_source(error);
            }
            return Error::internal(error);
        }
        _ => return Error::internal(error),
    };
    Error::of(reason)
        .with_retry_after(RETRY_AFTER)
        .with_source(error)
}
