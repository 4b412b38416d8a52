//! `PUT /users/{id}`, which replaces, and `PATCH /users/{id}`, which changes what is given: null takes an age away.

use axum::extract::State;
use catena_api::user::{PatchUserRequest, UpdateUserRequest};
use catena_middleware::{
    Success,
    error::Result,
    validate::{fields, id},
};
use tonic::Request;

use super::user::Shown;
use crate::{
    UserCalls,
    extract::{Json, Param},
};

pub(super) async fn update(
    State(calls): State<UserCalls>,
    Param(text): Param,
    Json(body): Json,
) -> Result<Success<Shown>> {
    let id = id(&text)?;
    let mut form = body.form()?;
    let request = UpdateUserRequest {
        id,
        name: form.text(&fields::NAME),
        email: form.text(&fields::EMAIL),
        age: form.integer(&fields::age(0)),
    };
    form.finish()?;
    let user = calls
        .users
        .update(Request::new(request))
        .await?
        .into_inner();
    Ok(Success::new(user.into()))
}

pub(super) async fn patch(
    State(calls): State<UserCalls>,
    Param(text): Param,
    Json(body): Json,
) -> Result<Success<Shown>> {
    let id = id(&text)?;
    let mut form = body.form()?;
    let request = PatchUserRequest {
        id,
        clear_age: form.is_null("age"),
        name: form.changed_text(&fields::NAME),
        email: form.changed_text(&fields::EMAIL),
        age: form.integer(&fields::age(0)),
    };
    form.finish()?;
    let user = calls.users.patch(Request::new(request)).await?.into_inner();
    Ok(Success::new(user.into()))
}
