//! One connection, of whichever kind, and the time its statements have.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, MySql, Postgres, pool::PoolConnection};

use super::{Access, lender::Lent};

/// A connection that is taken for one request.
pub(crate) enum Connection {
    Sqlite(Lent),
    MySql(PoolConnection<MySql>),
    Postgres(PoolConnection<Postgres>),
}

/// Runs one expression on whichever connection it is, with the text of the statement in its dialect.
macro_rules! on {
    ($connection:expr, $statement:expr, |$sql:ident, $to:ident| $run:expr) => {
        match $connection {
            $crate::database::Connection::Sqlite(connection) => {
                let ($sql, $to) = ($statement.numbered, connection.begin());
                let ended = $run.await;
                if ended.is_ok() {
                    connection.rest();
                }
                ended
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
            Self::Sqlite(connection) => {
                connection.end_at(end);
                if access == Access::Write {
                    let statement = format!("PRAGMA busy_timeout = {}", left.as_millis().max(1));
                    sqlx::raw_sql(AssertSqlSafe(statement))
                        .execute(connection.begin())
                        .await?;
                }
                Ok(())
            }
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
            Self::Sqlite(connection) => {
                connection.begin().ping().await?;
                connection.rest();
                Ok(())
            }
            Self::MySql(connection) => connection.ping().await,
            Self::Postgres(connection) => connection.ping().await,
        }
    }
}
