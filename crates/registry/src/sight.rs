//! Watches as the registry follows them.
//!
//! A remote store's watch goes on by itself after an interruption, as if nothing had happened. Here that matters: the store that it
//! goes on with may have been restored in between, so whoever follows has a look then.

use catena_client::{Error, WatchResponse, Watcher};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};

/// What a watch brings.
#[derive(Debug)]
pub(crate) enum Sight {
    /// Events, or a mark of progress.
    Response(WatchResponse),
    /// The watch was interrupted, and goes on.
    Resumed,
    /// The watch is over.
    Ended(Error),
}

/// All that a watch brings.
pub(crate) fn follow(watcher: Watcher) -> BoxStream<'static, Sight> {
    let mut resumptions = watcher.resumptions();
    resumptions.mark_unchanged();
    let resumed = stream::unfold(resumptions, |mut resumptions| async move {
        resumptions.changed().await.ok()?;
        Some((Sight::Resumed, resumptions))
    });
    let seen = watcher.map(|response| match response {
        Ok(response) => Sight::Response(response),
        Err(error) => Sight::Ended(error),
    });
    stream::select(seen, resumed).boxed()
}
