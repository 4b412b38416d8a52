//! The configuration when the store itself dies, comes back older, or comes back empty.

use anyhow::{Result, ensure};
use catena_registry::config::{ConfigCenter, Expect};

use crate::{
    cases,
    config::{Limits, main, open, options, rate, until_rate},
    outage::Case,
    own_store::OwnStore,
};

pub(crate) const CASES: &[Case] = cases![
    a_restart_of_the_store_is_survived,
    what_a_restored_store_has_lost_still_holds,
    what_a_wiped_store_has_lost_still_holds,
];

async fn a_restart_of_the_store_is_survived(store: &mut OwnStore) -> Result<()> {
    let ground = store.ground();
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(&ground)?;
    center.publish(&name, rate(1), Expect::Any).await?;
    let config = open(options(ground.kv.clone(), &ground, "u-1")).await?;
    let watched = config.watch::<Limits>("limits")?;
    store.kill()?;
    ensure!(watched.load().rate == 1);
    store.restart().await?;
    center.publish(&name, rate(2), Expect::Version(1)).await?;
    until_rate(&watched, 2).await
}

async fn what_a_restored_store_has_lost_still_holds(store: &mut OwnStore) -> Result<()> {
    let ground = store.ground();
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(&ground)?;
    center.publish(&name, rate(1), Expect::Any).await?;
    store.back_up().await?;
    let config = open(options(ground.kv.clone(), &ground, "u-1")).await?;
    let watched = config.watch::<Limits>("limits")?;
    for n in 2..=5 {
        center.publish(&name, rate(n), Expect::Any).await?;
    }
    until_rate(&watched, 5).await?;
    store.restore()?;
    store.restart().await?;
    ensure!(center.get(&name).await?.revision.meta.version == 1);
    ensure!(watched.load().rate == 5, "older never follows newer");
    // What is published from now on counts, whatever its number.
    center.publish(&name, rate(7), Expect::Version(1)).await?;
    until_rate(&watched, 7).await
}

async fn what_a_wiped_store_has_lost_still_holds(store: &mut OwnStore) -> Result<()> {
    let ground = store.ground();
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(&ground)?;
    center.publish(&name, rate(3), Expect::Any).await?;
    let config = open(options(ground.kv.clone(), &ground, "u-1")).await?;
    let watched = config.watch::<Limits>("limits")?;
    store.wipe()?;
    store.restart().await?;
    ensure!(center.get(&name).await.is_err());
    ensure!(watched.load().rate == 3);
    center.publish(&name, rate(4), Expect::Absent).await?;
    until_rate(&watched, 4).await
}
