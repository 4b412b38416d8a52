//! Service `etcdserverpb.Cluster`.

use std::sync::Arc;

use catena_api::{
    errors,
    etcd::etcdserverpb::{self as pb, cluster_server::Cluster},
};
use catena_store::Member;
use tonic::{Request, Response, Status};

use crate::{Url, UrlError, error::status, server::Server};

/// Handlers of the service.
#[derive(Clone)]
pub(crate) struct ClusterService(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let Self(server) = self;
        let pb::MemberAddRequest {
            peer_urls,
            is_learner,
        } = request.into_inner();
        check_urls(&peer_urls)?;
        let added = if is_learner {
            server.node.add_learner(peer_urls).await
        } else {
            server.node.add_member(peer_urls).await
        };
        let (member, members) = added.map_err(status)?;
        tracing::info!(
            added_peer_id = format!("{:x}", member.id),
            added_peer_peer_urls = ?member.peer_urls,
            is_learner,
            "added member"
        );
        Ok(Response::new(pb::MemberAddResponse {
            header: Some(server.header(0)),
            member: Some(message(member)),
            members: messages(members),
        }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let Self(server) = self;
        let id = request.into_inner().id;
        let members = server.node.remove_member(id).await.map_err(status)?;
        tracing::info!(removed_remote_peer_id = format!("{id:x}"), "removed member");
        Ok(Response::new(pb::MemberRemoveResponse {
            header: Some(server.header(0)),
            members: messages(members),
        }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let Self(server) = self;
        let pb::MemberUpdateRequest { id, peer_urls } = request.into_inner();
        check_urls(&peer_urls)?;
        let updated = server.node.update_member(id, peer_urls).await;
        Ok(Response::new(pb::MemberUpdateResponse {
            header: Some(server.header(0)),
            members: messages(updated.map_err(status)?),
        }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let Self(server) = self;
        if request.into_inner().linearizable {
            server.linearize().await?;
        }
        let members = server.reader.members();
        Ok(Response::new(pb::MemberListResponse {
            header: Some(server.header(0)),
            members: members.present.values().cloned().map(message).collect(),
        }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let Self(server) = self;
        let id = request.into_inner().id;
        let promoted = server.node.promote_member(id).await;
        server.metrics.count_promotion(&promoted);
        let members = promoted.map_err(status)?;
        tracing::info!(promoted_member_id = format!("{id:x}"), "promote member");
        Ok(Response::new(pb::MemberPromoteResponse {
            header: Some(server.header(0)),
            members: messages(members),
        }))
    }
}

/// Peer URLs must be there and be ones that a member could have. etcd does not look at those of an update, and crashes its peers
/// with a malformed one.
fn check_urls(urls: &[String]) -> Result<(), Status> {
    let well_formed = |url: &String| {
        let parsed = url.parse::<Url>();
        // A member of another version may speak TLS.
        parsed.is_ok() || matches!(parsed, Err(UrlError::Tls(..)))
    };
    if urls.is_empty() || !urls.iter().all(well_formed) {
        return Err(errors::BAD_URLS.into());
    }
    Ok(())
}

fn message(member: Member) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        is_learner: member.is_learner,
    }
}

fn messages(mut members: Vec<Member>) -> Vec<pb::Member> {
    members.sort_by_key(|member| member.id);
    members.into_iter().map(message).collect()
}
