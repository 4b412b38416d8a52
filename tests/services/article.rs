//! The faults of the article's samples that fall to the gateway and the user service, each by its number.

use serde_json::json;

use crate::{
    stand::{Stand, Way, Wish},
    wire::{Client, Version},
};

async fn client(stand: &Stand) -> Client {
    Client::connect(Version::Http1, stand.address()).await
}

/// The envelope is promised, but samples answer `{"error":…}` or the bare object.
#[tokio::test]
async fn a1_every_answer_is_in_the_envelope() {
    let stand = Stand::start(Wish::default()).await;
    let mut client = client(&stand).await;
    let body = json!({"name": "a", "email": "a@b.c"}).to_string();
    for (method, path, body) in [
        ("GET", "/ping", None),
        ("POST", "/users", Some(body.as_str())),
        ("POST", "/users", Some(body.as_str())),
        ("GET", "/user/1", None),
        ("GET", "/user/2", None),
        ("GET", "/users", None),
        ("GET", "/nowhere", None),
        ("GET", "/trouble/panic", None),
    ] {
        let answer = client.ask(method, path, body).await;
        let text = &answer.body;
        let keys = [r#"{"code":"#, r#","message":"#, r#","data":"#].map(|key| text.find(key));
        assert!(
            keys.is_sorted() && keys.iter().all(Option::is_some),
            "{path}: {text}"
        );
        assert_eq!(answer.json()["code"], answer.status);
    }
    let ping = client.ask("GET", "/ping", None).await.body;
    assert_eq!(
        ping,
        r#"{"code":200,"message":"success","data":{"message":"pong"}}"#
    );
}

/// Raw `err.Error()` goes to the client.
#[tokio::test]
async fn a2_what_broke_is_not_told() {
    let stand = Stand::start(Wish::default()).await;
    let mut client = client(&stand).await;
    let url = format!(
        "sqlite:{}",
        stand.directory.path().join("users.db").display()
    );
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query("DROP TABLE users")
        .execute(&pool)
        .await
        .unwrap();
    for path in ["/user/1", "/users", "/trouble/panic"] {
        let answer = client.ask("GET", path, None).await;
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (500, "INTERNAL"),
            "{path}"
        );
        for word in ["users", "table", "sql", "secret", "panic"] {
            assert!(!answer.body.contains(word), "{path}: {}", answer.body);
        }
    }
}

/// Errors of the listen call are ignored: here they are values that a caller must take.
#[tokio::test]
async fn a3_an_address_in_use_is_an_error() {
    let stand = Stand::start(Wish::default()).await;
    let error = tokio::net::TcpListener::bind(stand.address())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    let missing = catena_services::user::Directory::open("sqlite:/nowhere/at/all.db", 0).await;
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .contains("cannot open the database")
    );
}

/// `gte=0` cannot tell absent from 0.
#[tokio::test]
async fn a12_zero_is_an_age_and_absent_is_none() {
    let stand = Stand::start(Wish::default()).await;
    let mut client = client(&stand).await;
    for (email, age) in [("a@b.c", json!(0)), ("d@e.f", json!(null))] {
        let body = json!({"name": "a", "email": email, "age": age}).to_string();
        assert_eq!(
            client.ask("POST", "/users", Some(&body)).await.json()["data"]["age"],
            age
        );
    }
    let absent = json!({"name": "a", "email": "g@h.i"}).to_string();
    assert!(client.ask("POST", "/users", Some(&absent)).await.json()["data"]["age"].is_null());
}

/// `@NotBlank(message="用户名不能为空")` and `@Min(value=18, message="年龄不能小于18")` of the Java sample.
#[tokio::test]
async fn the_java_sample_s_messages_are_kept() {
    for way in [Way::Local, Way::Channel] {
        let stand = Stand::start(Wish {
            age_min: 18,
            way,
            ..Wish::default()
        })
        .await;
        let mut client = client(&stand).await;
        let young = json!({"name": "a", "email": "a@b.c", "age": 17}).to_string();
        let answer = client.ask("POST", "/users", Some(&young)).await;
        assert_eq!(
            answer.json()["details"],
            json!([{"field": "age", "rule": "gte", "message": "年龄不能小于18"}])
        );
        let blank = json!({"name": " ", "email": "a@b.c"}).to_string();
        let answer = client.ask("POST", "/users", Some(&blank)).await;
        assert_eq!(answer.json()["details"][0]["message"], "用户名不能为空");
    }
}

/// "CRUD" has only create: the table has all of it.
#[test]
fn a14_the_table_has_all_of_crud() {
    let table = catena_gateway::routes::TABLE;
    let has = |method: &str, path: &str| {
        table
            .iter()
            .any(|route| (route.method, route.path) == (method, path))
    };
    for (method, path) in [
        ("POST", "/users"),
        ("GET", "/users/{id}"),
        ("GET", "/users"),
        ("PUT", "/users/{id}"),
        ("PATCH", "/users/{id}"),
        ("DELETE", "/users/{id}"),
    ] {
        assert!(has(method, path), "{method} {path}");
    }
}
