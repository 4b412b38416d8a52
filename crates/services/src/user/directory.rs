//! Users and their rules: all that the services, over whatever protocol, agree on.

use catena_middleware::{
    error::{Error, Result},
    validate::{Checker, fields},
};
use sqlx::Connection as _;

use super::{USER_ALREADY_EXISTS, USER_NOT_FOUND, cursor, queries};
use crate::database::{Access, Connection, Database, OpenError, Schema, fault, on};

/// Users that one list has if nothing is said.
const LIST_DEFAULT: i64 = 20;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct User {
    /// Never 0, never given twice.
    pub id: i64,
    /// The name.
    pub name: String,
    /// The address, as it was given.
    pub email: String,
    /// The age, if it was given: 0 is one.
    pub age: Option<i32>,
}

/// A user to be: what is missing is told from what is empty.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The name.
    pub name: Option<String>,
    /// The address.
    pub email: Option<String>,
    /// The age.
    pub age: Option<i64>,
}

/// Changes to a user: what is none stays.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// The name.
    pub name: Option<String>,
    /// The address.
    pub email: Option<String>,
    /// The age; the inner none takes it away.
    pub age: Option<Option<i64>>,
}

/// All users.
#[derive(Clone, Debug)]
pub struct Directory {
    database: Database,
    age_min: u8,
}

/// What was found to keep the rules.
struct Valid {
    name: String,
    email: String,
    age: Option<i32>,
}

impl Directory {
    /// Opens the directory at a database. Users must be at least `age_min` years old, if they say how old they are.
    pub async fn open(url: &str, age_min: u8) -> Result<Self, OpenError> {
        let schema = Schema {
            sqlite: sqlx::migrate!("migrations/user/sqlite"),
            mysql: sqlx::migrate!("migrations/user/mysql"),
            postgres: sqlx::migrate!("migrations/user/postgres"),
        };
        let database = Database::open(url, &schema).await?;
        Ok(Self { database, age_min })
    }

    /// The database it is in.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Adds a user.
    pub async fn create(&self, draft: Draft) -> Result<User> {
        let user = self.check(draft)?;
        let mut connection = self.database.acquire(Access::Write).await?;
        let created = on!(&mut connection, queries::CREATE, |sql, to| {
            sqlx::query_as::<_, User>(sql)
                .bind(&user.name)
                .bind(&user.email)
                .bind(key(&user.email))
                .bind(user.age)
                .fetch_one(to)
        });
        created.map_err(taken)
    }

    /// The user with an id.
    pub async fn get(&self, id: i64) -> Result<User> {
        let mut connection = self.database.acquire(Access::Read).await?;
        let found = on!(&mut connection, queries::PICK, |sql, to| {
            sqlx::query_as::<_, User>(sql).bind(id).fetch_optional(to)
        });
        found.map_err(fault)?.ok_or_else(missing)
    }

    /// Users in the order of their ids, from a cursor on, and the cursor of what follows.
    pub async fn list(&self, limit: Option<i64>, cursor: &str) -> Result<(Vec<User>, String)> {
        let mut checker = Checker::new();
        checker.integer(&fields::LIMIT, limit);
        checker.finish()?;
        let (after, limit) = (cursor::read(cursor)?, limit.unwrap_or(LIST_DEFAULT));
        let mut connection = self.database.acquire(Access::Read).await?;
        // One more than is wanted tells whether there are more.
        let found = on!(&mut connection, queries::LIST, |sql, to| {
            sqlx::query_as::<_, User>(sql)
                .bind(after)
                .bind(limit + 1)
                .fetch_all(to)
        });
        let mut users = found.map_err(fault)?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = users.len() > limit;
        users.truncate(limit);
        let next = users
            .last()
            .filter(|_| more)
            .map(|last| cursor::write(last.id));
        Ok((users, next.unwrap_or_default()))
    }

    /// Replaces all that a user is, but for the id.
    pub async fn update(&self, id: i64, draft: Draft) -> Result<User> {
        let user = self.check(draft)?;
        let mut connection = self.database.acquire(Access::Write).await?;
        macro_rules! bound {
            ($query:expr) => {
                $query
                    .bind(&user.name)
                    .bind(&user.email)
                    .bind(key(&user.email))
                    .bind(user.age)
                    .bind(id)
            };
        }
        let updated = match &mut connection {
            Connection::MySql(to) => {
                let mut transaction = to.begin().await.map_err(fault)?;
                let query = bound!(sqlx::query(queries::UPDATE.positional));
                query.execute(&mut *transaction).await.map_err(taken)?;
                let found = sqlx::query_as(queries::PICK.positional).bind(id);
                let found = found
                    .fetch_optional(&mut *transaction)
                    .await
                    .map_err(fault)?;
                transaction.commit().await.map(|()| found)
            }
            returns => on!(returns, queries::UPDATE, |sql, to| {
                bound!(sqlx::query_as(sql)).fetch_optional(to)
            }),
        };
        updated.map_err(taken)?.ok_or_else(missing)
    }

    /// Changes some of what a user is.
    pub async fn patch(&self, id: i64, patch: Patch) -> Result<User> {
        let age = self.check_patch(&patch)?;
        let clears = patch.age == Some(None);
        let key = patch.email.as_deref().map(key);
        let mut connection = self.database.acquire(Access::Write).await?;
        macro_rules! bound {
            ($query:expr) => {
                $query
                    .bind(&patch.name)
                    .bind(&patch.email)
                    .bind(&key)
                    .bind(clears)
                    .bind(age)
                    .bind(id)
            };
        }
        let patched = match &mut connection {
            Connection::MySql(to) => {
                let mut transaction = to.begin().await.map_err(fault)?;
                let query = bound!(sqlx::query(queries::PATCH.positional));
                query.execute(&mut *transaction).await.map_err(taken)?;
                let found = sqlx::query_as(queries::PICK.positional).bind(id);
                let found = found
                    .fetch_optional(&mut *transaction)
                    .await
                    .map_err(fault)?;
                transaction.commit().await.map(|()| found)
            }
            returns => on!(returns, queries::PATCH, |sql, to| {
                bound!(sqlx::query_as(sql)).fetch_optional(to)
            }),
        };
        patched.map_err(taken)?.ok_or_else(missing)
    }

    /// Removes a user. The id is not given again.
    pub async fn delete(&self, id: i64) -> Result<()> {
        let mut connection = self.database.acquire(Access::Write).await?;
        let deleted = on!(&mut connection, queries::DELETE, |sql, to| async {
            let done = sqlx::query(sql).bind(id).execute(to).await?;
            Ok::<_, sqlx::Error>(done.rows_affected())
        });
        match deleted.map_err(fault)? {
            0 => Err(missing()),
            _ => Ok(()),
        }
    }

    fn check(&self, draft: Draft) -> Result<Valid> {
        let mut checker = Checker::new();
        checker.text(&fields::NAME, draft.name.as_deref());
        checker.text(&fields::EMAIL, draft.email.as_deref());
        checker.integer(&fields::age(self.age_min), draft.age);
        checker.finish()?;
        Ok(Valid {
            name: draft.name.unwrap_or_default(),
            email: draft.email.unwrap_or_default(),
            age: narrow(draft.age)?,
        })
    }

    fn check_patch(&self, patch: &Patch) -> Result<Option<i32>> {
        let mut checker = Checker::new();
        if patch.name.is_some() {
            checker.text(&fields::NAME, patch.name.as_deref());
        }
        if patch.email.is_some() {
            checker.text(&fields::EMAIL, patch.email.as_deref());
        }
        let age = patch.age.flatten();
        checker.integer(&fields::age(self.age_min), age);
        checker.finish()?;
        narrow(age)
    }
}

/// An age that keeps the rules fits.
fn narrow(age: Option<i64>) -> Result<Option<i32>> {
    age.map(i32::try_from).transpose().map_err(Error::internal)
}

/// Whom an address belongs to does not hang on its case. Addresses are ASCII.
fn key(email: &str) -> String {
    email.to_ascii_lowercase()
}

fn missing() -> Error {
    Error::of(&USER_NOT_FOUND)
}

fn taken(error: sqlx::Error) -> Error {
    let is_taken = error
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation());
    if is_taken {
        Error::of(&USER_ALREADY_EXISTS)
    } else {
        fault(error)
    }
}
