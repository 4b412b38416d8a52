//! Service Election.

use catena_api::etcd::electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use tonic::Code;

use crate::one::{One, assert_error, in_time};

fn name() -> LeaderRequest {
    LeaderRequest {
        name: "name".into(),
    }
}

async fn campaign(one: &One, value: &'static str) -> LeaderKey {
    let request = CampaignRequest {
        name: "name".into(),
        lease: 0,
        value: value.into(),
    };
    let won = in_time(one.election().campaign(request)).await.unwrap();
    won.into_inner().leader.unwrap()
}

#[tokio::test]
async fn leader_proclaims_is_observed_and_resigns() {
    let one = One::start().await;
    let mut observer = one.election().observe(name()).await.unwrap().into_inner();
    let leader = campaign(&one, "first").await;
    assert_eq!((leader.name.as_ref(), leader.rev), (&b"name"[..], 2));
    let seen = in_time(observer.message()).await.unwrap().unwrap();
    assert_eq!(seen.kv.unwrap().value(), "first");
    let proclaim = ProclaimRequest {
        leader: Some(leader.clone()),
        value: "second".into(),
    };
    one.election().proclaim(proclaim.clone()).await.unwrap();
    let seen = in_time(observer.message()).await.unwrap().unwrap();
    assert_eq!(seen.kv.unwrap().value(), "second");
    let found = one.election().leader(name()).await.unwrap().into_inner();
    assert_eq!(found.kv.unwrap().key(), leader.key);
    let resign = ResignRequest {
        leader: Some(leader),
    };
    one.election().resign(resign.clone()).await.unwrap();
    one.election().resign(resign).await.unwrap();
    let refused = one.election().proclaim(proclaim).await;
    assert_error(refused, Code::Unknown, "election: not leader");
    let refused = one.election().leader(name()).await;
    assert_error(refused, Code::Unknown, "election: no leader");
}

#[tokio::test]
async fn leader_must_be_given() {
    let one = One::start().await;
    let text = "\"leader\" field must be provided";
    let refused = one.election().proclaim(ProclaimRequest::default()).await;
    assert_error(refused, Code::Unknown, text);
    let refused = one.election().resign(ResignRequest::default()).await;
    assert_error(refused, Code::Unknown, text);
}
