//! The gateway and the user service beside bare servers.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tokio::runtime::Runtime;

use crate::{
    machine::Machine,
    services::{Asked, Load, Role, Subject},
};

/// The gateway and the user service beside bare axum and tonic with the same query.
#[derive(Args, Debug)]
pub(crate) struct Services {
    /// How many clients ask.
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// How many times each is measured, in turn; of an odd number the median is one of them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each time.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

/// What one round found of one subject.
#[derive(Clone, Copy)]
struct Found {
    per_sec: f64,
    p99_ms: f64,
    cpu_us: f64,
    rss_bytes: u64,
}

impl Services {
    /// Measures all and prints the table.
    pub(crate) fn run(self) -> Result<()> {
        let machine = Machine::look()?;
        println!(
            "{} · {} cores · {} · {} clients, {} rounds of {} s",
            machine.cpu, machine.cores, machine.commit, self.clients, self.rounds, self.seconds
        );
        let directory = tempfile::tempdir()?;
        let users = directory.path().join("users.db");
        let database = format!("sqlite:{}", users.display());
        // The first makes the table, in which the user is laid.
        let ours = Subject::start(Role::Ours, &database)?;
        Runtime::new()?
            .block_on(create(&ours))
            .context("laying down the user")?;
        let bare = Subject::start(Role::Bare, &database)?;
        for asked in Asked::ALL {
            let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
            for _ in 0..self.rounds.max(1) {
                of_bare.push(self.measure(asked, &bare)?);
                of_ours.push(self.measure(asked, &ours)?);
            }
            println!("{}", line(asked, &of_ours, &of_bare));
        }
        Ok(())
    }

    fn measure(&self, asked: Asked, subject: &Subject) -> Result<Found> {
        let clients = self.clients;
        let length = Duration::from_secs_f64(self.seconds);
        let warm_up = length / 4;
        Load {
            clients,
            length: warm_up,
        }
        .run(asked, subject)?;
        let servers = subject.servers();
        let before = servers.sample()?;
        let latencies = Load { clients, length }.run(asked, subject)?;
        let used = before.until(&servers.sample()?);
        let answers = latencies.len() as f64;
        Ok(Found {
            per_sec: answers / used.time.as_secs_f64(),
            p99_ms: latencies.quantile(0.99).as_secs_f64() * 1e3,
            cpu_us: used.servers.as_secs_f64() * 1e6 / answers,
            rss_bytes: servers.rss_bytes()?,
        })
    }
}

/// One user, id 1.
async fn create(subject: &Subject) -> Result<()> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", subject.grpc))?;
    let mut users = catena_api::user::users_client::UsersClient::connect(channel).await?;
    let user = catena_api::user::CreateUserRequest {
        name: Some("Alice".to_owned()),
        email: Some("alice@example.com".to_owned()),
        age: Some(30),
    };
    users.create(user).await?;
    Ok(())
}

/// The share of the bare servers' requests, then both subjects' figures.
fn line(asked: Asked, ours: &[Found], bare: &[Found]) -> String {
    // Rounds are neighbours in time, and so compare best with one another.
    let ratios = ours.iter().zip(bare);
    let ratios = ratios.map(|(ours, bare)| ours.per_sec / bare.per_sec);
    format!(
        "{asked:<15} {:.2} of bare, {:.1} wanted · ours {} · bare {}",
        median(ratios.collect()),
        asked.wanted(),
        figures(ours),
        figures(bare),
    )
}

fn figures(found: &[Found]) -> String {
    let of = |figure: fn(&Found) -> f64| median(found.iter().map(figure).collect());
    format!(
        "{:>6.0}/s, p99 {:>6.2} ms, {:>5.1} µs of CPU, {:>3.0} MiB",
        of(|found| found.per_sec),
        of(|found| found.p99_ms),
        of(|found| found.cpu_us),
        of(|found| (found.rss_bytes >> 20) as f64),
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
