//! Service Auth: off, and honest about what is not built.

use catena_api::etcd::etcdserverpb as pb;
use tonic::Code;

use crate::one::{One, assert_error};

#[tokio::test]
async fn auth_is_off() {
    let one = One::start().await;
    let status = one
        .auth()
        .auth_status(pb::AuthStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((status.enabled, status.auth_revision), (false, 1));
    assert_eq!(status.header.unwrap().revision, 1);
    one.auth()
        .auth_disable(pb::AuthDisableRequest {})
        .await
        .unwrap();
    let refused = one
        .auth()
        .authenticate(pb::AuthenticateRequest::default())
        .await;
    assert_error(
        refused,
        Code::FailedPrecondition,
        "etcdserver: authentication is not enabled",
    );
}

#[tokio::test]
async fn everything_else_is_unimplemented() {
    let one = One::start().await;
    let mut auth = one.auth();
    const TEXT: &str = "auth is not built yet";
    macro_rules! refused {
        ($($method:ident $request:ident),*) => {
            $(assert_error(auth.$method(pb::$request::default()).await, Code::Unimplemented, TEXT);)*
        };
    }
    refused!(
        auth_enable AuthEnableRequest,
        user_add AuthUserAddRequest,
        user_get AuthUserGetRequest,
        user_list AuthUserListRequest,
        user_delete AuthUserDeleteRequest,
        user_change_password AuthUserChangePasswordRequest,
        user_grant_role AuthUserGrantRoleRequest,
        user_revoke_role AuthUserRevokeRoleRequest,
        role_add AuthRoleAddRequest,
        role_get AuthRoleGetRequest,
        role_list AuthRoleListRequest,
        role_delete AuthRoleDeleteRequest,
        role_grant_permission AuthRoleGrantPermissionRequest,
        role_revoke_permission AuthRoleRevokePermissionRequest
    );
}
