//! Service Watch.

use catena_api::{
    EventType,
    etcd::etcdserverpb::{self as pb, watch_request::RequestUnion},
};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::one::{One, in_time, put};

/// One stream of watches.
struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
}

impl Stream {
    async fn open(one: &One) -> Self {
        let (requests, received) = mpsc::channel(16);
        let responses = one
            .watch()
            .watch(ReceiverStream::new(received))
            .await
            .unwrap();
        Self {
            requests,
            responses: responses.into_inner(),
        }
    }

    async fn ask(&self, union: RequestUnion) {
        let request = pb::WatchRequest {
            request_union: Some(union),
        };
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> pb::WatchResponse {
        in_time(self.responses.message()).await.unwrap().unwrap()
    }

    /// Creates a watch and takes the answer.
    async fn create(&mut self, request: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.ask(RequestUnion::CreateRequest(request)).await;
        let response = self.next().await;
        assert!(response.created);
        response
    }
}

fn watch(key: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn events_come_with_the_header_of_their_revision() {
    let one = One::start().await;
    let mut stream = Stream::open(&one).await;
    let created = stream.create(watch("a")).await;
    assert_eq!(created.watch_id, 0);
    assert_eq!(created.header.unwrap().revision, 1);
    assert_eq!(created.header.unwrap().member_id, one.member.id());
    one.put("a", "1").await;
    let response = stream.next().await;
    assert_eq!(response.header.unwrap().revision, 2);
    let event = &response.events[0];
    assert_eq!(
        (event.kind(), event.kv().unwrap().value()),
        (EventType::Put, "1".into())
    );
    let delete = pb::DeleteRangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    one.kv().delete_range(delete).await.unwrap();
    let response = stream.next().await;
    assert_eq!(response.events[0].kind(), EventType::Delete);
}

#[tokio::test]
async fn history_is_replayed_from_the_start_revision() {
    let one = One::start().await;
    for value in ["1", "2", "3"] {
        one.put("a", value).await;
    }
    let mut stream = Stream::open(&one).await;
    let from = pb::WatchCreateRequest {
        start_revision: 3,
        prev_kv: true,
        ..watch("a")
    };
    stream.create(from).await;
    let mut values = Vec::new();
    while values.len() < 2 {
        for event in stream.next().await.events {
            values.push((
                event.kv().unwrap().value(),
                event.prev_kv().unwrap().value(),
            ));
        }
    }
    let pair = |value: &'static str, previous: &'static str| (value.into(), previous.into());
    assert_eq!(values, [pair("2", "1"), pair("3", "2")]);
}

#[tokio::test]
async fn refused_watches_say_why() {
    let one = One::start().await;
    let mut stream = Stream::open(&one).await;
    let cases = [
        (
            pb::WatchCreateRequest {
                start_revision: -1,
                ..watch("a")
            },
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            pb::WatchCreateRequest {
                range_end: "a".into(),
                ..watch("b")
            },
            "mvcc: watcher range is empty",
        ),
    ];
    for (request, reason) in cases {
        let refused = stream.create(request).await;
        assert!(refused.canceled);
        assert_eq!(
            (refused.watch_id, refused.cancel_reason.as_str()),
            (-1, reason)
        );
    }
    let seven = pb::WatchCreateRequest {
        watch_id: 7,
        ..watch("a")
    };
    assert!(!stream.create(seven.clone()).await.canceled);
    let refused = stream.create(seven).await;
    let reason = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(
        (refused.watch_id, refused.cancel_reason.as_str()),
        (-1, reason)
    );
}

#[tokio::test]
async fn cancelled_watch_is_answered_and_silent() {
    let one = One::start().await;
    let mut stream = Stream::open(&one).await;
    stream.create(watch("a")).await;
    stream.create(watch("a")).await;
    let cancel = RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 0 });
    stream.ask(cancel).await;
    let canceled = stream.next().await;
    assert!(canceled.canceled);
    assert_eq!(canceled.watch_id, 0);
    let unknown = RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 9 });
    stream.ask(unknown).await;
    one.put("a", "1").await;
    assert_eq!(stream.next().await.watch_id, 1);
}

#[tokio::test]
async fn compaction_ends_a_watch_that_it_overtook() {
    let one = One::start().await;
    for value in ["1", "2", "3"] {
        one.put("a", value).await;
    }
    let compact = pb::CompactionRequest {
        revision: 4,
        physical: false,
    };
    one.kv().compact(compact).await.unwrap();
    let mut stream = Stream::open(&one).await;
    let from = pb::WatchCreateRequest {
        start_revision: 2,
        ..watch("a")
    };
    stream.create(from).await;
    let response = stream.next().await;
    assert!(response.canceled);
    assert_eq!(
        (response.compact_revision, response.header.unwrap().revision),
        (4, 0)
    );
    assert_eq!(response.cancel_reason, "");
}

#[tokio::test]
async fn progress_is_answered_once_all_is_sent() {
    let one = One::start().await;
    one.put("b", "1").await;
    let mut stream = Stream::open(&one).await;
    stream.create(watch("a")).await;
    stream
        .ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
        .await;
    let progress = stream.next().await;
    assert_eq!((progress.watch_id, progress.events.len()), (-1, 0));
    assert_eq!(progress.header.unwrap().revision, 2);
}

#[tokio::test]
async fn quiet_watches_are_told_of_progress() {
    let one = One::start_with(|config| {
        config.watch_progress_interval = Duration::from_millis(100);
    })
    .await;
    let mut stream = Stream::open(&one).await;
    let notified = pb::WatchCreateRequest {
        progress_notify: true,
        ..watch("a")
    };
    stream.create(notified).await;
    let progress = stream.next().await;
    assert_eq!((progress.watch_id, progress.events.len()), (0, 0));
}

#[tokio::test]
async fn half_closed_stream_goes_on() {
    let one = One::start().await;
    let mut stream = Stream::open(&one).await;
    stream.create(watch("a")).await;
    let Stream {
        requests,
        mut responses,
    } = stream;
    drop(requests);
    one.put("a", "1").await;
    let response = in_time(responses.message()).await.unwrap().unwrap();
    assert_eq!(response.events.len(), 1);
}

#[tokio::test]
async fn large_response_comes_in_fragments_if_the_watch_allows_it() {
    let one = One::start_with(|config| config.max_request_bytes = 1 << 20).await;
    let mut stream = Stream::open(&one).await;
    let fragmented = pb::WatchCreateRequest {
        start_revision: 2,
        fragment: true,
        range_end: vec![0].into(),
        ..watch("k")
    };
    // Two values of a little less than a request make a response of more than one.
    for key in ["k1", "k2"] {
        one.kv()
            .put(put(key, &"v".repeat(900 << 10)))
            .await
            .unwrap();
    }
    stream.create(fragmented).await;
    let mut events = 0;
    while events < 2 {
        let response = stream.next().await;
        events += response.events.len();
        assert_eq!(response.fragment, events < 2 && response.fragment);
    }
}

#[tokio::test]
async fn stopping_member_ends_its_streams() {
    let one = One::start().await;
    let mut stream = Stream::open(&one).await;
    stream.create(watch("a")).await;
    let (_, ended) = tokio::join!(one.member.stop(), in_time(stream.responses.message()));
    let status = ended.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: server stopped")
    );
}

#[tokio::test]
async fn slow_stream_holds_nobody_up() {
    let one = One::start().await;
    let mut slow = Stream::open(&one).await;
    slow.create(watch("k")).await;
    let value = "v".repeat(100 << 10);
    // Far more than the buffers of a connection hold; nobody reads them.
    for _ in 0..100 {
        one.put("k", &value).await;
    }
    let mut quick = Stream::open(&one).await;
    quick.create(watch("other")).await;
    one.put("other", "1").await;
    assert_eq!(quick.next().await.events.len(), 1);
    let mut seen = 0;
    while seen < 100 {
        seen += slow.next().await.events.len();
    }
}

/// Streams that have the same to say are given the same bytes; none may get those of another.
#[tokio::test]
async fn streams_of_one_connection_each_get_what_is_theirs() {
    const STREAMS: i64 = 40;
    const PUTS: usize = 30;
    let one = One::start().await;
    one.put("k", "before").await;
    let mut streams = Vec::new();
    for number in 0..STREAMS {
        let mut stream = Stream::open(&one).await;
        let request = pb::WatchCreateRequest {
            watch_id: number % 4,
            prev_kv: number % 3 == 0,
            ..watch(if number % 5 == 0 { "other" } else { "k" })
        };
        stream.create(request).await;
        streams.push(stream);
    }
    for number in 0..PUTS {
        one.put("k", &number.to_string()).await;
        one.put("other", &number.to_string()).await;
    }
    for (number, stream) in (0..STREAMS).zip(&mut streams) {
        let (key, before) = match number % 5 {
            0 => ("other", None),
            _ => ("k", Some("before".to_owned())),
        };
        let (mut values, mut previous) = (Vec::new(), Vec::new());
        while values.len() < PUTS {
            let response = stream.next().await;
            assert_eq!(response.watch_id, number % 4);
            for event in response.events {
                let kv = event.kv().unwrap();
                assert_eq!(kv.key(), key);
                values.push(kv.value());
                previous.push(event.prev_kv().map(|kv| kv.value()));
            }
        }
        let put = |number: usize| bytes::Bytes::from(number.to_string());
        assert_eq!(values, (0..PUTS).map(put).collect::<Vec<_>>());
        let expected = std::iter::once(before.map(Into::into))
            .chain((0..PUTS - 1).map(|number| Some(put(number))))
            .map(|value| value.filter(|_| number % 3 == 0));
        assert_eq!(previous, expected.collect::<Vec<_>>(), "stream {number}");
    }
}

/// What has gathered for a stream is given to the connection together, piece by piece.
#[tokio::test]
async fn what_has_gathered_comes_whole_and_in_order() {
    const PUTS: i64 = 300;
    let one = One::start().await;
    let mut stream = Stream::open(&one).await;
    for key in ["k", "l"] {
        stream.create(watch(key)).await;
    }
    let value = "v".repeat(1000);
    let put = |number: i64| put(if number % 2 == 0 { "k" } else { "l" }, &value);
    for number in 0..PUTS {
        one.kv().put(put(number)).await.unwrap();
    }
    let mut next = [2, 3];
    while next.iter().min() < Some(&(PUTS + 2)) {
        let response = stream.next().await;
        let next = &mut next[response.watch_id as usize];
        for event in response.events {
            assert_eq!(event.kv().unwrap().view().mod_revision, *next);
            *next += 2;
        }
    }
}
