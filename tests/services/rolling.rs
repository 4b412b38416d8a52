//! Instances come and go, and callers go on.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use framework::wait_until;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    fleet::{Fleet, PATIENCE, Running},
    wire::{Answer, Client, VERSIONS, Version},
};

/// Instances that are restarted, one after another.
const INSTANCES: usize = 3;

/// Callers at once, half of them over each protocol. Each instance has connections to its database for all of them.
const CALLERS: usize = 8;

/// Requests that there are at least while all instances are restarted. More, and more rounds, by [`REQUESTS`].
const REQUESTS_MIN: u64 = 2_000;

/// The variable that asks for more.
const REQUESTS: &str = "CATENA_ROLLING_REQUESTS";

/// Answers in a row after which callers are said to go on.
const GOES_ON: usize = 200;

/// Callers that ask until they are told to stop.
struct Callers {
    tasks: JoinSet<Vec<String>>,
    stopped: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
}

impl Callers {
    async fn start(fleet: &Fleet) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..CALLERS {
            let version = VERSIONS[number % VERSIONS.len()];
            let mut client = Client::connect(version, fleet.address()).await;
            let (stopped, asked) = (stopped.clone(), asked.clone());
            tasks.spawn(async move {
                let mut failures = Vec::new();
                while !stopped.load(Ordering::Relaxed) {
                    let request = client.request("GET", "/user/1", &[], "");
                    match client.try_send(request).await {
                        Ok(answer) if answer.status == 200 => {}
                        Ok(answer) => failures.push(format!("{answer:?}")),
                        Err(error) => failures.push(format!("{version:?}: {error:?}")),
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                failures
            });
        }
        Self {
            tasks,
            stopped,
            asked,
        }
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// What failed.
    async fn stop(self) -> Vec<String> {
        self.stopped.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

async fn fleet(instances: usize) -> (Fleet, Vec<Running>) {
    let fleet = Fleet::start().await;
    let mut running = Vec::new();
    for number in 0..instances {
        running.push(fleet.instance(&format!("user-{number}")).await);
    }
    let mut client = Client::connect(Version::Http1, fleet.address()).await;
    let user = json!({"name": "a", "email": "a@b.c", "age": 7}).to_string();
    let created = client.ask("POST", "/users", Some(&user)).await;
    assert_eq!(created.status, 201, "{created:?}");
    (fleet, running)
}

fn requests() -> u64 {
    let asked = env::var(REQUESTS).ok();
    asked.map_or(REQUESTS_MIN, |text| text.parse().unwrap())
}

/// All instances are restarted under load, again and again until enough was asked, and no request fails.
#[tokio::test]
async fn a_rolling_restart_fails_no_request() {
    let (fleet, mut running) = fleet(INSTANCES).await;
    let callers = Callers::start(&fleet).await;
    let (mut rounds, wanted) = (0, requests());
    while rounds == 0 || callers.asked() < wanted {
        for number in 0..INSTANCES {
            running.remove(0).leave().await;
            running.push(fleet.instance(&format!("user-{number}")).await);
        }
        rounds += 1;
    }
    let asked = callers.asked();
    let failures = callers.stop().await;
    eprintln!("{asked} requests over {rounds} rolling restarts of {INSTANCES} instances");
    let shown = &failures[..failures.len().min(5)];
    assert!(
        failures.is_empty(),
        "{} of {asked} failed: {shown:?}",
        failures.len()
    );
    for instance in running {
        instance.leave().await;
    }
    fleet.stop().await;
}

async fn ask(client: &mut Client) -> Answer {
    client.ask("GET", "/user/1", None).await
}

/// Asks until the answers are as wanted, so many times in a row. Others may come before: calls that the dead one had taken.
async fn goes_on(client: &mut Client, wanted: (u16, &str)) {
    let mut in_a_row = 0;
    wait_until("callers go on", PATIENCE, async || {
        let answer = ask(client).await;
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        in_a_row = match (answer.status, answer.reason().as_str()) == wanted {
            true => in_a_row + 1,
            false => 0,
        };
        (in_a_row == GOES_ON).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_gateway_goes_on_when_instances_are_killed() {
    let (fleet, mut running) = fleet(2).await;
    let mut client = Client::connect(Version::Http1, fleet.address()).await;
    wait_until("both are called", PATIENCE, async || {
        assert_eq!(ask(&mut client).await.status, 200);
        let slots = fleet.channel().instances();
        slots.iter().all(|slot| slot.rtt.is_some()).then_some(())
    })
    .await
    .unwrap();
    let text = client.ask("GET", "/metrics", None).await.body;
    for line in [
        "catena_channel_instances{service=\"user\"} 2",
        "catena_discovery_instances{service=\"user\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }

    running.remove(0).kill();
    goes_on(&mut client, (200, "")).await;
    running.remove(0).kill();
    goes_on(&mut client, (503, "NO_INSTANCE")).await;
    // Who comes back is called, without a restart of anyone.
    let again = fleet.instance("user-2").await;
    goes_on(&mut client, (200, "")).await;
    again.leave().await;
    fleet.stop().await;
}
