//! What operators set and see, and the slots of consumers.

use anyhow::{Result, ensure};
use catena_registry::{
    Discovery, Layout, Override, RegisterOptions, Registrar, ServiceName, ServiceSettings, Status,
    Subscriber,
};
use framework::wait_until;

use crate::{
    cases,
    ground::{Case, Ground, PATIENCE, next, standing, until_change, until_ids},
};

pub(crate) const CASES: &[Case] = cases![
    an_override_holds_until_it_is_cleared,
    an_override_outlives_a_registration,
    an_override_holds_in_every_layout,
    an_override_by_hand_is_merged,
    settings_are_followed,
    services_are_listed,
    slots_are_the_lowest_free_numbers,
    a_slot_is_freed_by_dropping_it,
    a_lost_slot_is_taken_again,
];

fn over(weight: u32) -> Override {
    Override {
        weight: Some(weight),
        ..Override::default()
    }
}

async fn an_override_holds_until_it_is_cleared(ground: &Ground) -> Result<()> {
    let _stands = ground.register(1, &[Layout::Native]).await?;
    let operator = ground.registry()?;
    let mut watcher = ground.watch().await?;
    until_ids(&mut watcher, &["1"]).await?;
    let drained = Override {
        enabled: Some(false),
        weight: Some(10),
        status: Some(Status::Draining),
    };
    operator.set_override(&ground.service, "1", drained).await?;
    let change = next(&mut watcher).await?;
    let now = &change.updated[0].1;
    ensure!((now.enabled, now.weight, now.status) == (false, 10, Status::Draining));
    operator.clear_override(&ground.service, "1").await?;
    let change = next(&mut watcher).await?;
    ensure!(change.all[0].is_callable() && change.all[0].weight == 100);
    Ok(())
}

async fn an_override_outlives_a_registration(ground: &Ground) -> Result<()> {
    let first = ground.register(1, &[Layout::Native]).await?;
    let operator = ground.registry()?;
    operator.set_override(&ground.service, "1", over(7)).await?;
    first.deregister().await?;
    let _again = ground.register(1, &[Layout::Native]).await?;
    let snapshot = ground.registry()?.instances(&ground.service).await?;
    ensure!(snapshot.instances[0].weight == 7);
    Ok(())
}

async fn an_override_holds_in_every_layout(ground: &Ground) -> Result<()> {
    let address = "10.9.9.9:80";
    ground
        .put(&format!("/services/{}/x", ground.service), address)
        .await?;
    ground
        .put(&format!("{}/77", ground.service), "10.9.9.8:80")
        .await?;
    let operator = ground.registry()?;
    for id in ["x", "77"] {
        operator.set_override(&ground.service, id, over(3)).await?;
    }
    let snapshot = operator.instances(&ground.service).await?;
    ensure!(snapshot.instances.len() == 2);
    ensure!(
        snapshot
            .instances
            .iter()
            .all(|instance| instance.weight == 3)
    );
    Ok(())
}

async fn an_override_by_hand_is_merged(ground: &Ground) -> Result<()> {
    let _stands = ground.register(1, &[Layout::Native]).await?;
    let key = format!(
        "/registry-override/v1/{}/{}/1",
        ground.namespace(),
        ground.service
    );
    ground.put(&key, r#"{"enabled":false}"#).await?;
    let mut watcher = ground.watch().await?;
    until_change(&mut watcher, "disabled", |change| {
        change
            .all
            .first()
            .is_some_and(|one| !one.enabled && one.weight == 100)
    })
    .await?;
    // What nobody can read overrides nothing.
    ground.put(&key, "nonsense").await?;
    until_change(&mut watcher, "enabled", |change| change.all[0].enabled).await?;
    Ok(())
}

async fn settings_are_followed(ground: &Ground) -> Result<()> {
    let operator = ground.registry()?;
    let mut watcher = ground.watch().await?;
    ensure!(*next(&mut watcher).await?.settings == ServiceSettings::default());
    let settings = ServiceSettings {
        panic_threshold: Some(0.5),
        lb: Some("p2c-ewma".to_owned()),
        subset: Some(25),
        ..ServiceSettings::default()
    };
    operator.set_settings(&ground.service, &settings).await?;
    ensure!(*next(&mut watcher).await?.settings == settings);
    let key = format!(
        "/registry-service/v1/{}/{}",
        ground.namespace(),
        ground.service
    );
    let value = r#"{"panic_threshold":0.5,"lb":"p2c-ewma","subset":25}"#;
    ensure!(ground.text(&key).await? == value);
    ground.delete(&key).await?;
    ensure!(*next(&mut watcher).await?.settings == ServiceSettings::default());
    Ok(())
}

async fn services_are_listed(ground: &Ground) -> Result<()> {
    let _stands = ground
        .register(1, &[Layout::Native, Layout::Kratos])
        .await?;
    let other = ServiceName::new(&format!("{}-other", ground.service))?;
    ground.put(&format!("/services/{other}/1"), "h:1").await?;
    let services = ground.registry()?.services().await?;
    let keys = |name: &ServiceName| {
        let found = services.iter().find(|info| info.name == *name);
        found.map(|info| info.keys)
    };
    ensure!(
        keys(&ground.service) == Some(2) && keys(&other) == Some(1),
        "{services:?}"
    );
    Ok(())
}

async fn slots_are_the_lowest_free_numbers(ground: &Ground) -> Result<()> {
    let registry = ground.registry()?;
    let mut slots = Vec::new();
    for (number, consumer) in ["a", "b", "c"].into_iter().enumerate() {
        let slot = registry.claim_slot(&ground.service, consumer);
        let mut held = slot.number();
        let held = held.wait_for(Option::is_some).await?.unwrap_or_default();
        ensure!(usize::try_from(held)? == number);
        slots.push(slot);
    }
    let expected = (0..)
        .zip(["a", "b", "c"])
        .map(|(slot, consumer)| Subscriber {
            slot,
            consumer: consumer.to_owned(),
        });
    ensure!(registry.subscribers(&ground.service).await? == expected.collect::<Vec<_>>());
    let key = format!(
        "/registry-client/v1/{}/{}/1",
        ground.namespace(),
        ground.service
    );
    ensure!(ground.text(&key).await? == "b");
    Ok(())
}

async fn a_slot_is_freed_by_dropping_it(ground: &Ground) -> Result<()> {
    let registry = ground.registry()?;
    let first = registry.claim_slot(&ground.service, "a");
    first.number().wait_for(Option::is_some).await?;
    drop(first);
    wait_until("the slot is free", PATIENCE, async || {
        let left = registry.subscribers(&ground.service).await.ok()?;
        left.is_empty().then_some(())
    })
    .await?;
    let second = registry.claim_slot(&ground.service, "b");
    ensure!(
        second
            .number()
            .wait_for(Option::is_some)
            .await
            .is_ok_and(|number| *number == Some(0))
    );
    Ok(())
}

async fn a_lost_slot_is_taken_again(ground: &Ground) -> Result<()> {
    let registry = ground.registry()?;
    let slot = registry.claim_slot(&ground.service, "a");
    slot.number().wait_for(Option::is_some).await?;
    let key = format!(
        "/registry-client/v1/{}/{}/0",
        ground.namespace(),
        ground.service
    );
    let lease = ground
        .get(&key)
        .await?
        .map(|kv| kv.lease)
        .unwrap_or_default();
    ground.kv.lease_revoke(lease).await?;
    wait_until("the slot is held again", PATIENCE, async || {
        let kv = ground.get(&key).await.ok()??;
        (kv.lease != lease).then_some(())
    })
    .await?;
    // A registration of the same process is not disturbed.
    let registration = registry
        .register(ground.instance(1), RegisterOptions::default())
        .await?;
    standing(&registration).await?;
    Ok(())
}
