//! `GET /user/{id}`: the article's `example.UserService/GetUser`, field by field.

use axum::extract::State;
use catena_api::example::UserRequest;
use catena_middleware::{Success, error::Result};
use serde::Serialize;
use tonic::Request;

use crate::{UserCalls, extract::Param};

#[derive(Serialize)]
pub(super) struct UserResponse {
    id: i64,
    name: String,
    age: i32,
}

/// What the parameter means is the service's to judge, so that both ways agree on that too.
pub(super) async fn get_user(
    State(calls): State<UserCalls>,
    Param(user_id): Param,
) -> Result<Success<UserResponse>> {
    let answer = calls
        .user
        .get_user(Request::new(UserRequest { user_id }))
        .await?;
    let user = answer.into_inner();
    Ok(Success::new(UserResponse {
        id: user.id,
        name: user.name,
        age: user.age,
    }))
}
