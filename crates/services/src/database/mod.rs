//! SQLite, MariaDB or PostgreSQL, by the scheme of a URL.
//!
//! Whoever takes a `Connection` takes it for one request: its statements are told how long they may run, which is what is left of
//! the request's deadline. The database itself ends them then, so that a caller who has gone leaves nothing running:
//!
//! | database | ends a statement by |
//! |---|---|
//! | SQLite | a progress handler in its virtual machine; while it waits for a lock, `busy_timeout` |
//! | MariaDB | `max_statement_time` |
//! | PostgreSQL | `statement_timeout` |
//!
//! SQLite counts its sleeps and not the time while it waits for another process' lock: it may end a tenth of a second late, and may
//! then still write what its client was told is late. The outcome of a write whose deadline has passed is not known, here as anywhere.
//!
//! SQLite has one writer, which waits here in the order of arrival and not in the file's lock, and readers beside it (WAL). What is
//! acknowledged is on the disk (`synchronous=FULL`). A write is one statement, so it takes the write lock at its beginning, as
//! `BEGIN IMMEDIATE` would; there is no transaction that begins as a reader.
//!
//! Statements have no lines in the log: the request that they belong to has one.

mod connection;
mod fault;
mod lender;

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use catena_middleware::{deadline, error::Result};
use sqlx::{
    ConnectOptions, MySqlPool, PgPool,
    migrate::Migrator,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
    pool::PoolOptions,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use self::lender::Lender;

pub(crate) use connection::{Connection, Statement, on};
pub(crate) use fault::fault;
pub use fault::{DB_POOL_EXHAUSTED, DB_UNAVAILABLE};

/// Connections of one process.
const CONNECTIONS_MAX: u32 = 10;

/// How long a request waits for one of them.
const ACQUIRE_WITHIN: Duration = Duration::from_secs(1);

/// The most that one statement may take, however far the deadline is.
const STATEMENT_LIMIT: Duration = Duration::from_secs(5);

/// How often a migration is tried on SQLite, which has no lock that would keep two processes from trying at once.
const MIGRATION_ATTEMPTS: u32 = 5;

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names none of the three.
    #[error("database URL must begin with sqlite:, mysql:, mariadb:, postgres: or postgresql:")]
    Scheme,
    /// The URL is malformed, or nobody answers there.
    #[error("cannot open the database: {0}")]
    Open(#[from] sqlx::Error),
    /// The schema cannot be brought to what this program needs.
    #[error("cannot prepare the schema: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

/// The schema of one service, for each kind of database.
pub(crate) struct Schema {
    pub(crate) sqlite: Migrator,
    pub(crate) mysql: Migrator,
    pub(crate) postgres: Migrator,
}

/// An open database.
#[derive(Clone, Debug)]
pub struct Database(Pools);

#[derive(Clone, Debug)]
enum Pools {
    Sqlite { writer: Lender, readers: Lender },
    MySql(MySqlPool),
    Postgres(PgPool),
}

/// Whether a statement changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Database {
    /// Opens the database, and brings it to the schema.
    pub(crate) async fn open(url: &str, schema: &Schema) -> Result<Self, OpenError> {
        let (scheme, rest) = url.split_once(':').ok_or(OpenError::Scheme)?;
        let pools = match scheme {
            "sqlite" => open_sqlite(url, &schema.sqlite).await?,
            "mysql" | "mariadb" => open_mysql(&format!("mysql:{rest}"), &schema.mysql).await?,
            "postgres" | "postgresql" => open_postgres(url, &schema.postgres).await?,
            _ => return Err(OpenError::Scheme),
        };
        Ok(Self(pools))
    }

    /// Whether it answers.
    pub(crate) async fn ping(&self) -> Result<()> {
        let mut connection = self.acquire(Access::Read).await?;
        connection.ping().await.map_err(fault)
    }

    /// Lets go of all connections, the writer's last one after what it was given.
    pub async fn close(&self) {
        match &self.0 {
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Pools::MySql(pool) => pool.close().await,
            Pools::Postgres(pool) => pool.close().await,
        }
    }

    /// A connection for one request, whose statements end by its deadline.
    pub(crate) async fn acquire(&self, access: Access) -> Result<Connection> {
        let limit = deadline::outbound(STATEMENT_LIMIT)?;
        let end = Instant::now() + limit;
        let mut connection = self.take(access).await.map_err(fault)?;
        let left = end.saturating_duration_since(Instant::now());
        connection.limit(access, end, left).await.map_err(fault)?;
        Ok(connection)
    }

    async fn take(&self, access: Access) -> sqlx::Result<Connection> {
        Ok(match &self.0 {
            Pools::Sqlite { writer, .. } if access == Access::Write => {
                Connection::Sqlite(writer.lend(ACQUIRE_WITHIN).await?)
            }
            Pools::Sqlite { readers, .. } => {
                Connection::Sqlite(readers.lend(ACQUIRE_WITHIN).await?)
            }
            Pools::MySql(pool) => Connection::MySql(pool.acquire().await?),
            Pools::Postgres(pool) => Connection::Postgres(pool.acquire().await?),
        })
    }
}

fn pool<DB: sqlx::Database>(options: PoolOptions<DB>, connections: u32) -> PoolOptions<DB> {
    options
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_WITHIN)
}

async fn open_sqlite(url: &str, schema: &Migrator) -> Result<Pools, OpenError> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(STATEMENT_LIMIT)
        .disable_statement_logging();
    let writer = Lender::new(options.clone(), 1);
    let mut lent = writer.lend(ACQUIRE_WITHIN).await?;
    let mut attempt = 1;
    // `run` wants what can be acquired for any lifetime, which a borrowed connection is not.
    while let Err(error) = schema.run_direct(None, lent.begin(), false).await {
        if attempt == MIGRATION_ATTEMPTS {
            return Err(error.into());
        }
        attempt += 1;
    }
    lent.rest();
    drop(lent);
    let readers = Lender::new(options, CONNECTIONS_MAX);
    Ok(Pools::Sqlite { writer, readers })
}

async fn open_mysql(url: &str, schema: &Migrator) -> Result<Pools, OpenError> {
    let options = MySqlConnectOptions::from_str(url)?.disable_statement_logging();
    let pool = pool(MySqlPoolOptions::new(), CONNECTIONS_MAX)
        .connect_with(options)
        .await?;
    schema.run(&pool).await?;
    Ok(Pools::MySql(pool))
}

async fn open_postgres(url: &str, schema: &Migrator) -> Result<Pools, OpenError> {
    let options = PgConnectOptions::from_str(url)?.disable_statement_logging();
    let pool = pool(PgPoolOptions::new(), CONNECTIONS_MAX)
        .connect_with(options)
        .await?;
    schema.run(&pool).await?;
    Ok(Pools::Postgres(pool))
}
