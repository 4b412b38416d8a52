//! `GET /users/{id}` and `DELETE /users/{id}`.

use axum::extract::State;
use catena_api::user::{DeleteUserRequest, GetUserRequest};
use catena_middleware::{Success, error::Result, validate::id};
use http::StatusCode;

use super::user::Shown;
use crate::{extract::Param, gateway::Services};

pub(super) async fn one(
    State(mut services): State<Services>,
    Param(text): Param,
) -> Result<Success<Shown>> {
    let request = GetUserRequest { id: id(&text)? };
    let user = services.users.get(request).await?.into_inner();
    Ok(Success::new(user.into()))
}

pub(super) async fn delete(
    State(mut services): State<Services>,
    Param(text): Param,
) -> Result<StatusCode> {
    let request = DeleteUserRequest { id: id(&text)? };
    services.users.delete(request).await?;
    Ok(StatusCode::NO_CONTENT)
}
