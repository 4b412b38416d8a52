//! The directory over gRPC.

use catena_api::{
    example::{UserRequest, UserResponse, user_service_server::UserService},
    user::{
        CreateUserRequest, DeleteUserRequest, DeleteUserResponse, GetUserRequest, ListUsersRequest,
        ListUsersResponse, PatchUserRequest, UpdateUserRequest, User as Message,
        users_server::Users,
    },
};
use catena_middleware::validate::{Checker, fields, id};
use tonic::{Request, Response, Status};

use super::{Directory, Draft, Patch, User};

/// What a handler answers.
pub(super) type Answer<T> = Result<Response<T>, Status>;

impl From<User> for Message {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            name: user.name,
            email: user.email,
            age: user.age,
        }
    }
}

/// `catena.user.v1.Users`.
#[tonic::async_trait]
impl Users for Directory {
    async fn create(&self, request: Request<CreateUserRequest>) -> Answer<Message> {
        let CreateUserRequest { name, email, age } = request.into_inner();
        let user = Directory::create(self, Draft { name, email, age }).await?;
        Ok(Response::new(user.into()))
    }

    async fn get(&self, request: Request<GetUserRequest>) -> Answer<Message> {
        let user = Directory::get(self, request.into_inner().id).await?;
        Ok(Response::new(user.into()))
    }

    async fn list(&self, request: Request<ListUsersRequest>) -> Answer<ListUsersResponse> {
        let ListUsersRequest { limit, cursor } = request.into_inner();
        let (users, next_cursor) = Directory::list(self, limit.map(i64::from), &cursor).await?;
        let users = users.into_iter().map(Into::into).collect();
        Ok(Response::new(ListUsersResponse { users, next_cursor }))
    }

    async fn update(&self, request: Request<UpdateUserRequest>) -> Answer<Message> {
        let UpdateUserRequest {
            id,
            name,
            email,
            age,
        } = request.into_inner();
        let user = Directory::update(self, id, Draft { name, email, age }).await?;
        Ok(Response::new(user.into()))
    }

    async fn patch(&self, request: Request<PatchUserRequest>) -> Answer<Message> {
        let request = request.into_inner();
        let age = match (request.age, request.clear_age) {
            (Some(_), true) => {
                let mut checker = Checker::new();
                checker.wrong_type(
                    &fields::age(0),
                    "conflict",
                    "给出或清除之一",
                    "given or cleared, not both",
                );
                checker.finish()?;
                None
            }
            (age, false) => age.map(Some),
            (None, true) => Some(None),
        };
        let patch = Patch {
            name: request.name,
            email: request.email,
            age,
        };
        let user = Directory::patch(self, request.id, patch).await?;
        Ok(Response::new(user.into()))
    }

    async fn delete(&self, request: Request<DeleteUserRequest>) -> Answer<DeleteUserResponse> {
        Directory::delete(self, request.into_inner().id).await?;
        Ok(Response::new(DeleteUserResponse {}))
    }
}

/// The article's `example.UserService`.
#[tonic::async_trait]
impl UserService for Directory {
    async fn get_user(&self, request: Request<UserRequest>) -> Answer<UserResponse> {
        let text = request.into_inner().user_id;
        let mut checker = Checker::new();
        checker.text(&fields::USER_ID, Some(&text));
        checker.finish()?;
        let user = Directory::get(self, id(&text)?).await?;
        Ok(Response::new(UserResponse {
            name: user.name,
            age: user.age.unwrap_or_default(),
            id: user.id,
        }))
    }
}
