//! What users are, whatever database keeps them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    stand::{Stand, Way, Wish},
    wire::{Answer, Client, VERSIONS, Version},
};

/// Creates so many at once.
const CONCURRENT: usize = 1000;

async fn create(client: &mut Client, body: Value) -> Answer {
    client.ask("POST", "/users", Some(&body.to_string())).await
}

fn id(answer: &Answer) -> i64 {
    answer.json()["data"]["id"]
        .as_i64()
        .unwrap_or_else(|| panic!("{answer:?}"))
}

/// A user's whole life.
pub(crate) async fn live(stand: &Stand) {
    for version in VERSIONS {
        let mut client = Client::connect(version, stand.address()).await;
        let email = format!("Alice.{version:?}@example.com");
        let created = create(
            &mut client,
            json!({"name": "艾丽丝", "email": email, "age": 0}),
        )
        .await;
        let id = id(&created);
        let path = format!("/users/{id}");
        assert_eq!(
            (
                created.status,
                created.headers["location"].to_str().unwrap()
            ),
            (201, path.as_str())
        );
        let user = json!({"id": id, "name": "艾丽丝", "email": email, "age": 0});
        assert_eq!(
            created.json(),
            json!({"code": 201, "message": "success", "data": user})
        );
        assert_eq!(client.ask("GET", &path, None).await.json()["data"], user);
        let article = client.ask("GET", &format!("/user/{id}"), None).await;
        assert_eq!(
            article.json()["data"],
            json!({"id": id, "name": "艾丽丝", "age": 0})
        );

        let same = create(
            &mut client,
            json!({"name": "b", "email": email.to_uppercase()}),
        )
        .await;
        assert_eq!(
            (same.status, same.reason().as_str()),
            (409, "USER_ALREADY_EXISTS")
        );

        let change = r#"{"name":"Bob"}"#;
        let patched = client.ask("PATCH", &path, Some(change)).await;
        assert_eq!(
            patched.json()["data"],
            json!({"id": id, "name": "Bob", "email": email, "age": 0})
        );
        let cleared = client.ask("PATCH", &path, Some(r#"{"age":null}"#)).await;
        assert!(cleared.json()["data"]["age"].is_null(), "{cleared:?}");
        let named = client.ask("PATCH", &path, Some(r#"{"name":null}"#)).await;
        assert_eq!(named.reason(), "VALIDATION_FAILED");
        let other = format!("new.{version:?}@example.com");
        let whole = json!({"name": "Carol", "email": other, "age": 150});
        let updated = client.ask("PUT", &path, Some(&whole.to_string())).await;
        assert_eq!(
            updated.json()["data"],
            json!({"id": id, "name": "Carol", "email": other, "age": 150})
        );
        // The old address is free again.
        let next = create(&mut client, json!({"name": "d", "email": email})).await;
        let taken = client
            .ask("PATCH", &path, Some(&json!({"email": email}).to_string()))
            .await;
        assert_eq!(
            (next.status, taken.reason().as_str()),
            (201, "USER_ALREADY_EXISTS")
        );

        let gone = client.ask("DELETE", &path, None).await;
        assert_eq!((gone.status, gone.body.as_str()), (204, ""));
        for (method, body) in [
            ("GET", None),
            ("DELETE", None),
            ("PATCH", Some(change)),
            ("PUT", Some(&*whole.to_string())),
        ] {
            let answer = client.ask(method, &path, body).await;
            assert_eq!(answer.reason(), "USER_NOT_FOUND", "{method}");
        }
    }
}

/// Ids are not given again, the last one's neither.
pub(crate) async fn ids_are_new(stand: &Stand) {
    let mut client = Client::connect(Version::Http1, stand.address()).await;
    let mut last = 0;
    for _ in 0..3 {
        let created = create(
            &mut client,
            json!({"name": "x", "email": "once@example.com"}),
        )
        .await;
        let id = id(&created);
        assert!(id > last, "{id} after {last}");
        last = id;
        assert_eq!(
            client
                .ask("DELETE", &format!("/users/{id}"), None)
                .await
                .status,
            204
        );
    }
}

/// The database writes one after another, and on a slow disk says that it has no room, or no time: such a client asks again, as
/// someone else since the outcome of the last time is not known.
async fn create_at_last(client: &mut Client, name: &str) -> i64 {
    for attempt in 0.. {
        let email = format!("{name}-{attempt}@example.com");
        let created = create(client, json!({"name": "many", "email": email})).await;
        if !matches!(created.status, 503 | 504) {
            return id(&created);
        }
    }
    unreachable!("it goes on until there is an answer")
}

/// A thousand at once have a thousand ids, and the list has each once.
pub(crate) async fn a_thousand(stand: &Stand) {
    let address = stand.address();
    let mut tasks = tokio::task::JoinSet::new();
    let connections = 20;
    for part in 0..connections {
        tasks.spawn(async move {
            let mut client = Client::connect(Version::Http1, address).await;
            let mut ids = Vec::new();
            for number in 0..CONCURRENT / connections {
                ids.push(create_at_last(&mut client, &format!("many-{part}-{number}")).await);
            }
            ids
        });
    }
    let ids: Vec<i64> = tasks.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<i64> = ids.iter().copied().collect();
    assert_eq!((ids.len(), distinct.len()), (CONCURRENT, CONCURRENT));

    let mut client = Client::connect(Version::Http2, address).await;
    let (mut listed, mut path) = (Vec::new(), "/users?limit=100".to_owned());
    loop {
        let page = client.ask("GET", &path, None).await.json();
        let users = page["data"]["users"].as_array().unwrap();
        listed.extend(users.iter().map(|user| user["id"].as_i64().unwrap()));
        let Some(cursor) = page["data"]["next_cursor"].as_str() else {
            break;
        };
        path = format!("/users?limit=100&cursor={cursor}");
    }
    assert!(listed.is_sorted_by(|a, b| a < b));
    assert!(distinct.is_subset(&listed.into_iter().collect()));
}

#[tokio::test]
async fn sqlite_in_process() {
    let stand = Stand::start(Wish::default()).await;
    live(&stand).await;
    ids_are_new(&stand).await;
}

#[tokio::test]
async fn sqlite_over_a_channel() {
    let stand = Stand::start(Wish {
        way: Way::Channel,
        ..Wish::default()
    })
    .await;
    live(&stand).await;
    ids_are_new(&stand).await;
}

#[tokio::test]
async fn a_thousand_concurrent_creates_have_a_thousand_ids() {
    a_thousand(&Stand::start(Wish::default()).await).await;
}
