//! Service `etcdserverpb.Maintenance`. The snapshot stream has its own file, [`super::snapshot`].

use std::sync::Arc;

use catena_api::{
    errors,
    etcd::etcdserverpb::{
        self as pb, alarm_request::AlarmAction, downgrade_request::DowngradeAction,
        maintenance_server::Maintenance,
    },
};
use catena_store::{Request as Command, Response as Answer};
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use crate::{
    CLUSTER_VERSION, ETCD_VERSION,
    error::{engine_failed, status},
    handover,
    server::Server,
    v3rpc::{deadline, snapshot},
    write::mismatched,
};

/// Handlers of the service.
#[derive(Clone)]
pub(crate) struct MaintenanceService(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        let Self(server) = self;
        let request = request.into_inner();
        if request.action == i32::from(AlarmAction::Get) {
            return Ok(Response::new(server.alarms(request.alarm)));
        }
        match server.write(Command::Alarm(request)).await? {
            (Answer::Alarm(mut response), header) => {
                response.header = Some(header);
                Ok(Response::new(response))
            }
            _ => Err(mismatched()),
        }
    }

    async fn status(
        &self,
        _request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        Ok(Response::new(self.0.status()))
    }

    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        let Self(server) = self;
        tracing::info!("starting defragment");
        let _timer = server.metrics.defragment();
        let done = server.node.defragment().await;
        done.map_err(|fatal| engine_failed(&fatal))?;
        tracing::info!("finished defragment");
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(
        &self,
        _request: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        let Self(server) = self;
        let reader = server.reader.clone();
        let hashed = server.blocking("hash", move || reader.hash()).await?;
        Ok(Response::new(pb::HashResponse {
            header: Some(server.header(server.reader.revision())),
            hash: hashed.map_err(|fatal| engine_failed(&fatal))?,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let Self(server) = self;
        let revision = request.into_inner().revision;
        let reader = server.reader.clone();
        let hashed = server.blocking("hash-kv", move || reader.hash_kv(revision));
        let hashed = hashed.await?.map_err(|error| server.read_failed(error))?;
        Ok(Response::new(pb::HashKvResponse {
            header: Some(server.header(hashed.revision)),
            hash: hashed.hash,
            compact_revision: hashed.compact_revision,
            hash_revision: hashed.hash_revision,
        }))
    }

    type SnapshotStream = BoxStream<'static, Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let stream = snapshot::stream(self.0.clone()).await?;
        Ok(Response::new(stream))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let Self(server) = self;
        let limit = deadline(request.metadata());
        let limit = limit.unwrap_or(server.config.request_timeout());
        let moved = handover::move_leader(server, request.into_inner().target_id);
        match server.within(limit, moved).await {
            Some(moved) => moved.map_err(status)?,
            None => return Err(errors::TIMEOUT_LEADER_TRANSFER.into()),
        }
        Ok(Response::new(pb::MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let Self(server) = self;
        let request = request.into_inner();
        let version = match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate) => server.check_downgrade(&request.version)?,
            Ok(DowngradeAction::Enable) => {
                server.check_downgrade(&request.version)?;
                let text = "etcdserver: downgrade is not built: there is no older version to run";
                return Err(Status::unimplemented(text));
            }
            // No job can run, and cancelling none is a success.
            Ok(DowngradeAction::Cancel) => server.cluster_minor()?,
            Err(_) => return Err(errors::UNKNOWN_METHOD.into()),
        };
        Ok(Response::new(pb::DowngradeResponse {
            header: Some(server.header(server.reader.revision())),
            version,
        }))
    }
}

impl Server {
    /// The alarms of a type; of all types for `NONE`.
    fn alarms(&self, kind: i32) -> pb::AlarmResponse {
        let mut alarms = self.reader.alarms();
        if kind != i32::from(pb::AlarmType::None) {
            alarms.retain(|alarm| alarm.alarm == kind);
        }
        pb::AlarmResponse {
            header: Some(self.header(self.reader.revision())),
            alarms,
        }
    }

    fn status(&self) -> pb::StatusResponse {
        let raft = self.node.status();
        let sizes = self.reader.sizes();
        let no_leader = raft.leader.is_none();
        let no_leader = no_leader.then(|| errors::NO_LEADER.text.to_owned());
        let alarms = self.reader.alarms();
        let errors = no_leader.into_iter().chain(alarms.iter().map(alarm_text));
        pb::StatusResponse {
            header: Some(self.header(self.reader.revision())),
            version: ETCD_VERSION.to_owned(),
            db_size: sizes.physical as i64,
            leader: raft.leader.unwrap_or_default(),
            raft_index: raft.committed,
            raft_term: raft.term,
            raft_applied_index: raft.applied,
            errors: errors.collect(),
            db_size_in_use: sizes.in_use as i64,
            is_learner: self.is_learner(),
            storage_version: CLUSTER_VERSION.to_owned(),
            db_size_quota: self.config.quota().map_or(-1, |quota| quota as i64),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }
    }

    /// The cluster version without its patch.
    fn cluster_minor(&self) -> Result<String, Status> {
        let version = self.reader.cluster_version();
        let version = version.ok_or(errors::NO_DOWNGRADE_CLUSTER_VERSION)?;
        Ok(minor(&version).to_owned())
    }

    /// Whether the cluster may be downgraded to `target`: by one minor version, as far as versions go.
    fn check_downgrade(&self, target: &str) -> Result<String, Status> {
        let target = parse_version(target).ok_or(errors::DOWNGRADE_VERSION_FORMAT)?;
        let current = self.cluster_minor()?;
        let allowed =
            parse_version(&current).and_then(|(major, minor)| Some((major, minor.checked_sub(1)?)));
        if allowed == Some(target) {
            Ok(current)
        } else {
            Err(errors::DOWNGRADE_VERSION_INVALID.into())
        }
    }
}

/// The text form of `AlarmMember`.
fn alarm_text(alarm: &pb::AlarmMember) -> String {
    let kind = pb::AlarmType::try_from(alarm.alarm).unwrap_or_default();
    format!("memberID:{} alarm:{}", alarm.member_id, kind.as_str_name())
}

/// `X.Y` of `X.Y.Z`.
pub(crate) fn minor(version: &str) -> &str {
    let end = version.match_indices('.').nth(1);
    end.map_or(version, |(end, _)| &version[..end])
}

/// Major and minor of `X.Y` or `X.Y.Z`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let numbers: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
    match numbers?.as_slice() {
        &[major, minor] | &[major, minor, _] => Some((major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_two_or_three_numbers() {
        assert_eq!(parse_version("3.6"), Some((3, 6)));
        assert_eq!(parse_version("3.6.0"), Some((3, 6)));
        for wrong in ["", "3", "3.", "3.6.0.1", "v3.6", "3.x"] {
            assert_eq!(parse_version(wrong), None, "{wrong}");
        }
        assert_eq!(minor("3.7.0"), "3.7");
        assert_eq!(minor("3.7"), "3.7");
    }

    #[test]
    fn alarms_are_shown_as_etcd_shows_them() {
        let alarm = pb::AlarmMember {
            member_id: 10_276_657_743_932_975_437,
            alarm: 1,
        };
        assert_eq!(
            alarm_text(&alarm),
            "memberID:10276657743932975437 alarm:NOSPACE"
        );
    }
}
