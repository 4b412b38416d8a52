//! A23 of the article: nothing proves that REST and gRPC agree. Here ten thousand random ids do, over both ways to the service, and both
//! ways agree.

use std::fmt::Write;

use catena_api::{
    example::{UserRequest, user_service_client::UserServiceClient},
    user::{CreateUserRequest, DeleteUserRequest, users_client::UsersClient},
};
use catena_middleware::Error;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::{
    fleet::Fleet,
    stand::{Stand, Way, Wish},
    wire::{Client, Version},
};

/// Inputs over each of the two ways.
const INPUTS: usize = 5_000;

/// Users that there are.
const USERS: i64 = 20;

/// Ids that mean someone, no one, or nothing.
fn input(rng: &mut SmallRng) -> String {
    const ODD: [&str; 12] = [
        "0",
        "-1",
        "+1",
        "01",
        "1.0",
        "1e3",
        " 1",
        "9223372036854775807",
        "9223372036854775808",
        "%31",
        "用户",
        "a/b",
    ];
    match rng.random_range(0..4) {
        0 | 1 => rng.random_range(1..USERS * 2).to_string(),
        2 => (*ODD.choose(rng).unwrap()).to_owned(),
        _ => {
            // Paths with dot segments or NUL do not come as far as a service.
            let length = rng.random_range(1..8);
            let characters = (0..length).map(|_| rng.random_range('\u{1}'..='\u{2ff}'));
            let text: String = characters.collect();
            text.replace('.', "-")
        }
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut path, byte| {
        write!(path, "%{byte:02X}").unwrap();
        path
    })
}

async fn users(stand: &Stand) {
    let mut users = UsersClient::new(stand.channel());
    for number in 0..USERS {
        let request = CreateUserRequest {
            name: Some(format!("user {number}")),
            email: Some(format!("{number}@example.com")),
            age: (number % 3 > 0).then_some(number),
        };
        let user = users.create(request).await.unwrap().into_inner();
        if number % 5 == 0 {
            users
                .delete(DeleteUserRequest { id: user.id })
                .await
                .unwrap();
        }
    }
}

/// What gRPC says, as REST would put it.
async fn over_grpc(
    client: &mut UserServiceClient<tonic::transport::Channel>,
    user_id: String,
) -> Value {
    match client.get_user(UserRequest { user_id }).await {
        Ok(answer) => {
            let user = answer.into_inner();
            json!({"code": 200, "message": "success", "data": {"id": user.id, "name": user.name, "age": user.age}})
        }
        Err(status) => {
            let error = Error::from(status);
            json!({
                "code": error.code(), "message": error.message(), "data": null,
                "reason": error.reason(), "details": error.violations(),
            })
        }
    }
}

async fn agree(way: Way, seed: u64) {
    let stand = Stand::start(Wish {
        way,
        ..Wish::default()
    })
    .await;
    users(&stand).await;
    let mut rest = Client::connect(Version::Http2, stand.address()).await;
    let mut grpc = UserServiceClient::new(stand.channel());
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..INPUTS {
        let input = input(&mut rng);
        let answer = rest
            .ask("GET", &format!("/user/{}", encoded(&input)), None)
            .await;
        let mut said = answer.json();
        assert_eq!(said["code"], answer.status, "seed {seed}, {input:?}");
        said.as_object_mut().unwrap().remove("trace_id");
        assert_eq!(
            said,
            over_grpc(&mut grpc, input.clone()).await,
            "seed {seed}, {input:?}"
        );
    }
}

/// The same service, asked in its own process without a socket, and through the registry.
#[tokio::test]
async fn a23_both_ways_to_a_service_answer_alike() {
    let seed = rand::random();
    let stand = Stand::start(Wish::default()).await;
    users(&stand).await;
    let fleet = Fleet::start().await;
    let _registered = fleet.register("user-1", stand.grpc.address()).await;
    let mut local = Client::connect(Version::Http2, stand.address()).await;
    let mut found = Client::connect(Version::Http2, fleet.address()).await;
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..INPUTS {
        let input = input(&mut rng);
        let path = format!("/user/{}", encoded(&input));
        let language = *["zh", "en"].choose(&mut rng).unwrap();
        let headers = [("accept-language", language)];
        let answers = [
            local.ask_with("GET", &path, &headers, "").await,
            found.ask_with("GET", &path, &headers, "").await,
        ];
        let [one, other] = answers.map(|answer| {
            let mut said = answer.json();
            said.as_object_mut().unwrap().remove("trace_id");
            (answer.status, said)
        });
        assert_eq!(one, other, "seed {seed}, {input:?}");
    }
    fleet.stop().await;
}

#[tokio::test]
async fn a23_rest_and_grpc_agree_in_process() {
    agree(Way::Local, rand::random()).await;
}

#[tokio::test]
async fn a23_rest_and_grpc_agree_over_a_channel() {
    agree(Way::Channel, rand::random()).await;
}
