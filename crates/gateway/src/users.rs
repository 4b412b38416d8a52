//! The user service, as handlers call it.

use std::sync::Arc;

use catena_api::{
    example::{
        UserRequest, UserResponse, user_service_client::UserServiceClient,
        user_service_server::UserService,
    },
    user::{
        CreateUserRequest, DeleteUserRequest, DeleteUserResponse, GetUserRequest, ListUsersRequest,
        ListUsersResponse, PatchUserRequest, UpdateUserRequest, User, users_client::UsersClient,
        users_server::Users,
    },
};
use catena_middleware::Transport;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// Both of its interfaces, in this process or in another: calls are the same, and so are answers.
#[derive(Clone)]
pub struct UserCalls {
    /// The article's.
    pub(crate) user: Arc<dyn UserService>,
    /// The whole.
    pub(crate) users: Arc<dyn Users>,
}

impl UserCalls {
    /// Calls of a service in this process: neither a socket nor bytes stand between.
    pub fn new(service: impl UserService + Users) -> Self {
        let service = Arc::new(service);
        Self {
            user: service.clone(),
            users: service,
        }
    }

    /// Calls of a service in another process.
    pub fn over(transport: Transport) -> Self {
        Self::new(Remote(transport))
    }
}

/// The generated clients, behind the interfaces that servers have.
struct Remote(Transport);

impl Remote {
    fn user(&self) -> UserServiceClient<Transport> {
        UserServiceClient::new(self.0.clone())
    }

    fn users(&self) -> UsersClient<Transport> {
        UsersClient::new(self.0.clone())
    }
}

#[tonic::async_trait]
impl UserService for Remote {
    async fn get_user(&self, request: Request<UserRequest>) -> Answer<UserResponse> {
        self.user().get_user(request).await
    }
}

#[tonic::async_trait]
impl Users for Remote {
    async fn create(&self, request: Request<CreateUserRequest>) -> Answer<User> {
        self.users().create(request).await
    }

    async fn get(&self, request: Request<GetUserRequest>) -> Answer<User> {
        self.users().get(request).await
    }

    async fn list(&self, request: Request<ListUsersRequest>) -> Answer<ListUsersResponse> {
        self.users().list(request).await
    }

    async fn update(&self, request: Request<UpdateUserRequest>) -> Answer<User> {
        self.users().update(request).await
    }

    async fn patch(&self, request: Request<PatchUserRequest>) -> Answer<User> {
        self.users().patch(request).await
    }

    async fn delete(&self, request: Request<DeleteUserRequest>) -> Answer<DeleteUserResponse> {
        self.users().delete(request).await
    }
}
