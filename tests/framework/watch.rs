//! One watch stream.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use catena_api::{
    EventType,
    etcd::etcdserverpb::{self as pb, watch_request::RequestUnion},
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, metadata::MetadataValue};

use crate::{Client, message::text};

/// A response that is due comes by then.
const RESPONSE_WITHIN: Duration = Duration::from_secs(10);
/// Requests that wait for the connection; a test sends few.
const REQUESTS_MAX: usize = 1024;

/// One watch stream, driven message by message.
///
/// A Go server sends the head of its answer with the first message, so the call is made by a task: requests can be sent before it
/// has returned.
#[derive(Debug)]
pub struct WatchStream {
    requests: Option<mpsc::Sender<pb::WatchRequest>>,
    responses: mpsc::Receiver<Result<pb::WatchResponse, Status>>,
    task: JoinHandle<()>,
}

impl WatchStream {
    /// Opens a stream.
    pub fn open(client: &Client) -> Self {
        Self::open_with(client, &[])
    }

    /// Opens a stream with metadata.
    pub fn open_with(client: &Client, metadata: &[(&'static str, &'static str)]) -> Self {
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        // One response at a time: a test that does not read is a slow watcher.
        let (forward, responses) = mpsc::channel(1);
        let mut call = Request::new(ReceiverStream::new(queue));
        for (name, value) in metadata {
            call.metadata_mut()
                .insert(*name, MetadataValue::from_static(value));
        }
        let mut watch = client.watch();
        let task = tokio::spawn(async move {
            let mut stream = match watch.watch(call).await {
                Ok(response) => response.into_inner(),
                Err(status) => return drop(forward.send(Err(status)).await),
            };
            while let Some(response) = stream.message().await.transpose() {
                if forward.send(response).await.is_err() {
                    break;
                }
            }
        });
        Self {
            requests: Some(requests),
            responses,
            task,
        }
    }

    /// Sends a request of a known kind.
    pub async fn send(&self, request: RequestUnion) -> Result<()> {
        let request_union = Some(request);
        self.send_raw(pb::WatchRequest { request_union }).await
    }

    /// Sends any request.
    pub async fn send_raw(&self, request: pb::WatchRequest) -> Result<()> {
        let requests = self
            .requests
            .as_ref()
            .context("the stream is half closed")?;
        Ok(requests.send(request).await?)
    }

    /// Says that no request follows.
    pub fn half_close(&mut self) {
        self.requests = None;
    }

    /// Creates a watch; gives the response that says so, or that says why not.
    pub async fn create(&mut self, request: pb::WatchCreateRequest) -> Result<pb::WatchResponse> {
        self.send(RequestUnion::CreateRequest(request)).await?;
        let response = self.next().await?;
        if !response.created {
            bail!("not the answer to a creation: {response:?}");
        }
        Ok(response)
    }

    /// Asks for the cancellation of a watch.
    pub async fn cancel(&self, watch_id: i64) -> Result<()> {
        self.send(RequestUnion::CancelRequest(pb::WatchCancelRequest {
            watch_id,
        }))
        .await
    }

    /// Asks for progress.
    pub async fn progress(&self) -> Result<()> {
        self.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
            .await
    }

    /// The next response.
    pub async fn next(&mut self) -> Result<pb::WatchResponse> {
        Ok(self.raw().await?.context("the watch stream has ended")??)
    }

    /// The next response, or the error with which the stream ends; `None` if it has ended.
    pub async fn raw(&mut self) -> Result<Option<Result<pb::WatchResponse, Status>>> {
        let response = timeout(RESPONSE_WITHIN, self.responses.recv()).await;
        response.context("no watch response is coming")
    }

    /// Events of a watch until `count` are there, each as `PUT key=value@revision` or `DELETE key@revision`, with
    /// ` was value@revision` if the previous pair came along.
    pub async fn events(&mut self, count: usize) -> Result<Vec<String>> {
        let mut events = Vec::new();
        while events.len() < count {
            let response = self.next().await?;
            if response.canceled {
                bail!("canceled after {events:?}: {response:?}");
            }
            events.extend(describe(&response));
        }
        Ok(events)
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The events of a response as [`WatchStream::events`] gives them.
pub fn describe(response: &pb::WatchResponse) -> Vec<String> {
    let event = |event: &catena_api::Event| {
        let kv = event.kv().unwrap_or_default().view();
        let (key, value, revision) = (text(&kv.key), text(&kv.value), kv.mod_revision);
        let mut line = match event.kind() {
            EventType::Put => format!("PUT {key}={value}@{revision}"),
            EventType::Delete => format!("DELETE {key}@{revision}"),
        };
        if let Some(prev) = event.prev_kv() {
            let prev = prev.view();
            line += &format!(" was {}@{}", text(&prev.value), prev.mod_revision);
        }
        line
    };
    response.events.iter().map(event).collect()
}
