//! The directory for callers in the same process.

use catena_api::{
    example::{UserRequest, UserResponse, user_service_server::UserService},
    user::{
        CreateUserRequest, DeleteUserRequest, DeleteUserResponse, GetUserRequest, ListUsersRequest,
        ListUsersResponse, PatchUserRequest, UpdateUserRequest, User, users_server::Users,
    },
};
use catena_middleware::LocalCalls;
use tonic::Request;

use super::{Directory, grpc::Answer};

/// The user service without a socket: what is called are the same handlers, and each call is one of its own to deadline and metrics.
#[derive(Clone)]
pub struct LocalUsers {
    pub(super) directory: Directory,
    pub(super) calls: LocalCalls,
}

#[tonic::async_trait]
impl UserService for LocalUsers {
    async fn get_user(&self, request: Request<UserRequest>) -> Answer<UserResponse> {
        let work = self.directory.get_user(request);
        self.calls.call("example.UserService/GetUser", work).await
    }
}

#[tonic::async_trait]
impl Users for LocalUsers {
    async fn create(&self, request: Request<CreateUserRequest>) -> Answer<User> {
        let work = Users::create(&self.directory, request);
        self.calls.call("catena.user.v1.Users/Create", work).await
    }

    async fn get(&self, request: Request<GetUserRequest>) -> Answer<User> {
        let work = Users::get(&self.directory, request);
        self.calls.call("catena.user.v1.Users/Get", work).await
    }

    async fn list(&self, request: Request<ListUsersRequest>) -> Answer<ListUsersResponse> {
        let work = Users::list(&self.directory, request);
        self.calls.call("catena.user.v1.Users/List", work).await
    }

    async fn update(&self, request: Request<UpdateUserRequest>) -> Answer<User> {
        let work = Users::update(&self.directory, request);
        self.calls.call("catena.user.v1.Users/Update", work).await
    }

    async fn patch(&self, request: Request<PatchUserRequest>) -> Answer<User> {
        let work = Users::patch(&self.directory, request);
        self.calls.call("catena.user.v1.Users/Patch", work).await
    }

    async fn delete(&self, request: Request<DeleteUserRequest>) -> Answer<DeleteUserResponse> {
        let work = Users::delete(&self.directory, request);
        self.calls.call("catena.user.v1.Users/Delete", work).await
    }
}
