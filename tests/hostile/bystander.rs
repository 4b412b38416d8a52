//! A client that has nothing to do with the attack.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use catena_api::errors;
use framework::{Client, Cluster, wait_until};
use tokio::{task::JoinHandle, time::timeout};

/// One put and one get take milliseconds; this is only against a hang on a slow and busy machine.
const ROUND_WITHIN: Duration = Duration::from_secs(20);

/// Rounds that show that it goes on.
const ROUNDS: u64 = 5;

/// Between rounds: the bystander is a witness and no load.
const PAUSE: Duration = Duration::from_millis(5);

/// Puts and gets a key, round after round, until it is stopped; any error ends it but that there are too many requests.
pub(crate) struct Bystander {
    rounds: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    task: JoinHandle<Result<()>>,
}

impl Bystander {
    /// Starts one at the member that is attacked.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let endpoint = cluster.members[0].endpoint();
        let (rounds, stopped) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let task = tokio::spawn(go_round(endpoint, rounds.clone(), stopped.clone()));
        Self {
            rounds,
            stopped,
            task,
        }
    }

    /// Demands some more rounds.
    pub(crate) async fn goes_on(&self, when: &str) -> Result<()> {
        let wanted = self.rounds.load(Ordering::Relaxed) + ROUNDS;
        let what = format!("another client goes on {when}");
        wait_until(&what, ROUND_WITHIN, async || {
            let enough = self.rounds.load(Ordering::Relaxed) >= wanted;
            (enough || self.task.is_finished()).then_some(())
        })
        .await?;
        ensure!(
            !self.task.is_finished(),
            "another client met an error {when}"
        );
        Ok(())
    }

    /// Ends it; its error, if it met one.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stopped.store(true, Ordering::Relaxed);
        self.task.await?.context("another client")
    }
}

async fn go_round(
    endpoint: String,
    rounds: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
) -> Result<()> {
    let client = Client::new(&endpoint)?;
    while !stopped.load(Ordering::Relaxed) {
        let round = rounds.load(Ordering::Relaxed).to_string();
        let ended = timeout(ROUND_WITHIN, async {
            client.put("bystander", round.clone()).await?;
            client.get("bystander").await
        });
        match ended.await.context("a put and a get hang") {
            Ok(Ok(got)) => {
                ensure!(got.kvs.len() == 1 && got.kvs[0].value() == round);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            // An honest client tries again; that it is served is what the rounds show.
            Ok(Err(status)) if status.message() == errors::TOO_MANY_REQUESTS.text => {}
            Ok(Err(status)) => bail!("{status}"),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
