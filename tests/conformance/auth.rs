//! Auth while it is off, which is its state until somebody enables it.

use anyhow::{Result, ensure};
use catena_api::{
    errors,
    etcd::etcdserverpb::{
        AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleListRequest,
        AuthStatusRequest, AuthUserAddRequest, AuthUserListRequest, AuthenticateRequest,
    },
};
use tonic::{Code, Status};

use crate::session::{Case, Session, case, refused};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(status_is_disabled),
        case!(disabling_succeeds),
        case!(authenticating_is_refused),
        case!(users_and_roles_are_not_pretended),
    ]
}

async fn status_is_disabled(s: &Session<'_>) -> Result<()> {
    let response = s
        .client
        .auth()
        .auth_status(AuthStatusRequest {})
        .await?
        .into_inner();
    ensure!(!response.enabled && response.header.is_some() && response.auth_revision == 1);
    Ok(())
}

async fn disabling_succeeds(s: &Session<'_>) -> Result<()> {
    let response = s
        .client
        .auth()
        .auth_disable(AuthDisableRequest {})
        .await?
        .into_inner();
    ensure!(response.header.is_some());
    Ok(())
}

async fn authenticating_is_refused(s: &Session<'_>) -> Result<()> {
    let request = AuthenticateRequest {
        name: "root".into(),
        password: "x".into(),
    };
    refused(
        s.client.auth().authenticate(request).await,
        errors::AUTH_NOT_ENABLED,
    )
}

async fn users_and_roles_are_not_pretended(s: &Session<'_>) -> Result<()> {
    if !s.differs("auth") {
        ensure!(
            s.client
                .auth()
                .user_list(AuthUserListRequest {})
                .await?
                .into_inner()
                .users
                .is_empty()
        );
        return Ok(());
    }
    let unbuilt = |result: Result<(), Status>| {
        let status = result.err();
        let right = status.as_ref().is_some_and(|status| {
            status.code() == Code::Unimplemented && status.message() == "auth is not built yet"
        });
        ensure!(right, "{status:?}");
        Ok(())
    };
    let mut auth = s.client.auth();
    unbuilt(auth.auth_enable(AuthEnableRequest {}).await.map(drop))?;
    unbuilt(auth.user_add(AuthUserAddRequest::default()).await.map(drop))?;
    unbuilt(auth.user_list(AuthUserListRequest {}).await.map(drop))?;
    unbuilt(auth.role_add(AuthRoleAddRequest::default()).await.map(drop))?;
    unbuilt(auth.role_list(AuthRoleListRequest {}).await.map(drop))
}
