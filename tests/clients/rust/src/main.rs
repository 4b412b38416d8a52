//! Rust's etcd-client as one of the clients that tests/clients runs: it says its lines of the conversation.

use std::{env, time::Duration};

use etcd_client::{
    Client, Compare, CompareOp, Error, EventType, GetOptions, PutOptions, Txn, TxnOp,
    TxnOpResponse, WatchOptions,
};
use tokio::time::sleep;

const LEASE_TTL_SECS: u64 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let endpoint = env::args().nth(1).expect("the endpoint is the argument");
    let mut client = Client::connect([endpoint], None).await?;

    client.put("c/key", "one", None).await?;
    println!("put");
    let got = client.get("c/key", None).await?;
    println!("get {}", got.kvs()[0].value_str()?);

    for _ in 0..2 {
        let txn = Txn::new()
            .when([Compare::value("c/key", CompareOp::Equal, "one")])
            .and_then([TxnOp::put("c/key", "two", None)])
            .or_else([TxnOp::get("c/key", None::<GetOptions>)]);
        let answer = client.txn(txn).await?;
        match answer.op_responses().first() {
            Some(TxnOpResponse::Get(got)) => println!("txn else {}", got.kvs()[0].value_str()?),
            _ => println!("txn then"),
        }
    }

    let lease = client.lease_grant(LEASE_TTL_SECS as i64, None).await?.id();
    let options = PutOptions::new().with_lease(lease);
    let put = client.put("c/leased", "", Some(options)).await?;
    let renewing = tokio::spawn(keep_alive(client.clone(), lease));
    println!("lease");

    let revision = put.header().expect("answers carry a header").revision();
    watch(&mut client, revision + 1).await;
    renewing.abort();
    client.lease_revoke(lease).await?;
    println!("done");
    Ok(())
}

/// etcd-client renews once for each call and leaves outages to its user.
async fn keep_alive(mut client: Client, lease: i64) {
    loop {
        if let Ok((mut keeper, mut answers)) = client.lease_keep_alive(lease).await {
            while keeper.keep_alive().await.is_ok()
                && let Ok(Some(_)) = answers.message().await
            {
                println!("renewed");
                sleep(Duration::from_secs(LEASE_TTL_SECS) / 6).await;
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// etcd-client ends a watch with its connection; its user goes on where it stood.
async fn watch(client: &mut Client, mut revision: i64) {
    let mut said = false;
    loop {
        let options = WatchOptions::new().with_start_revision(revision);
        if let Ok(mut stream) = client.watch("c/watched", Some(options)).await {
            while let Ok(Some(response)) = stream.message().await {
                if response.created() && !said {
                    println!("watching");
                    said = true;
                }
                for event in response.events() {
                    let kv = event.kv().expect("events carry a pair");
                    if event.event_type() == EventType::Delete {
                        println!("event delete");
                        return;
                    }
                    println!("event put {}", kv.value_str().expect("values are text"));
                    revision = kv.mod_revision() + 1;
                }
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}
