//! `POST /users`.

use axum::extract::State;
use catena_api::user::CreateUserRequest;
use catena_middleware::{Success, error::Result, validate::fields};
use tonic::Request;

use super::user::Shown;
use crate::{UserCalls, extract::Json};

pub(super) async fn create(
    State(calls): State<UserCalls>,
    Json(body): Json,
) -> Result<Success<Shown>> {
    let mut form = body.form()?;
    let request = CreateUserRequest {
        name: form.text(&fields::NAME),
        email: form.text(&fields::EMAIL),
        age: form.integer(&fields::age(0)),
    };
    form.finish()?;
    let user = calls
        .users
        .create(Request::new(request))
        .await?
        .into_inner();
    Ok(Success::created(format!("/users/{}", user.id), user.into()))
}
