//! A cluster of one, for a test.

use std::time::Duration;

use catena_api::etcd::{
    electionpb::election_client::ElectionClient,
    etcdserverpb::{
        self as pb, auth_client::AuthClient, cluster_client::ClusterClient, kv_client::KvClient,
        lease_client::LeaseClient, maintenance_client::MaintenanceClient,
        watch_client::WatchClient,
    },
    health::health_client::HealthClient,
    lockpb::lock_client::LockClient,
};
use catena_runtime::Runtime;
use catena_server::{Member, ServerConfig, Url};
use catena_store::backend::Engine;
use tempfile::TempDir;
use tonic::{Code, Status, transport::Channel};

/// Longer than anything here takes; a test that waits so long has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct One {
    pub(crate) member: Member,
    pub(crate) channel: Channel,
    pub(crate) dir: TempDir,
}

/// Settings under which a member elects itself at once, and keeps its state in memory.
pub(crate) fn config(dir: &TempDir) -> ServerConfig {
    let mut config = ServerConfig::new("one", dir.path());
    config.listen_client = vec![Url::http("127.0.0.1", 0)];
    config.listen_peer = vec![Url::http("127.0.0.1", 0)];
    config.advertise_client = Vec::new();
    config.heartbeat = Duration::from_millis(20);
    config.election = Duration::from_millis(200);
    config.engine = Engine::Memory;
    config
}

impl One {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(adjust: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), adjust).await
    }

    pub(crate) async fn start_in(dir: TempDir, adjust: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = config(&dir);
        adjust(&mut config);
        let member = Member::start(config, Runtime::system()).await.unwrap();
        in_time(member.ready()).await;
        let channel = connect(&member).await;
        Self {
            member,
            channel,
            dir,
        }
    }

    /// Stops the member; its directory stays.
    pub(crate) async fn stop(self) -> TempDir {
        drop(self.channel);
        in_time(self.member.stop()).await;
        self.dir
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.member.client_addrs()[0])
    }

    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
    }

    pub(crate) fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(crate) fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    pub(crate) fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    pub(crate) fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    pub(crate) fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    pub(crate) fn lock(&self) -> LockClient<Channel> {
        LockClient::new(self.channel.clone())
    }

    pub(crate) fn election(&self) -> ElectionClient<Channel> {
        ElectionClient::new(self.channel.clone())
    }

    pub(crate) fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    /// Writes a key; the header of the answer.
    pub(crate) async fn put(&self, key: &str, value: &str) -> pb::ResponseHeader {
        let response = self.kv().put(put(key, value)).await.unwrap();
        response.into_inner().header.unwrap()
    }

    pub(crate) async fn get(&self, key: &str) -> pb::RangeResponse {
        self.kv().range(get(key)).await.unwrap().into_inner()
    }
}

pub(crate) async fn connect(member: &Member) -> Channel {
    let url = format!("http://{}", member.client_addrs()[0]);
    Channel::from_shared(url).unwrap().connect().await.unwrap()
}

pub(crate) fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn prefix(prefix: &str) -> pb::RangeRequest {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().unwrap() += 1;
    pb::RangeRequest {
        range_end: end.into(),
        ..get(prefix)
    }
}

pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("in time")
}

/// Fails unless `result` is the error that etcd's clients know.
#[track_caller]
pub(crate) fn assert_error<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, text: &str) {
    let status = result.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, text));
}
