//! `GET /users?limit=&cursor=`.

use axum::extract::State;
use catena_api::user::ListUsersRequest;
use catena_middleware::{Success, error::Result, validate::fields};
use serde::Serialize;
use tonic::Request;

use super::user::Shown;
use crate::{UserCalls, extract::Query};

#[derive(Serialize)]
pub(super) struct Page {
    users: Vec<Shown>,
    next_cursor: Option<String>,
}

pub(super) async fn list(
    State(calls): State<UserCalls>,
    mut query: Query,
) -> Result<Success<Page>> {
    let limit = query.integer(&fields::LIMIT);
    let cursor = query.text("cursor").unwrap_or_default();
    query.finish()?;
    // Within its rule, it fits.
    let limit = limit.and_then(|limit| i32::try_from(limit).ok());
    let request = ListUsersRequest { limit, cursor };
    let answer = calls.users.list(Request::new(request)).await?.into_inner();
    Ok(Success::new(Page {
        users: answer.users.into_iter().map(Into::into).collect(),
        next_cursor: Some(answer.next_cursor).filter(|cursor| !cursor.is_empty()),
    }))
}
