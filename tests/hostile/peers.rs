//! Strangers on the peer port.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use catena_api::peer::{DiscoverRequest, HelloRequest, door_client::DoorClient};
use framework::{Client, message::put};
use prost::Message;
use tokio::time::timeout;
use tonic::Code;

use crate::{
    case::{Case, Stand, case},
    frames::{DATA, End, PING, PREFACE, RST_STREAM, Raw, SETTINGS, call, frame},
    grpc::Caller,
};

const HELLO: &str = "/catena.raft.v1.Door/Hello";
const CALL: &str = "/catena.raft.v1.Peer/Call";

/// What must end does so by then.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Where a flood comes from; the members are at 127.0.0.1.
const FLOODER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(client_traffic),
        case!(strangers_are_told_why).members(3),
        case!(frames_without_a_session),
        case!(length_claims_and_endless_bodies),
        case!(floods_of_greetings).members(3),
        case!(floods_of_frames).members(3),
        case!(connections_beyond_the_limit).members(3),
        case!(calls_beyond_the_limit),
        case!(silent_connections),
        case!(other_protocols),
    ]
}

/// What clients ask is not answered here.
async fn client_traffic(stand: &Stand) -> Result<()> {
    let client = Client::new(&stand.member().peer_url())?;
    let status = client.put("k", "v").await.err().context("a put is taken")?;
    ensure!(status.code() == Code::Unimplemented, "{status:?}");
    let status = client.status().await.err().context("a status is given")?;
    ensure!(status.code() == Code::Unimplemented, "{status:?}");
    Ok(())
}

/// The greeting of another member to the first: of one that it has met before, which the leader and its followers have.
async fn greeting(stand: &Stand) -> Result<HelloRequest> {
    let status = stand.client()?.status().await?;
    let header = status.header.context("a header")?;
    let from = if status.leader == header.member_id {
        let other = stand.cluster.client(1)?.status().await?;
        other.header.context("a header")?.member_id
    } else {
        status.leader
    };
    Ok(HelloRequest {
        protocol_version: 1,
        cluster_id: header.cluster_id,
        from,
        to: header.member_id,
        // Not its own: who says so has lost its data.
        incarnation: 1,
    })
}

/// Of another cluster, of another version, for another member, in a member's name, or removed: each hears why, and it is logged.
async fn strangers_are_told_why(stand: &Stand) -> Result<()> {
    let hello = greeting(stand).await?;
    let removed = removed_id(stand).await?;
    let cases = [
        (
            HelloRequest {
                cluster_id: 1,
                ..hello
            },
            "cluster ID mismatch",
        ),
        (
            HelloRequest {
                protocol_version: 9,
                ..hello
            },
            "protocol version mismatch",
        ),
        (HelloRequest { to: 5, ..hello }, "member ID mismatch"),
        (
            HelloRequest {
                from: hello.to,
                ..hello
            },
            "member ID mismatch",
        ),
        (
            HelloRequest {
                from: removed,
                ..hello
            },
            "was removed from the cluster",
        ),
        (hello, "member remove"),
    ];
    let mut door = DoorClient::connect(stand.member().peer_url()).await?;
    for (hello, text) in cases {
        let status = door.hello(hello).await.err();
        let status = status.with_context(|| format!("let in, instead of: {text}"))?;
        ensure!(status.code() == Code::FailedPrecondition, "{status:?}");
        ensure!(status.message().contains(text), "{text}: {status:?}");
    }
    stand.logs("cluster ID mismatch").await?;
    stand.logs("was removed from the cluster").await
}

/// The id of a learner that was added and removed again.
async fn removed_id(stand: &Stand) -> Result<u64> {
    use catena_api::etcd::etcdserverpb as pb;
    let mut cluster = stand.client()?.cluster();
    let request = pb::MemberAddRequest {
        peer_urls: vec!["http://127.0.0.1:9".to_owned()],
        is_learner: true,
    };
    let added = framework::wait_until("a member can be added", ENDS_WITHIN, async || {
        cluster.member_add(request.clone()).await.ok()
    });
    let id = added.await?.into_inner().member.context("a member")?.id;
    cluster
        .member_remove(pb::MemberRemoveRequest { id })
        .await?;
    Ok(id)
}

/// Frames of somebody who has not greeted, or who makes a session up.
async fn frames_without_a_session(stand: &Stand) -> Result<()> {
    let mut caller = Caller::new(&stand.peer_address()).await?;
    let bodies = [
        Vec::new(),
        vec![0xff; 64],
        vec![0; 1 << 20],
        put("k", "v").encode_to_vec(),
    ];
    for body in bodies {
        for session in ["", "0123456789abcdef0123456789abcdef", "\u{ff}"] {
            let headers = [("catena-session", session.as_bytes())];
            let body = crate::frames::envelope(&body);
            let answer = caller.call(CALL, &headers, body).await?;
            let status = answer.status.context("a status")?;
            ensure!(status.code() == Code::Unauthenticated, "{status:?}");
        }
    }
    Ok(())
}

/// A length of 4 GiB is refused before anything is set aside for it; a body that never ends is not gathered.
async fn length_claims_and_endless_bodies(stand: &Stand) -> Result<()> {
    let mut caller = Caller::new(&stand.peer_address()).await?;
    for path in [HELLO, CALL] {
        let claim = [&[0][..], &u32::MAX.to_be_bytes(), &[1; 64]].concat();
        let answer = caller.call(path, &[], claim).await?;
        let status = answer.status.context("a status")?;
        ensure!(
            matches!(
                status.code(),
                Code::OutOfRange | Code::ResourceExhausted | Code::Unauthenticated
            ),
            "{path}: {status:?}"
        );
    }
    for path in [HELLO, CALL, "/catena.raft.v1.Peer/Stream"] {
        let mut raw = Raw::open(&stand.peer_address(), &[]).await?;
        raw.write(&call(1, path)).await?;
        raw.write(&frame(DATA, 0, 1, &[0, 0, 0, 0xf0, 0])).await?;
        let endless = frame(DATA, 0, 1, &[7; 16 << 10]).repeat(16);
        // More than the window: the member has to end it, or to let us wait.
        let _either = timeout(Duration::from_secs(2), raw.flood(&endless, 1000)).await;
    }
    Ok(())
}

/// Greetings by the thousand in made-up names.
async fn floods_of_greetings(stand: &Stand) -> Result<()> {
    let hello = greeting(stand).await?;
    let mut door = DoorClient::connect(stand.member().peer_url()).await?;
    let mut refused = 0;
    for from in 0..2000 {
        let hello = HelloRequest {
            from: from + 1,
            ..hello
        };
        refused += u32::from(door.hello(hello).await.is_err());
    }
    ensure!(refused > 1000, "{refused} refused");
    stand.logs("too many members speak to this one").await
}

/// Frames that carry nothing end the connection, and it is said why.
async fn floods_of_frames(stand: &Stand) -> Result<()> {
    for flood in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        let raw = Raw::open(&stand.peer_address(), &[]).await?;
        let end = raw.flood(&flood.repeat(100), 500).await?;
        ensure!(end.is_some(), "as many as anybody likes: {flood:?}");
    }
    stand.logs("too many control frames").await
}

/// One address cannot take all connections that are meant for members: from another one somebody still gets in, and the members go
/// on.
async fn connections_beyond_the_limit(stand: &Stand) -> Result<()> {
    /// More than twice as many as all members may have.
    const CONNECTIONS: usize = 150;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut raw = Raw::connect_from(FLOODER, &stand.peer_address()).await?;
        // Greeted: silence is not why these end. A refusal may be here before.
        let greeting = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        let _refused = raw.write(&greeting).await;
        held.push(raw);
    }
    stand.logs("connection refused: too many").await?;
    let mut door = DoorClient::connect(stand.member().peer_url()).await?;
    let cluster = door.discover(DiscoverRequest {}).await?.into_inner();
    ensure!(cluster.members.len() == 3, "{cluster:?}");
    let client = stand.client()?;
    for round in 0..20 {
        client.put("others", round.to_string()).await?;
    }
    drop(held);
    Ok(())
}

/// More greetings at once than a connection may have, none of them whole: those beyond are reset.
async fn calls_beyond_the_limit(stand: &Stand) -> Result<()> {
    const CALLS_MAX: u32 = 256;
    let mut raw = Raw::open(&stand.peer_address(), &[]).await?;
    let calls = (0..CALLS_MAX + 10).flat_map(|number| call(2 * number + 1, HELLO));
    raw.write(&calls.collect::<Vec<_>>()).await?;
    let refused = raw.until(RST_STREAM).await?;
    ensure!(refused.stream > 2 * CALLS_MAX - 1, "{refused:?}");
    Ok(())
}

/// Nothing is said, or half of a preface.
async fn silent_connections(stand: &Stand) -> Result<()> {
    for said in [0, 10] {
        let mut raw = Raw::connect(&stand.peer_address()).await?;
        raw.write(&PREFACE[..said]).await?;
        ensure!(raw.end().await? == End::Closed);
    }
    Ok(())
}

/// TLS and HTTP/1 on the peer port.
async fn other_protocols(stand: &Stand) -> Result<()> {
    for greeting in [
        &b"\x16\x03\x01\x02\0\x01\0"[..],
        b"GET /version HTTP/1.1\r\n\r\n",
    ] {
        let mut raw = Raw::connect(&stand.peer_address()).await?;
        raw.write(&greeting.repeat(10)).await?;
        let end = raw.end().await?;
        ensure!(matches!(end, End::GoAway(..) | End::Closed), "{end:?}");
    }
    Ok(())
}
