//! Who a member is: known from its data directory, one of the founders of a new cluster, or one that joins a running one.

use std::{collections::BTreeMap, time::Duration};

use catena_raft::{
    id,
    identity::{self, Identity},
    transport,
};
use catena_runtime::Runtime;
use catena_store::Member;

use crate::{
    config::{InitialState, ServerConfig},
    member::StartError,
};

/// Time that each member of a running cluster has to say who belongs to it.
const DISCOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// A member's identity, and the founders if the cluster may still have to be founded.
pub(crate) struct Origin {
    pub(crate) identity: Identity,
    pub(crate) founders: Option<Vec<Member>>,
}

/// Finds out who this member is; makes its data directory if it has none.
pub(crate) async fn identify(
    config: &ServerConfig,
    runtime: &Runtime,
) -> Result<Origin, StartError> {
    let known = identity::read(runtime.disk.as_ref(), &config.data_dir)?;
    let founders = founders(config);
    let cluster_id = id::cluster_id(&founders.iter().map(|m| m.id).collect::<Vec<_>>());
    if let Some(identity) = known {
        // With data the flags of bootstrap say nothing any more, unless the member stopped before the cluster was founded.
        let founded_as_given = identity.cluster_id == cluster_id
            && founders
                .iter()
                .any(|member| member.id == identity.member_id);
        return Ok(Origin {
            identity,
            founders: founded_as_given.then_some(founders),
        });
    }
    match config.initial_state {
        InitialState::New => {
            let own = founders.iter().find(|member| member.name == config.name);
            let own = own
                .ok_or_else(|| StartError::NotInCluster(config.name.clone()))?
                .id;
            Ok(Origin {
                identity: identity::open(runtime, &config.data_dir, cluster_id, own)?,
                founders: Some(founders),
            })
        }
        InitialState::Existing => {
            let identity = join(config, runtime).await?;
            Ok(Origin {
                identity,
                founders: None,
            })
        }
    }
}

/// The members of `initial_cluster`; a name may stand in it several times, once for each URL.
fn founders(config: &ServerConfig) -> Vec<Member> {
    let mut urls: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, url) in &config.initial_cluster {
        urls.entry(name).or_default().push(url.clone());
    }
    let founder = |(name, peer_urls): (&str, Vec<String>)| Member {
        id: id::member_id(&peer_urls, &config.token, None),
        name: name.to_owned(),
        peer_urls,
        ..Member::default()
    };
    urls.into_iter().map(founder).collect()
}

/// Asks the running cluster for its id and for the id under which this member was added.
async fn join(config: &ServerConfig, runtime: &Runtime) -> Result<Identity, StartError> {
    let own = sorted(&config.advertise_peer);
    let others: Vec<String> = config
        .initial_cluster
        .iter()
        .map(|(_, url)| url.clone())
        .filter(|url| !own.contains(url))
        .collect();
    let cluster = transport::discover(&others, DISCOVER_TIMEOUT)
        .await
        .map_err(|error| StartError::Discover(error.to_string()))?;
    let added = cluster
        .members
        .iter()
        .find(|member| sorted(&member.peer_urls) == own);
    let added = added.ok_or_else(|| StartError::NotAdded(config.advertise_peer.join(",")))?;
    cluster
        .check_new(added.id)
        .map_err(|error| StartError::LostData(error.to_string()))?;
    Ok(identity::open(
        runtime,
        &config.data_dir,
        cluster.cluster_id,
        added.id,
    )?)
}

fn sorted(urls: &[String]) -> Vec<String> {
    let mut urls = urls.to_vec();
    urls.sort();
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_several_urls_is_one_member() {
        let mut config = ServerConfig::new("a", "unused");
        let pair = |name: &str, url: &str| (name.to_owned(), url.to_owned());
        config.initial_cluster = vec![
            pair("b", "http://b:1"),
            pair("a", "http://a:1"),
            pair("a", "http://a:2"),
        ];
        let founders = founders(&config);
        let urls: Vec<_> = founders
            .iter()
            .map(|m| (m.name.as_str(), m.peer_urls.len()))
            .collect();
        assert_eq!(urls, [("a", 2), ("b", 1)]);
    }

    #[tokio::test]
    async fn a_new_member_must_be_in_its_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::new("a", dir.path());
        config.name = "other".to_owned();
        let refused = identify(&config, &Runtime::system()).await;
        assert!(matches!(refused.err(), Some(StartError::NotInCluster(name)) if name == "other"));
    }

    #[tokio::test]
    async fn a_known_member_ignores_other_founders() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::system();
        let mut config = ServerConfig::new("a", dir.path());
        let first = identify(&config, &runtime).await.unwrap();
        assert_eq!(first.identity.member_id, 0x8e9e_05c5_2164_694d);
        assert_eq!(first.identity.cluster_id, 0xcdf8_1819_4e3a_8c32);
        assert!(
            identify(&config, &runtime)
                .await
                .unwrap()
                .founders
                .is_some()
        );
        config.token = "another".to_owned();
        let again = identify(&config, &runtime).await.unwrap();
        assert_eq!(again.identity, first.identity);
        assert!(again.founders.is_none());
    }
}
