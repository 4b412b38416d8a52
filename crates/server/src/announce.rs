//! What a member says of itself through the log: its name and client URLs; and, if it leads, the version of the cluster.

use std::{sync::Arc, time::Duration};

use catena_store::{Member, MemberChange, Request};

use crate::{
    server::{CLUSTER_VERSION, Server},
    v3rpc::maintenance::minor,
};

/// Pause between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// How often a leader looks whether the cluster version is decided.
const VERSION_INTERVAL: Duration = Duration::from_secs(5);

/// Publishes the member's name and client URLs, and tries again until it is done; then the member serves.
pub(crate) async fn publish(server: Arc<Server>, client_urls: Vec<String>) {
    let id = server.node.member_id();
    // A member that was known before may answer at once, and reads of local state need no quorum.
    if server.reader.member(id).is_some_and(|own| is_started(&own)) {
        server.set_ready();
    }
    let change = MemberChange::Publish {
        id,
        name: server.config.name.clone(),
        client_urls,
    };
    while let Err(error) = publish_once(&server, &change).await {
        tracing::warn!(
            local_member_id = format!("{id:x}"),
            publish_timeout = ?server.config.request_timeout(),
            error = error.message(),
            "failed to publish local member to cluster through raft"
        );
        server.runtime.clock.sleep(RETRY_INTERVAL).await;
    }
    tracing::info!(
        local_member_id = format!("{id:x}"),
        local_member_attributes = ?change,
        cluster_id = format!("{:x}", server.node.cluster_id()),
        publish_timeout = ?server.config.request_timeout(),
        "published local member to cluster through raft"
    );
    server.set_ready();
    tracing::info!("ready to serve client requests");
}

async fn publish_once(server: &Server, change: &MemberChange) -> Result<(), tonic::Status> {
    let outcome = server.propose(Request::Member(change.clone())).await?;
    outcome.result.map(drop).map_err(crate::error::status)
}

fn is_started(member: &Member) -> bool {
    !member.name.is_empty() && !member.client_urls.is_empty()
}

/// While this member leads: raises the cluster version to the one that all members have.
pub(crate) async fn decide_version(server: Arc<Server>) {
    let mut leadership = server.leadership_changes();
    loop {
        let led = leadership.borrow_and_update().led_term();
        if let Some(term) = led {
            raise_version(&server, term).await;
        }
        tokio::select! {
            biased;
            changed = leadership.changed() => if changed.is_err() { return },
            () = server.runtime.clock.sleep(VERSION_INTERVAL) => {}
        }
    }
}

async fn raise_version(server: &Server, term: u64) {
    let decided = server.reader.cluster_version();
    if decided.as_deref() == Some(CLUSTER_VERSION) {
        return;
    }
    let command = Request::ClusterVersion(CLUSTER_VERSION.to_owned());
    let command = catena_store::Command::internal(command);
    match server.node.propose_as_leader(term, &[command]).await {
        Ok(_) => tracing::info!(
            cluster_id = format!("{:x}", server.node.cluster_id()),
            cluster_version = minor(CLUSTER_VERSION),
            "cluster version is updated"
        ),
        // The next look tries again.
        Err(error) => tracing::debug!(%error, "cluster version is not updated yet"),
    }
}
