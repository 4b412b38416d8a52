//! The statements. Parameters are bound in the order in which they stand.

use crate::database::Statement;

pub(super) const PICK: Statement = Statement {
    numbered: "SELECT id, name, email, age FROM users WHERE id = $1",
    positional: "SELECT id, name, email, age FROM users WHERE id = ?",
};

pub(super) const LIST: Statement = Statement {
    numbered: "SELECT id, name, email, age FROM users WHERE id > $1 ORDER BY id LIMIT $2",
    positional: "SELECT id, name, email, age FROM users WHERE id > ? ORDER BY id LIMIT ?",
};

/// MariaDB knows `RETURNING` here too.
pub(super) const CREATE: Statement = Statement {
    numbered: "INSERT INTO users (name, email, email_key, age) VALUES ($1, $2, $3, $4) RETURNING id, name, email, age",
    positional: "INSERT INTO users (name, email, email_key, age) VALUES (?, ?, ?, ?) RETURNING id, name, email, age",
};

/// MariaDB has no `RETURNING` of updates: it is asked afterwards.
pub(super) const UPDATE: Statement = Statement {
    numbered: "UPDATE users SET name = $1, email = $2, email_key = $3, age = $4 WHERE id = $5 RETURNING id, name, email, age",
    positional: "UPDATE users SET name = ?, email = ?, email_key = ?, age = ? WHERE id = ?",
};

pub(super) const PATCH: Statement = Statement {
    numbered: "UPDATE users SET name = COALESCE($1, name), email = COALESCE($2, email), email_key = COALESCE($3, email_key), age = CASE WHEN $4 THEN NULL ELSE COALESCE($5, age) END WHERE id = $6 RETURNING id, name, email, age",
    positional: "UPDATE users SET name = COALESCE(?, name), email = COALESCE(?, email), email_key = COALESCE(?, email_key), age = CASE WHEN ? THEN NULL ELSE COALESCE(?, age) END WHERE id = ?",
};

pub(super) const DELETE: Statement = Statement {
    numbered: "DELETE FROM users WHERE id = $1",
    positional: "DELETE FROM users WHERE id = ?",
};
