//! `GET /users/{id}` and `DELETE /users/{id}`.

use axum::extract::State;
use catena_api::user::{DeleteUserRequest, GetUserRequest};
use catena_middleware::{Success, error::Result, validate::id};
use http::StatusCode;
use tonic::Request;

use super::user::Shown;
use crate::{UserCalls, extract::Param};

pub(super) async fn one(
    State(calls): State<UserCalls>,
    Param(text): Param,
) -> Result<Success<Shown>> {
    let request = GetUserRequest { id: id(&text)? };
    let user = calls.users.get(Request::new(request)).await?.into_inner();
    Ok(Success::new(user.into()))
}

pub(super) async fn delete(
    State(calls): State<UserCalls>,
    Param(text): Param,
) -> Result<StatusCode> {
    let request = DeleteUserRequest { id: id(&text)? };
    calls.users.delete(Request::new(request)).await?;
    Ok(StatusCode::NO_CONTENT)
}
