//! Watches that outlive their streams.

use std::collections::VecDeque;

use catena_api::{Event, EventType, KeyValueView, errors, etcd::etcdserverpb};
use catena_client::{Error, Kv, Options, Remote, WatchResponse, Watcher, pb, request};
use tonic::{Code, Status};

use crate::{
    fake::{Asked, Member, Script, Step, header},
    within,
};

fn member(streams: impl IntoIterator<Item = Vec<Step>>) -> Member {
    Member::start(Script {
        streams: streams.into_iter().collect::<VecDeque<_>>().into(),
        ..Script::default()
    })
}

async fn open(member: &Member, start_revision: i64) -> Result<Watcher, Error> {
    let remote = Remote::connect(&[member.endpoint()], Options::default()).unwrap();
    let watch = pb::WatchCreateRequest {
        start_revision,
        ..request::watch_prefix("k")
    };
    within(remote.watch(watch)).await
}

fn created(revision: i64) -> Step {
    Step::Send(etcdserverpb::WatchResponse {
        header: header(revision),
        created: true,
        ..Default::default()
    })
}

fn events(revisions: &[i64]) -> etcdserverpb::WatchResponse {
    etcdserverpb::WatchResponse {
        header: header(revisions.last().copied().unwrap_or_default()),
        events: revisions.iter().map(|revision| event(*revision)).collect(),
        ..Default::default()
    }
}

fn event(revision: i64) -> Event {
    let kv = KeyValueView {
        key: "k".into(),
        mod_revision: revision,
        ..KeyValueView::default()
    };
    Event::new(EventType::Put, &kv.encode(), None)
}

fn send(revisions: &[i64]) -> Step {
    Step::Send(events(revisions))
}

fn fragment(revisions: &[i64]) -> Step {
    Step::Send(etcdserverpb::WatchResponse {
        fragment: true,
        ..events(revisions)
    })
}

fn progress(revision: i64) -> Step {
    Step::Send(etcdserverpb::WatchResponse {
        header: header(revision),
        watch_id: -1,
        ..Default::default()
    })
}

fn canceled(compact_revision: i64, reason: &str) -> Step {
    Step::Send(etcdserverpb::WatchResponse {
        canceled: true,
        compact_revision,
        cancel_reason: reason.to_owned(),
        ..Default::default()
    })
}

fn cut() -> Step {
    Step::Cut(errors::NO_LEADER.into())
}

fn revisions(response: &WatchResponse) -> Vec<i64> {
    let revision = |event: &Event| event.kv().unwrap().view().mod_revision;
    response.events.iter().map(revision).collect()
}

async fn next(watcher: &mut Watcher) -> Vec<i64> {
    revisions(&within(watcher.next()).await.unwrap())
}

fn starts(member: &Member) -> Vec<i64> {
    let start = |asked| match asked {
        Asked::Watch { start_revision } => Some(start_revision),
        _ => None,
    };
    member.asked().into_iter().filter_map(start).collect()
}

#[tokio::test]
async fn cut_stream_goes_on_after_the_last_event() {
    let member = member([
        vec![created(5), send(&[6, 7]), cut()],
        vec![created(9), send(&[8, 9])],
    ]);
    let mut watcher = open(&member, 0).await.unwrap();
    assert_eq!(watcher.created().revision, 5);
    assert_eq!(next(&mut watcher).await, [6, 7]);
    assert_eq!(next(&mut watcher).await, [8, 9]);
    assert_eq!(starts(&member), [0, 8]);
    assert_eq!(*watcher.resumptions().borrow(), 1);
}

#[tokio::test]
async fn cut_before_any_event_goes_on_where_the_watch_was_created() {
    let member = member([vec![created(5), cut()], vec![created(7), send(&[6])]]);
    let mut watcher = open(&member, 0).await.unwrap();
    assert_eq!(next(&mut watcher).await, [6]);
    assert_eq!(starts(&member), [0, 6]);
}

#[tokio::test]
async fn start_in_the_future_is_kept_over_progress_and_cut() {
    let member = member([
        vec![created(5), progress(6), cut()],
        vec![created(7), send(&[20])],
    ]);
    let mut watcher = open(&member, 20).await.unwrap();
    assert!(within(watcher.next()).await.unwrap().is_progress());
    assert_eq!(next(&mut watcher).await, [20]);
    assert_eq!(starts(&member), [20, 20]);
}

#[tokio::test]
async fn progress_moves_the_place_to_go_on_from() {
    let member = member([
        vec![created(5), send(&[6]), progress(40), cut()],
        vec![created(41), send(&[41])],
    ]);
    let mut watcher = open(&member, 0).await.unwrap();
    assert_eq!(next(&mut watcher).await, [6]);
    let mark = within(watcher.next()).await.unwrap();
    assert_eq!((mark.is_progress(), mark.header.revision), (true, 40));
    assert_eq!(next(&mut watcher).await, [41]);
    assert_eq!(starts(&member), [0, 41]);
}

#[tokio::test]
async fn fragments_are_one_response() {
    let member = member([vec![
        created(5),
        fragment(&[6, 6]),
        fragment(&[6]),
        send(&[6, 7]),
    ]]);
    let mut watcher = open(&member, 0).await.unwrap();
    assert_eq!(next(&mut watcher).await, [6, 6, 6, 6, 7]);
}

#[tokio::test]
async fn cut_between_fragments_loses_and_repeats_nothing() {
    let member = member([
        vec![created(5), send(&[6]), fragment(&[7]), cut()],
        vec![created(7), fragment(&[7]), send(&[7])],
    ]);
    let mut watcher = open(&member, 0).await.unwrap();
    assert_eq!(next(&mut watcher).await, [6]);
    assert_eq!(next(&mut watcher).await, [7, 7]);
    assert_eq!(starts(&member), [0, 7]);
}

#[tokio::test]
async fn compaction_of_what_was_missed_ends_the_watch() {
    let member = member([
        vec![created(5), send(&[6]), cut()],
        vec![created(90), canceled(80, "")],
    ]);
    let mut watcher = open(&member, 0).await.unwrap();
    assert_eq!(next(&mut watcher).await, [6]);
    for _ in 0..2 {
        let end = within(watcher.next()).await.unwrap_err();
        assert_eq!(end, Error::Compacted { revision: 80 });
    }
}

#[tokio::test]
async fn refusal_at_creation_is_the_answer() {
    let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    let member = member([vec![canceled(0, reason)]]);
    let error = open(&member, 0).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert_eq!(error.to_string(), "etcdserver: permission denied");
}

#[tokio::test]
async fn refused_stream_is_not_opened_again() {
    let member = member([
        vec![
            created(5),
            Step::Cut(Status::unauthenticated("etcdserver: invalid auth token")),
        ],
        vec![created(5)],
    ]);
    let mut watcher = open(&member, 0).await.unwrap();
    let end = within(watcher.next()).await.unwrap_err();
    assert_eq!(end.code(), Code::Unauthenticated);
    assert_eq!(starts(&member), [0]);
}

#[tokio::test]
async fn other_cluster_at_the_endpoint_ends_the_watch() {
    let other = etcdserverpb::WatchResponse {
        header: Some(etcdserverpb::ResponseHeader {
            cluster_id: 2,
            ..Default::default()
        }),
        created: true,
        ..Default::default()
    };
    let member = member([vec![created(5), cut()], vec![Step::Send(other)]]);
    let mut watcher = open(&member, 0).await.unwrap();
    let end = within(watcher.next()).await.unwrap_err();
    assert_eq!(end, Error::OtherCluster { before: 1, now: 2 });
}

#[tokio::test]
async fn watch_survives_the_death_of_its_member() {
    let member = member([vec![created(5), send(&[6])], vec![created(6), send(&[7])]]);
    let mut watcher = open(&member, 0).await.unwrap();
    assert_eq!(next(&mut watcher).await, [6]);
    let member = member.restart();
    assert_eq!(next(&mut watcher).await, [7]);
    assert_eq!(starts(&member), [0, 7]);
}

#[tokio::test]
async fn progress_request_reaches_the_member() {
    let member = member([vec![created(5)]]);
    let watcher = open(&member, 0).await.unwrap();
    watcher.request_progress();
    member.saw(Asked::Progress).await;
}

#[tokio::test]
async fn dropped_watcher_ends_the_stream() {
    let member = member([vec![created(5)]]);
    drop(open(&member, 0).await.unwrap());
    member.saw(Asked::WatchEnded).await;
}

#[tokio::test]
async fn member_is_told_that_a_leader_is_required() {
    let member = member([vec![created(5)]]);
    let _watcher = open(&member, 0).await.unwrap();
    let metadata = member.script.metadata.lock();
    assert_eq!(metadata.get("hasleader").unwrap(), "true");
}

#[tokio::test]
async fn watchers_that_do_not_read_hold_up_nothing_else() {
    let big = || {
        let kv = KeyValueView {
            key: "k".into(),
            value: vec![b'x'; 1 << 20].into(),
            mod_revision: 6,
            ..KeyValueView::default()
        };
        Step::Send(etcdserverpb::WatchResponse {
            events: vec![Event::new(EventType::Put, &kv.encode(), None)],
            ..events(&[6])
        })
    };
    let stream = || {
        let flood = (0..40).map(|_| big());
        std::iter::once(created(5)).chain(flood).collect()
    };
    let member = member([stream(), stream(), vec![created(5), send(&[6])]]);
    let remote = Remote::connect(&[member.endpoint()], Options::default()).unwrap();
    let watch = || within(remote.watch(request::watch("k")));
    let _stuck = [watch().await.unwrap(), watch().await.unwrap()];
    // The creation, what waits for the watcher, and some that fill the stream's window.
    member.took(2 * (1 + 16 + 3)).await;
    assert_eq!(next(&mut watch().await.unwrap()).await, [6]);
    within(remote.range(request::get("k"))).await.unwrap();
}
