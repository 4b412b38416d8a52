//! Keeping the log short: a snapshot, which is a flush, then what lies far enough behind it goes.

use std::sync::Arc;

use crate::shared::Shared;

/// Cuts the log whenever it has grown enough; see [`crate::machine::LogMeter`].
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        shared.machine.log_full.notified().await;
        if !shared.machine.meter.lock().is_due() {
            continue;
        }
        // What is durable now bounds the cut: after a restart openraft takes what was applied again for a snapshot as well.
        let Ok(durable) = shared.machine.flush().await else {
            return;
        };
        let Some(last) = durable.last else {
            continue;
        };
        shared.consensus.snapshot(last).await;
        let peers = shared.consensus.status().peers;
        let needed = |upto| shared.machine.behind.needed(upto, &peers, shared.now());
        let upto = shared.machine.meter.lock().snapshot_taken(needed);
        if let Some(upto) = upto {
            shared.consensus.purge(upto.min(last.index)).await;
        }
    }
}
