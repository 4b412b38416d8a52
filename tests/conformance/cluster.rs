//! Cluster: the member list and the changes that are refused.

use anyhow::{Result, ensure};
use catena_api::{
    errors,
    etcd::etcdserverpb::{
        MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
        MemberUpdateRequest,
    },
};

use crate::session::{Case, Session, case, refused, revision_of};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(every_member_is_listed),
        case!(ids_follow_from_urls),
        case!(bad_urls_are_refused),
        case!(taken_urls_are_refused),
        case!(unknown_members_are_not_found),
        case!(voters_cannot_be_promoted),
        case!(last_member_stays).members(1),
        case!(learner_comes_and_goes).fresh(&[]),
        case!(update_changes_urls).members(1).fresh(&[]),
    ]
}

async fn every_member_is_listed(s: &Session<'_>) -> Result<()> {
    for linearizable in [true, false] {
        let response = s
            .client
            .cluster()
            .member_list(MemberListRequest { linearizable })
            .await?
            .into_inner();
        ensure!(
            revision_of(&response.header) == 0
                && response.header.is_some_and(|header| header.member_id != 0)
        );
        ensure!(response.members.len() == s.cluster.members.len());
        ensure!(response.members.is_sorted_by_key(|member| member.id));
        for member in &s.cluster.members {
            let listed = response
                .members
                .iter()
                .find(|listed| listed.name == member.name);
            ensure!(
                listed.is_some_and(|listed| listed.peer_urls == [member.peer_url()]
                    && listed.client_urls == [member.endpoint()]
                    && !listed.is_learner),
                "{listed:?}"
            );
        }
    }
    Ok(())
}

async fn ids_follow_from_urls(s: &Session<'_>) -> Result<()> {
    use sha2::digest::Digest;
    let id = |bytes: &[u8]| {
        let digest = sha1::Sha1::digest(bytes);
        u64::from_be_bytes(std::array::from_fn(|place| digest[place]))
    };
    let mut ids = Vec::new();
    for member in s.client.members().await? {
        ensure!(member.id == id((member.peer_urls.concat() + "etcd-cluster").as_bytes()));
        ids.push(member.id);
    }
    ids.sort_unstable();
    let all: Vec<u8> = ids.iter().flat_map(|id| id.to_be_bytes()).collect();
    let header = s.client.get("k").await?.header.unwrap_or_default();
    ensure!(header.cluster_id == id(&all) && ids.contains(&header.member_id));
    Ok(())
}

fn adding(url: &str, is_learner: bool) -> MemberAddRequest {
    MemberAddRequest {
        peer_urls: vec![url.to_owned()],
        is_learner,
    }
}

async fn bad_urls_are_refused(s: &Session<'_>) -> Result<()> {
    for url in [
        "",
        "nonsense",
        "http://127.0.0.1",
        "ftp://127.0.0.1:1",
        "http://127.0.0.1:1/path",
    ] {
        refused(
            s.client.cluster().member_add(adding(url, false)).await,
            errors::BAD_URLS,
        )?;
    }
    let none = MemberAddRequest::default();
    refused(s.client.cluster().member_add(none).await, errors::BAD_URLS)
}

async fn taken_urls_are_refused(s: &Session<'_>) -> Result<()> {
    let url = s.cluster.members[0].peer_url();
    let result = s.client.cluster().member_add(adding(&url, true)).await;
    refused(result, errors::PEER_URL_EXISTS)
}

async fn unknown_members_are_not_found(s: &Session<'_>) -> Result<()> {
    let mut cluster = s.client.cluster();
    refused(
        cluster
            .member_remove(MemberRemoveRequest { id: 4711 })
            .await,
        errors::MEMBER_NOT_FOUND,
    )?;
    refused(
        cluster
            .member_promote(MemberPromoteRequest { id: 4711 })
            .await,
        errors::MEMBER_NOT_FOUND,
    )?;
    let peer_urls = vec!["http://127.0.0.1:9".to_owned()];
    let update = MemberUpdateRequest {
        id: 4711,
        peer_urls,
    };
    refused(
        cluster.member_update(update).await,
        errors::MEMBER_NOT_FOUND,
    )
}

async fn voters_cannot_be_promoted(s: &Session<'_>) -> Result<()> {
    let id = s.client.members().await?[0].id;
    let result = s
        .client
        .cluster()
        .member_promote(MemberPromoteRequest { id })
        .await;
    refused(result, errors::NOT_LEARNER)
}

async fn last_member_stays(s: &Session<'_>) -> Result<()> {
    let id = s.client.members().await?[0].id;
    let error = s
        .client
        .cluster()
        .member_remove(MemberRemoveRequest { id })
        .await
        .err();
    // etcd sends this text with the code Unknown by mistake; clients go by the text.
    ensure!(error.is_some_and(|status| status.message() == errors::NOT_ENOUGH_STARTED.text));
    Ok(())
}

async fn learner_comes_and_goes(s: &Session<'_>) -> Result<()> {
    let mut cluster = s.client.cluster();
    let (url, count) = ("http://127.0.0.1:9", s.cluster.members.len());
    s.settled().await?;
    let added = cluster.member_add(adding(url, true)).await?.into_inner();
    let member = added.member.unwrap_or_default();
    ensure!(member.is_learner && member.peer_urls == [url] && member.name.is_empty());
    ensure!(added.members.len() == count + 1 && added.members.contains(&member));
    refused(
        cluster
            .member_add(adding("http://127.0.0.1:10", true))
            .await,
        errors::TOO_MANY_LEARNERS,
    )?;
    let promote = MemberPromoteRequest { id: member.id };
    refused(
        cluster.member_promote(promote).await,
        errors::LEARNER_NOT_READY,
    )?;
    let remove = MemberRemoveRequest { id: member.id };
    let left = cluster.member_remove(remove).await?.into_inner().members;
    ensure!(left.len() == count && s.client.members().await? == left);
    refused(
        cluster.member_remove(remove).await,
        errors::MEMBER_NOT_FOUND,
    )?;
    s.client.put("k", "v").await?;
    Ok(())
}

async fn update_changes_urls(s: &Session<'_>) -> Result<()> {
    let id = s.client.members().await?[0].id;
    let peer_urls = vec!["http://127.0.0.1:9".to_owned()];
    let update = MemberUpdateRequest {
        id,
        peer_urls: peer_urls.clone(),
    };
    let members = s
        .client
        .cluster()
        .member_update(update)
        .await?
        .into_inner()
        .members;
    ensure!(members[0].peer_urls == peer_urls && members[0].id == id);
    ensure!(s.client.members().await? == members);
    Ok(())
}
