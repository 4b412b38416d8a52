//! Publications over a WebSocket: each event is one text message, `{"id":"7.1","event":"published","data":{…}}`.
//!
//! A client has nothing to say here but that it lives. One that does not answer pings is left; one that takes nothing is cut off by
//! the connection's own limit, and costs one message until then.

use std::time::Duration;

use axum::{
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    response::Response,
};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::events::{Event, Following, KEEP_ALIVE};

/// Bytes of what a client sends: pings and farewells are shorter.
const HEARD_BYTES_MAX: usize = 4 << 10;

/// How long a client may take to say farewell.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);

/// Leaves HTTP, and tells events from then on until the client goes or `closing`.
pub(super) fn answer(
    upgrade: WebSocketUpgrade,
    first: Option<Event>,
    following: Following,
    closing: CancellationToken,
) -> Response {
    let upgrade = upgrade
        .max_message_size(HEARD_BYTES_MAX)
        .max_frame_size(HEARD_BYTES_MAX);
    upgrade.on_upgrade(|mut socket| async move {
        let farewell = tokio::select! {
            () = tell(&mut socket, first, following) => None,
            () = closing.cancelled() => Some(CloseFrame {
                code: close_code::AWAY,
                reason: "the gateway is stopping".into(),
            }),
        };
        leave(socket, farewell).await;
    })
}

async fn tell(socket: &mut WebSocket, first: Option<Event>, mut following: Following) {
    if let Some(event) = first
        && !say(socket, text(&event)).await
    {
        return;
    }
    let mut beat = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    // A message that took long is no reason to ask twice at once.
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = true;
    loop {
        let message = tokio::select! {
            event = following.next() => text(&event),
            said = socket.recv() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {
                    heard = true;
                    continue;
                }
            },
            _ = beat.tick() => match std::mem::take(&mut heard) {
                true => Message::Ping(Vec::new().into()),
                false => return,
            },
        };
        if !say(socket, message).await {
            return;
        }
    }
}

fn text(event: &Event) -> Message {
    let text = serde_json::to_string(event).expect("strings, numbers and JSON are JSON");
    Message::Text(text.into())
}

/// Whether the client has taken it.
async fn say(socket: &mut WebSocket, message: Message) -> bool {
    socket.send(message).await.is_ok()
}

/// Ends the conversation as both sides are meant to: by answering a farewell, or waiting for the answer to ours.
async fn leave(mut socket: WebSocket, farewell: Option<CloseFrame>) {
    let leaving = async {
        // Where the client has gone, both fail; that is all there is to find out.
        let _said = say(&mut socket, Message::Close(farewell)).await;
        while let Some(Ok(_)) = socket.recv().await {}
    };
    // Who says nothing is left without.
    let _late = timeout(FAREWELL_WITHIN, leaving).await;
}
