//! Where the writer sits. Its own thread comes to it when it is called, and a caller may sit down there while nobody else does: one
//! who has nothing else to do saves waking a thread, and being woken by it, which on an idle machine take half as long as the sync.

use tokio::sync::Mutex;

use crate::{shared::Shared, writer::Writer};

pub(crate) struct Desk {
    /// None once the log has ended.
    writer: Mutex<Option<Writer>>,
}

impl Desk {
    pub(crate) fn new(writer: Writer) -> Self {
        Self {
            writer: Mutex::new(Some(writer)),
        }
    }

    /// Serves whenever it is called, until the log is closed or fails.
    pub(crate) async fn run(&self, shared: &Shared) {
        loop {
            let closing = shared.called().await;
            let mut writer = self.writer.lock().await;
            if !serve(&mut writer).await {
                return;
            }
            if closing && let Some(writer) = writer.take() {
                return writer.close().await;
            }
        }
    }

    /// Serves what is queued, unless somebody else does or it may take long; whether it did.
    #[must_use]
    pub(crate) async fn serve_here(&self) -> bool {
        let Ok(mut writer) = self.writer.try_lock() else {
            return false;
        };
        let is_quick = writer.as_ref().is_some_and(Writer::is_quick);
        is_quick && serve(&mut writer).await
    }
}

/// Serves what is queued; false if the log has ended.
async fn serve(slot: &mut Option<Writer>) -> bool {
    let Some(writer) = slot else {
        return false;
    };
    let Err(error) = writer.serve().await else {
        return true;
    };
    if let Some(writer) = slot.take() {
        writer.fail(error).await;
    }
    false
}
