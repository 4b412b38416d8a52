//! Streams, watches and leases by the ten thousand.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use catena_api::etcd::etcdserverpb::{self as pb, watch_request::RequestUnion};
use framework::{Client, WatchStream};
use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use crate::case::{Case, Stand, case};

/// A flood is over by then, on a slow and busy machine too.
const FLOOD_WITHIN: Duration = Duration::from_secs(100);

/// Watches that one stream may have.
const WATCHES_MAX: usize = 1 << 16;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(watch_streams),
        // 65,536 watches at about two kilobytes, what they are found by included.
        case!(watches_beyond_the_limit_of_a_stream).growth_mib(256),
        case!(progress_requests),
        case!(leases),
        case!(renewals_of_nothing),
    ]
}

/// More watch streams than a connection has room for: the others wait at their client's.
async fn watch_streams(stand: &Stand) -> Result<()> {
    let mut streams = Vec::new();
    for _ in 0..5 {
        let client = stand.client()?;
        for _ in 0..900 {
            streams.push(WatchStream::open(&client));
        }
    }
    for stream in &mut streams {
        stream.create(everything()).await?;
    }
    stand.client()?.put("seen", "by all").await?;
    for stream in &mut streams {
        loop {
            let response = stream.next().await?;
            let seen = response.events.iter().filter_map(|event| event.kv());
            if seen.into_iter().any(|kv| kv.key() == "seen") {
                break;
            }
        }
    }
    Ok(())
}

fn everything() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: "seen".into(),
        ..Default::default()
    }
}

/// 100,000 creations on one stream: those beyond the limit are answered created and canceled, with the reason.
async fn watches_beyond_the_limit_of_a_stream(stand: &Stand) -> Result<()> {
    const CREATIONS: usize = 70_000;
    let client = stand.client()?;
    let requests = stream::iter(0..CREATIONS).map(|number| {
        let create = pb::WatchCreateRequest {
            key: format!("key {number}").into(),
            ..Default::default()
        };
        pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        }
    });
    // The stream stays open behind the last request.
    let requests = requests.chain(stream::pending());
    let mut responses = client.watch().watch(requests).await?.into_inner();
    let answered = timeout(FLOOD_WITHIN, async {
        let (mut created, mut refused) = (0, Vec::new());
        while created + refused.len() < CREATIONS {
            let response = responses.message().await?.context("the stream ended")?;
            match response.canceled {
                false => created += 1,
                true => refused.push(response.cancel_reason),
            }
        }
        anyhow::Ok((created, refused))
    });
    let (created, refused) = answered.await.context("it takes too long")??;
    ensure!(created == WATCHES_MAX, "{created} created");
    ensure!(
        refused
            .iter()
            .all(|reason| reason == "etcdserver: too many watches on one stream"),
        "{:?}",
        refused.first()
    );
    Ok(())
}

/// Progress asked for without end and answers not read.
async fn progress_requests(stand: &Stand) -> Result<()> {
    let client = stand.client()?;
    let create = pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(everything())),
    };
    let progress = pb::WatchRequest {
        request_union: Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})),
    };
    let asked = stream::iter(std::iter::once(create).chain(std::iter::repeat_n(progress, 200_000)));
    let responses = client.watch().watch(asked.chain(stream::pending())).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(responses);
    Ok(())
}

/// Ten thousand leases, granted from many sides at once, then given back.
async fn leases(stand: &Stand) -> Result<()> {
    const LEASES: i64 = 10_000;
    let client = stand.client()?;
    let granted = timeout(FLOOD_WITHIN, each_of(1..=LEASES, &client, grant));
    granted.await.context("granting takes too long")??;
    ensure!(client.leases().await?.len() == usize::try_from(LEASES)?);
    let revoked = timeout(FLOOD_WITHIN, each_of(1..=LEASES, &client, revoke));
    revoked.await.context("revoking takes too long")??;
    ensure!(client.leases().await?.is_empty());
    Ok(())
}

async fn grant(client: Client, id: i64) -> Result<()> {
    client.grant(600, id).await?;
    Ok(())
}

async fn revoke(client: Client, id: i64) -> Result<()> {
    client.revoke(id).await?;
    Ok(())
}

/// Runs `call` for each id, some hundreds at a time.
async fn each_of<F: Future<Output = Result<()>>>(
    ids: impl Iterator<Item = i64>,
    client: &Client,
    call: impl Fn(Client, i64) -> F,
) -> Result<()> {
    let mut calls = stream::iter(ids.map(|id| call(client.clone(), id))).buffer_unordered(300);
    while let Some(called) = calls.next().await {
        called?;
    }
    Ok(())
}

/// A keepalive stream with nothing but unknown ids: each is answered with TTL 0.
async fn renewals_of_nothing(stand: &Stand) -> Result<()> {
    const RENEWALS: usize = 50_000;
    let client = stand.client()?;
    let ids = (0..RENEWALS).map(|id| pb::LeaseKeepAliveRequest { id: id as i64 });
    let renewed = timeout(FLOOD_WITHIN, async {
        let answers = client.lease().lease_keep_alive(stream::iter(ids)).await?;
        let mut answers = answers.into_inner();
        let mut count = 0;
        while let Some(answer) = answers.message().await? {
            ensure!(answer.ttl == 0, "{answer:?}");
            count += 1;
        }
        Ok(count)
    });
    let count = renewed.await.context("it takes too long")??;
    ensure!(count == RENEWALS, "{count} answers");
    Ok(())
}
