//! What is repeated and what is not.

use std::{collections::VecDeque, time::Duration};

use catena_api::errors;
use catena_client::{Error, Kv, Options, Remote, Result, pb, request};
use tonic::{Code, Status};

use crate::{
    fake::{Answer, Asked, Member, Script, dead_endpoint},
    within,
};

fn member(answers: impl IntoIterator<Item = Answer>) -> Member {
    Member::start(Script {
        answers: answers.into_iter().collect::<VecDeque<_>>().into(),
        ..Script::default()
    })
}

fn connect(endpoints: &[String]) -> Remote {
    Remote::connect(endpoints, Options::default()).unwrap()
}

async fn get(remote: &Remote) -> Result<pb::RangeResponse> {
    within(remote.range(request::get("k"))).await
}

async fn put(remote: &Remote) -> Result<pb::PutResponse> {
    within(remote.put(request::put("k", "v"))).await
}

#[tokio::test]
async fn read_is_repeated_when_unavailable() {
    let member = member([Answer::Fail(errors::LEADER_CHANGED.into())]);
    get(&connect(&[member.endpoint()])).await.unwrap();
    assert_eq!(member.asked(), [Asked::Range, Asked::Range]);
}

#[tokio::test]
async fn read_gives_up_after_a_hundred_attempts() {
    let answers = (0..200).map(|_| Answer::Fail(errors::NO_LEADER.into()));
    let member = member(answers);
    let error = get(&connect(&[member.endpoint()])).await.unwrap_err();
    assert!(error.is(errors::NO_LEADER), "{error}");
    assert_eq!(member.asked().len(), 100);
}

#[tokio::test]
async fn read_error_is_not_repeated() {
    let member = member([Answer::Fail(errors::COMPACTED.into())]);
    let error = get(&connect(&[member.endpoint()])).await.unwrap_err();
    assert!(error.is_compacted());
    assert_eq!(member.asked(), [Asked::Range]);
}

#[tokio::test]
async fn write_is_not_repeated_after_an_answer() {
    let member = member([Answer::Fail(errors::TIMEOUT.into())]);
    let error = put(&connect(&[member.endpoint()])).await.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string()),
        (Code::Unavailable, errors::TIMEOUT.text.to_owned())
    );
    assert!(error.is_unknown_outcome());
    assert_eq!(member.asked(), [Asked::Put]);
}

#[tokio::test]
async fn write_is_repeated_when_nothing_was_sent() {
    let member = member([]);
    // Whichever endpoint comes first, one of the clients begins at a dead one.
    for _ in 0..8 {
        let remote = connect(&[dead_endpoint(), member.endpoint(), dead_endpoint()]);
        put(&remote).await.unwrap();
    }
    assert_eq!(member.asked().len(), 8);
}

#[tokio::test]
async fn write_to_nobody_has_no_effect_and_says_so() {
    let options = Options {
        request_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let remote = Remote::connect(&[dead_endpoint()], options).unwrap();
    let error = put(&remote).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    assert!(!error.is_unknown_outcome());
}

#[tokio::test]
async fn write_in_flight_when_the_member_dies_has_unknown_outcome() {
    let (member, other) = (member([Answer::Silence]), member([]));
    let remote = connect(&[member.endpoint()]);
    let write = tokio::spawn(async move { put(&remote).await });
    member.saw(Asked::Put).await;
    drop(member);
    let error = write.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Lost(_)), "{error:?}");
    assert!(error.is_unknown_outcome());
    assert_eq!(other.asked(), []);
}

#[tokio::test]
async fn read_in_flight_when_the_member_dies_is_answered_by_another() {
    // Silent once each: the first read hangs wherever it begins.
    let members = [member([Answer::Silence]), member([Answer::Silence])];
    let remote = connect(&members.each_ref().map(Member::endpoint));
    let read = tokio::spawn({
        let remote = remote.clone();
        async move { get(&remote).await }
    });
    let [a, b] = members;
    let (first, second) = within(async {
        loop {
            match (a.asked().len(), b.asked().len()) {
                (0, 0) => tokio::time::sleep(Duration::from_millis(2)).await,
                (_, 0) => break (a, b),
                _ => break (b, a),
            }
        }
    })
    .await;
    second.script.answers.lock().clear();
    drop(first);
    read.await.unwrap().unwrap();
    assert_eq!(second.asked(), [Asked::Range]);
}

#[tokio::test]
async fn connection_comes_back_after_a_restart() {
    let member = member([]);
    let remote = connect(&[member.endpoint()]);
    put(&remote).await.unwrap();
    let member = member.restart();
    get(&remote).await.unwrap();
    put(&remote).await.unwrap();
    assert_eq!(member.asked(), [Asked::Put, Asked::Range, Asked::Put]);
}

#[tokio::test]
async fn silent_member_costs_the_deadline_and_is_left() {
    let members = [member([Answer::Silence]), member([Answer::Silence])];
    let options = Options {
        request_timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let remote = Remote::connect(&members.each_ref().map(Member::endpoint), options).unwrap();
    for _ in 0..2 {
        let error = put(&remote).await.unwrap_err();
        assert_eq!(error, Error::Deadline);
        assert!(error.is_unknown_outcome());
    }
    assert_eq!(
        members.each_ref().map(Member::asked),
        [[Asked::Put], [Asked::Put]]
    );
}

#[tokio::test]
async fn member_is_told_the_deadline() {
    let member = member([]);
    put(&connect(&[member.endpoint()])).await.unwrap();
    assert!(member.script.metadata.lock().contains_key("grpc-timeout"));
}

#[tokio::test]
async fn learner_is_left_for_a_member_that_serves() {
    let learner = || Answer::Fail(errors::NOT_SUPPORTED_FOR_LEARNER.into());
    // The code before etcd 3.6 is another one; the text decides.
    let old = Answer::Fail(Status::unavailable(errors::NOT_SUPPORTED_FOR_LEARNER.text));
    let members = [member([learner(), learner()]), member([old])];
    let remote = connect(&members.each_ref().map(Member::endpoint));
    put(&remote).await.unwrap();
}
