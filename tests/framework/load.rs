//! Writers that run while members fall, and what they were promised.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{task::JoinHandle, time::timeout};

use crate::{Client, message::text};

/// A write that takes longer is given up, its outcome unknown: a writer must not wait for a member that is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(1);
/// A writer whose write failed rests so long, as a client does.
const PAUSE: Duration = Duration::from_millis(20);
/// Keys read at a time when promises are checked.
const PAGE: i64 = 1000;

/// Writers, each of which puts one new key after another, to one member after another.
#[derive(Debug)]
pub struct Load {
    stopped: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
    writers: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Starts writers against the members at these endpoints.
    pub fn start(endpoints: &[String], writers: usize) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let writers = (0..writers)
            .map(|writer| {
                let (stopped, acknowledged) = (stopped.clone(), acknowledged.clone());
                let endpoints = endpoints.to_vec();
                tokio::spawn(write(writer, endpoints, stopped, acknowledged))
            })
            .collect();
        Self {
            stopped,
            acknowledged,
            writers,
        }
    }

    /// How many writes have been acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.lock().map_or(0, |keys| keys.len())
    }

    /// Ends the writers; gives the keys of all acknowledged writes. A key's value is the key.
    pub async fn stop(self) -> Result<Vec<String>> {
        self.stopped.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await??;
        }
        let keys = self.acknowledged.lock().ok().context("no writer panics")?;
        Ok(keys.clone())
    }
}

async fn write(
    writer: usize,
    endpoints: Vec<String>,
    stopped: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<String>>>,
) -> Result<()> {
    let clients = endpoints.iter().map(|endpoint| Client::new(endpoint));
    let clients = clients.collect::<Result<Vec<_>>>()?;
    let mut number = 0_usize;
    while !stopped.load(Ordering::Relaxed) {
        let key = format!("load/{writer:02}/{number:08}");
        let client = &clients[(writer + number) % clients.len()];
        number += 1;
        match timeout(WRITE_WITHIN, client.put(key.clone(), key.clone())).await {
            Ok(Ok(_)) => acknowledged
                .lock()
                .ok()
                .context("no writer panics")?
                .push(key),
            // Unknown or refused: either way nothing was promised.
            Ok(Err(_)) | Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    Ok(())
}

/// Demands that every acknowledged write of a load is there.
pub async fn kept(client: &Client, acknowledged: &[String]) -> Result<()> {
    let mut there = std::collections::BTreeSet::new();
    let (mut from, end) = ("load/".to_owned(), "load0");
    loop {
        let mut request = crate::message::between(from, end);
        request.limit = PAGE;
        let page = client.range(request).await?;
        for kv in &page.kvs {
            ensure!(kv.key() == kv.value(), "{kv:?} has another's value");
            there.insert(text(&kv.key()));
        }
        let Some(last) = page.kvs.last().filter(|_| page.more) else {
            break;
        };
        from = text(&last.key()) + "\0";
    }
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|key| !there.contains(*key))
        .collect();
    ensure!(
        lost.is_empty(),
        "{} acknowledged writes are lost, the first {:?}",
        lost.len(),
        lost[0]
    );
    Ok(())
}
