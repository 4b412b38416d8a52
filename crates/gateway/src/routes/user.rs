//! A user as REST has it.

use catena_api::user::User;
use serde::Serialize;

/// An age that was not given is null: 0 is an age.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    id: i64,
    name: String,
    email: String,
    age: Option<i32>,
}

impl From<User> for Shown {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            name: user.name,
            email: user.email,
            age: user.age,
        }
    }
}
