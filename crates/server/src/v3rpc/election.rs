//! Service `v3electionpb.Election`: the recipe of `client::election` on this member's own store. Errors arrive as in
//! [`super::lock`].

use std::sync::Arc;

use catena_api::{
    errors,
    etcd::electionpb::{
        CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse,
        ProclaimRequest, ProclaimResponse, ResignRequest, ResignResponse,
        election_server::Election,
    },
};
use catena_client::{Kv, election};
use futures_util::{StreamExt, stream, stream::BoxStream};
use tonic::{Request, Response, Status};

use super::lock::{passed_on, while_serving};
use crate::server::Server;

/// Handlers of the service.
#[derive(Clone)]
pub(crate) struct ElectionService {
    pub(crate) server: Arc<Server>,
    pub(crate) kv: Arc<dyn Kv>,
}

#[tonic::async_trait]
impl Election for ElectionService {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let CampaignRequest { name, lease, value } = request.into_inner();
        let won = election::campaign(&self.kv, &name, lease, value);
        let response = while_serving(&self.server, won).await?;
        Ok(Response::new(response))
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let ProclaimRequest { leader, value } = request.into_inner();
        let leader = given(leader)?;
        let proclaimed = election::proclaim(self.kv.as_ref(), &leader, value).await;
        Ok(Response::new(ProclaimResponse {
            header: Some(proclaimed.map_err(passed_on)?),
        }))
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        let name = request.into_inner().name;
        let response = election::leader(self.kv.as_ref(), &name).await;
        response.map(Response::new).map_err(passed_on)
    }

    type ObserveStream = BoxStream<'static, Result<LeaderResponse, Status>>;

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let observer = election::observe(self.kv.clone(), &request.into_inner().name);
        let start = Some((self.server.clone(), observer));
        let stream = stream::unfold(start, |state| async move {
            let (server, mut observer) = state?;
            match while_serving(&server, observer.next()).await {
                Ok(leader) => Some((Ok(leader), Some((server, observer)))),
                Err(end) => Some((Err(end), None)),
            }
        });
        Ok(Response::new(stream.boxed()))
    }

    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        let leader = given(request.into_inner().leader)?;
        let resigned = election::resign(self.kv.as_ref(), &leader).await;
        Ok(Response::new(ResignResponse {
            header: Some(resigned.map_err(passed_on)?),
        }))
    }
}

fn given(leader: Option<LeaderKey>) -> Result<LeaderKey, Status> {
    leader.ok_or_else(|| errors::LEADER_FIELD_MISSING.into())
}
