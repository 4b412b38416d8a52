//! Every version reaches everybody, in order: on stores of their own, for in one that others compact versions may be passed over.
//!
//! `CATENA_CONFIG_PUBLICATIONS` makes it as many publications as wanted.

use std::{
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use catena_registry::config::{Config, ConfigCenter, Expect, Subscription};
use framework::wait_until;
use futures_util::future::try_join_all;
use parking_lot::Mutex;

use crate::{
    cases,
    config::{Limits, main, open, options, rate},
    config_api, config_socket,
    ground::{Case, Ground, PATIENCE, judged},
    switch::Switch,
};

pub(crate) const CASES: &[Case] = cases![
    each_version_is_applied_in_order_through_cuts,
    a_publication_reaches_a_hundred_processes,
    events_go_on_where_the_client_left,
    a_socket_goes_on_where_the_client_left,
    a_revision_is_told_whole_to_who_leaves_within,
    a_revision_is_told_whole_over_a_socket,
];

/// Versions published while a process is cut off from the store again and again.
const PUBLICATIONS: u64 = 300;

/// Of so many publications, a process misses those of the last part as they are made.
const CUT_EVERY: u64 = 25;
const CUT_AT: u64 = 10;
const JOINED_AT: u64 = 15;

/// Processes that a publication has to reach, and publications.
const PROCESSES: usize = 100;
const ROUNDS: u64 = 20;

/// The time in which 99 of 100 publications are applied.
const APPLIED_WITHIN: Duration = Duration::from_secs(1);

/// What a publication may take at most when somebody asks for very many of them.
pub(crate) const PUBLICATION_WITHIN: Duration = Duration::from_millis(200);

/// How many publications are made.
pub(crate) fn publications() -> u64 {
    let wanted = env::var("CATENA_CONFIG_PUBLICATIONS").ok();
    wanted
        .and_then(|wanted| wanted.parse().ok())
        .unwrap_or(PUBLICATIONS)
}

/// What a process was told, and when.
type Told = Arc<Mutex<Vec<(u64, Instant)>>>;

/// Notes what is told of the rate.
fn observe(config: &Config) -> Result<(Told, Subscription)> {
    let told = Told::default();
    let noted = told.clone();
    let watched = config.watch::<Limits>("limits")?;
    let note = move |limits: &Arc<Limits>| noted.lock().push((limits.rate, Instant::now()));
    let subscription = watched.on_change(note)?;
    Ok((told, subscription))
}

/// Waits until a process was told of a rate.
async fn until_told(told: &Told, rate: u64) -> Result<()> {
    wait_until(&format!("{rate} is told"), PATIENCE, async || {
        let last = told.lock().last().map(|(rate, _)| *rate);
        (last == Some(rate)).then_some(())
    })
    .await
}

/// Demands that a process was told of all rates up to the last, each once and in order.
fn ensure_all(told: &Told, last: u64) -> Result<()> {
    let rates: Vec<_> = told.lock().iter().map(|(rate, _)| *rate).collect();
    let out_of_place = rates
        .iter()
        .zip(1..)
        .find(|(rate, wanted)| **rate != *wanted);
    ensure!(out_of_place.is_none(), "told and wanted: {out_of_place:?}");
    ensure!(rates.len() as u64 == last, "{} of {last}", rates.len());
    Ok(())
}

async fn events_go_on_where_the_client_left(ground: &Ground) -> Result<()> {
    config_api::events_go_on_where_the_client_left(ground).await
}

async fn a_socket_goes_on_where_the_client_left(ground: &Ground) -> Result<()> {
    config_socket::events_go_on_where_the_client_left(ground).await
}

async fn a_revision_is_told_whole_to_who_leaves_within(ground: &Ground) -> Result<()> {
    config_api::a_revision_is_told_whole(ground).await
}

async fn a_revision_is_told_whole_over_a_socket(ground: &Ground) -> Result<()> {
    config_socket::a_revision_is_told_whole(ground).await
}

async fn each_version_is_applied_in_order_through_cuts(ground: &Ground) -> Result<()> {
    let publications = publications();
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    center.publish(&name, rate(0), Expect::Any).await?;
    let switch = Switch::new(ground.kv.clone());
    let config = open(options(switch.clone(), ground, "u-1")).await?;
    let (told, _subscription) = observe(&config)?;
    for n in 1..=publications {
        match n % CUT_EVERY {
            CUT_AT => switch.cut(),
            JOINED_AT => switch.join(ground.kv.clone()),
            _ => {}
        }
        center.publish(&name, rate(n), Expect::Version(n)).await?;
    }
    switch.join(ground.kv.clone());
    until_told(&told, publications).await?;
    ensure_all(&told, publications)
}

async fn a_publication_reaches_a_hundred_processes(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    center.publish(&name, rate(0), Expect::Any).await?;
    let opening = (0..PROCESSES).map(|n| {
        let store = options(ground.kv.clone(), ground, &format!("u-{n}"));
        open(store)
    });
    let configs = try_join_all(opening).await?;
    let observed: Result<Vec<_>> = configs.iter().map(observe).collect();
    let observed = observed?;
    let mut published = Vec::new();
    for n in 1..=ROUNDS {
        published.push(Instant::now());
        center.publish(&name, rate(n), Expect::Version(n)).await?;
        for (told, _) in &observed {
            until_told(told, n).await?;
        }
    }
    let mut took = Vec::new();
    for (told, _) in &observed {
        ensure_all(told, ROUNDS)?;
        let told = told.lock();
        let arrivals = told.iter().zip(&published);
        took.extend(arrivals.map(|((_, arrived), published)| *arrived - *published));
    }
    took.sort_unstable();
    let at = |percent: usize| {
        took.get((took.len() - 1) * percent / 100)
            .context("arrivals")
    };
    let (half, p99, last) = (at(50)?, at(99)?, at(100)?);
    eprintln!(
        "published to applied on {PROCESSES} processes: p50 {half:?}, p99 {p99:?}, last {last:?}"
    );
    ensure!(*p99 < judged(APPLIED_WITHIN), "p99 {p99:?}");
    Ok(())
}
