//! One operation on one member, and what became of it.

use std::{error::Error, time::Duration};

use framework::{
    Client,
    history::{Answer, Args, Outcome, not_sent, outcome_of},
};
use tokio::time::timeout;
use tonic::{Code, Status};

/// A client gives an operation up after so long; its outcome is then unknown.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Sends the operation and waits for its answer.
pub(crate) async fn execute(client: &Client, args: &Args) -> Outcome {
    match timeout(ANSWER_WITHIN, send(client, args)).await {
        Ok(Ok(answer)) => Outcome::Ok(answer),
        Ok(Err(status)) if refused_connection(&status) => not_sent(status.message()),
        Ok(Err(status)) => outcome_of(&status),
        Err(_) => Outcome::Unknown(None),
    }
}

async fn send(client: &Client, args: &Args) -> Result<Answer, Status> {
    Ok(match args {
        Args::Get(get) => client.range(get.into()).await?.into(),
        Args::Put(put) => client.put_with(put.into()).await?.into(),
        Args::Delete(delete) => client.delete_with(delete.into()).await?.into(),
        Args::Txn(txn) => client.txn(txn.into()).await?.into(),
        Args::Compact(compact) => {
            let request = tonic::Request::new(compact.into());
            client.kv().compact(request).await?.into_inner().into()
        }
        Args::LeaseGrant(grant) => client.grant(grant.ttl, grant.id).await?.into(),
        Args::LeaseRevoke(lease) => client.revoke(lease.id).await?.into(),
        Args::LeaseKeepalive(lease) => {
            let renewed = client.keep_alive(lease.id).await?;
            let ended = || Status::new(Code::Unknown, "the stream ended without an answer");
            renewed.ok_or_else(ended)?.into()
        }
        Args::LeaseTtl(lease) => {
            let asked = tonic::Request::new(lease.into());
            let left = client.lease().lease_time_to_live(asked).await?;
            left.into_inner().into()
        }
        Args::Leases {} => {
            let asked = tonic::Request::new(Default::default());
            client
                .lease()
                .lease_leases(asked)
                .await?
                .into_inner()
                .into()
        }
        Args::Hashkv(hash) => client.hash_kv(hash.revision).await?.into(),
        Args::Other(other) => {
            let what = format!("no client sends {}", other.op);
            return Err(Status::new(Code::Unimplemented, what));
        }
    })
}

/// Whether the connection was never made, so that no byte of the operation left.
fn refused_connection(status: &Status) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = cause {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
        {
            return true;
        }
        cause = error.source();
    }
    false
}
