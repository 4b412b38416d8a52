//! One connection, of whichever kind, and the time its statements have.

use std::time::{Duration, Instant};

use sqlx::{
    AssertSqlSafe, Connection as _, MySql, Postgres, Sqlite, SqliteConnection, pool::PoolConnection,
};

use super::Access;

/// Instructions of SQLite's virtual machine between two looks at the clock: some microseconds.
const INSTRUCTIONS: i32 = 1000;

/// A connection that is taken for one request.
pub(crate) enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    MySql(PoolConnection<MySql>),
    Postgres(PoolConnection<Postgres>),
}

/// Runs one expression on whichever connection it is, with the text of the statement in its dialect.
macro_rules! on {
    ($connection:expr, $statement:expr, |$sql:ident, $to:ident| $run:expr) => {
        match $connection {
            $crate::database::Connection::Sqlite(connection) => {
                let ($sql, $to) = ($statement.numbered, &mut **connection);
                $run.await
            }
            $crate::database::Connection::MySql(connection) => {
                let ($sql, $to) = ($statement.positional, &mut **connection);
                $run.await
            }
            $crate::database::Connection::Postgres(connection) => {
                let ($sql, $to) = ($statement.numbered, &mut **connection);
                $run.await
            }
        }
    };
}
pub(crate) use on;

/// A statement in the two ways to write parameters, which are bound in the same order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statement {
    /// `$1`: SQLite and PostgreSQL.
    pub(crate) numbered: &'static str,
    /// `?`: MariaDB.
    pub(crate) positional: &'static str,
}

impl Connection {
    /// Tells the database how long the statements that follow may take.
    pub(super) async fn limit(
        &mut self,
        access: Access,
        end: Instant,
        left: Duration,
    ) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(connection) => limit_sqlite(connection, access, end, left).await,
            Self::MySql(connection) => {
                let statement = format!(
                    "SET max_statement_time = {:.3}",
                    left.as_secs_f64().max(0.001)
                );
                sqlx::raw_sql(AssertSqlSafe(statement))
                    .execute(&mut **connection)
                    .await
                    .map(drop)
            }
            Self::Postgres(connection) => {
                let statement = format!("SET statement_timeout = {}", left.as_millis().max(1));
                sqlx::raw_sql(AssertSqlSafe(statement))
                    .execute(&mut **connection)
                    .await
                    .map(drop)
            }
        }
    }

    pub(super) async fn ping(&mut self) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(connection) => connection.ping().await,
            Self::MySql(connection) => connection.ping().await,
            Self::Postgres(connection) => connection.ping().await,
        }
    }
}

async fn limit_sqlite(
    connection: &mut SqliteConnection,
    access: Access,
    end: Instant,
    left: Duration,
) -> sqlx::Result<()> {
    if access == Access::Write {
        let statement = format!("PRAGMA busy_timeout = {}", left.as_millis().max(1));
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *connection)
            .await?;
    }
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(INSTRUCTIONS, move || Instant::now() < end);
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};

    use super::*;
    use crate::database::fault;

    #[tokio::test]
    async fn sqlite_gives_up_a_statement_that_runs_for_too_long() {
        let pool: SqlitePool = SqlitePoolOptions::new()
            .connect("sqlite::memory:")
            .await
            .unwrap();
        let mut connection = pool.acquire().await.unwrap();
        let left = Duration::from_millis(50);
        limit_sqlite(&mut connection, Access::Write, Instant::now() + left, left)
            .await
            .unwrap();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let ended = sqlx::query(endless)
            .fetch_one(&mut *connection)
            .await
            .unwrap_err();
        assert_eq!(fault(ended).reason(), "DEADLINE_EXCEEDED");

        let left = Duration::from_secs(60);
        limit_sqlite(&mut connection, Access::Write, Instant::now() + left, left)
            .await
            .unwrap();
        sqlx::query("SELECT 1")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
    }
}
