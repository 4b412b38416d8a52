//! A registration stands, and comes back.

use anyhow::{Result, ensure};
use catena_registry::{
    Discovery, Error, Layout, RegState, RegisterOptions, Registrar, ServiceName, Status, Ulid,
};
use std::time::Duration;

use crate::{
    cases,
    ground::{Case, Ground, instance, next, standing, until, until_ids},
};

pub(crate) const CASES: &[Case] = cases![
    it_stands_on_its_lease,
    it_is_filled_in,
    two_have_two_leases,
    deregistered_leaves_nothing,
    dropped_leaves_nothing,
    closed_registry_leaves_nothing,
    update_is_written,
    update_keeps_who_it_is,
    update_that_cannot_be_written_is_refused,
    draining_is_seen,
    a_lease_outlives_its_ttl,
    key_deleted_by_hand_is_back,
    key_written_by_hand_is_put_right,
    key_without_its_lease_is_put_back_on_it,
    revoked_lease_is_replaced,
    all_keys_deleted_at_once_are_back,
    bad_names_are_refused,
    bad_instances_are_refused,
    a_registry_of_a_bad_name_is_refused,
    a_hundred_of_one_process_stand,
    readiness_and_metrics_tell,
];

async fn it_stands_on_its_lease(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &[Layout::Native]).await?;
    let (lease, revision) = standing(&registration).await?;
    let kv = ground.get(&ground.native(1)).await?.expect("it stands");
    ensure!((kv.lease, kv.mod_revision) == (lease, revision), "{kv:?}");
    let ttl = ground.ttl(lease).await?;
    ensure!((1..=10).contains(&ttl), "{ttl}");
    let written = Layout::Native.value(&registration.instance());
    ensure!(kv.value == written, "{kv:?}");
    Ok(())
}

async fn it_is_filled_in(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &[Layout::Native]).await?;
    let instance = registration.instance();
    ensure!(instance.epoch != Ulid::NIL && instance.registered_at_ms > 0);
    let snapshot = ground.registry()?.instances(&ground.service).await?;
    ensure!(snapshot.instances.len() == 1 && snapshot.synced && !snapshot.stale);
    let seen = &snapshot.instances[0];
    ensure!(
        seen.same_for_callers(&instance) && seen.revision > 0,
        "{seen:?}"
    );
    Ok(())
}

async fn two_have_two_leases(ground: &Ground) -> Result<()> {
    let registry = ground.registry()?;
    let options = RegisterOptions::default();
    let one = registry
        .register(ground.instance(1), options.clone())
        .await?;
    let two = registry.register(ground.instance(2), options).await?;
    ensure!(standing(&one).await?.0 != standing(&two).await?.0);
    one.deregister().await?;
    ensure!(ground.get(&ground.native(1)).await?.is_none());
    ensure!(ground.get(&ground.native(2)).await?.is_some());
    Ok(())
}

async fn deregistered_leaves_nothing(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &Layout::ALL).await?;
    let (lease, _) = standing(&registration).await?;
    let mut state = registration.state();
    registration.deregister().await?;
    for layout in Layout::ALL {
        let key = ground.key(layout, 1, lease);
        ensure!(ground.get(&key).await?.is_none(), "{key}");
    }
    ensure!(ground.ttl(lease).await? == -1);
    let over = state
        .wait_for(|state| *state == RegState::Deregistered)
        .await;
    ensure!(over.is_ok());
    Ok(())
}

async fn dropped_leaves_nothing(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &[Layout::Native]).await?;
    let (lease, _) = standing(&registration).await?;
    // The process goes on and has another one.
    let _registry = ground.registry()?;
    drop(registration);
    ground.until_key(&ground.native(1), false).await?;
    ensure!(ground.ttl(lease).await? == -1);
    Ok(())
}

async fn closed_registry_leaves_nothing(ground: &Ground) -> Result<()> {
    let registry = ground.registry()?;
    let one = registry
        .register(ground.instance(1), RegisterOptions::default())
        .await?;
    standing(&one).await?;
    let mut watcher = registry.watch(&ground.service).await?;
    next(&mut watcher).await?;
    registry.close().await;
    ensure!(ground.get(&ground.native(1)).await?.is_none());
    let mut state = one.state();
    state
        .wait_for(|state| *state == RegState::Deregistered)
        .await?;
    let ended = loop {
        if let Err(error) = watcher.next().await {
            break error;
        }
    };
    ensure!(ended == Error::Closed, "{ended}");
    ensure!(one.update(|_| {}).await == Err(Error::Closed));
    Ok(())
}

async fn update_is_written(ground: &Ground) -> Result<()> {
    let registration = ground
        .register(1, &[Layout::Native, Layout::Kratos])
        .await?;
    let (lease, _) = standing(&registration).await?;
    registration
        .update(|instance| {
            instance.weight = 7;
            instance
                .metadata
                .insert("color".to_owned(), "green".to_owned());
        })
        .await?;
    for layout in [Layout::Native, Layout::Kratos] {
        let kv = ground
            .get(&ground.key(layout, 1, 0))
            .await?
            .expect("it stands");
        ensure!(kv.value == layout.value(&registration.instance()), "{kv:?}");
        ensure!(kv.lease == lease);
    }
    Ok(())
}

async fn update_keeps_who_it_is(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &[Layout::Native]).await?;
    let before = registration.instance();
    registration
        .update(|instance| {
            instance.id = "other".to_owned();
            instance.service = ServiceName::new("other").expect("a name");
            instance.epoch = Ulid::generate();
        })
        .await?;
    ensure!(registration.instance() == before);
    Ok(())
}

async fn update_that_cannot_be_written_is_refused(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &[Layout::Native]).await?;
    let before = ground.text(&ground.native(1)).await?;
    let refused = registration
        .update(|instance| instance.endpoints.clear())
        .await;
    ensure!(refused.is_err_and(|error| error.reason() == "BAD_INSTANCE"));
    ensure!(ground.text(&ground.native(1)).await? == before);
    ensure!(registration.instance().endpoints.len() == 1);
    Ok(())
}

async fn draining_is_seen(ground: &Ground) -> Result<()> {
    let mut watcher = ground.watch().await?;
    let registration = ground.register(1, &[Layout::Native]).await?;
    until_ids(&mut watcher, &["1"]).await?;
    registration.drain(Duration::ZERO).await?;
    ensure!(*registration.state().borrow() == RegState::Draining);
    let change = next(&mut watcher).await?;
    ensure!(change.updated.len() == 1, "{change:?}");
    ensure!(change.updated[0].1.status == Status::Draining);
    registration.deregister().await?;
    until_ids(&mut watcher, &[]).await?;
    Ok(())
}

async fn a_lease_outlives_its_ttl(ground: &Ground) -> Result<()> {
    let options = RegisterOptions {
        ttl: Duration::from_secs(1),
        ..RegisterOptions::default()
    };
    let registration = ground
        .registry()?
        .register(ground.instance(1), options)
        .await?;
    let before = standing(&registration).await?;
    let granted = ground.ttl(before.0).await?;
    let long = Duration::from_secs(u64::try_from(granted)? + 2);
    tokio::time::sleep(long).await;
    ensure!(standing(&registration).await? == before);
    ensure!(ground.get(&ground.native(1)).await?.is_some());
    Ok(())
}

async fn key_deleted_by_hand_is_back(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &[Layout::Native]).await?;
    let (lease, revision) = standing(&registration).await?;
    ground.delete(&ground.native(1)).await?;
    ground.until_key(&ground.native(1), true).await?;
    let kv = ground.get(&ground.native(1)).await?.expect("it stands");
    ensure!(kv.lease == lease && kv.mod_revision > revision, "{kv:?}");
    until(&registration, "at the new revision", |state| {
        matches!(state, RegState::Registered { revision, .. } if *revision == kv.mod_revision)
    })
    .await?;
    Ok(())
}

async fn key_written_by_hand_is_put_right(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &[Layout::Native]).await?;
    let (key, value) = (
        ground.native(1),
        Layout::Native.value(&registration.instance()),
    );
    let other = value.replace("\"weight\":100", "\"weight\":1");
    ensure!(other != value);
    ground.put(&key, &other).await?;
    framework::wait_until(
        "the value is put right",
        crate::ground::PATIENCE,
        async || (ground.text(&key).await.ok()? == value).then_some(()),
    )
    .await
}

async fn key_without_its_lease_is_put_back_on_it(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &[Layout::Native]).await?;
    let (lease, _) = standing(&registration).await?;
    let key = ground.native(1);
    let value = ground.text(&key).await?;
    ground.put(&key, &value).await?;
    framework::wait_until(
        "the key is on its lease",
        crate::ground::PATIENCE,
        async || (ground.get(&key).await.ok()??.lease == lease).then_some(()),
    )
    .await
}

async fn revoked_lease_is_replaced(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &[Layout::Native]).await?;
    let (lease, _) = standing(&registration).await?;
    ground.kv.lease_revoke(lease).await?;
    until(
        &registration,
        "on another lease",
        |state| matches!(state, RegState::Registered { lease: now, .. } if *now != lease),
    )
    .await?;
    let (now, _) = standing(&registration).await?;
    let kv = ground.get(&ground.native(1)).await?.expect("it stands");
    ensure!(kv.lease == now);
    Ok(())
}

async fn all_keys_deleted_at_once_are_back(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &Layout::ALL).await?;
    let (lease, _) = standing(&registration).await?;
    for layout in Layout::ALL {
        ground.delete(&ground.key(layout, 1, lease)).await?;
    }
    for layout in Layout::ALL {
        ground
            .until_key(&ground.key(layout, 1, lease), true)
            .await?;
    }
    ensure!(standing(&registration).await?.0 == lease);
    Ok(())
}

async fn bad_names_are_refused(ground: &Ground) -> Result<()> {
    let registry = ground.registry()?;
    for id in ["", "A", "a/b", "-a", "a-", "ä"] {
        let mut instance = ground.instance(1);
        instance.id = id.to_owned();
        let refused = registry
            .register(instance, RegisterOptions::default())
            .await;
        ensure!(
            refused.is_err_and(|error| error.reason() == "BAD_NAME"),
            "{id}"
        );
        ensure!(ServiceName::new(id).is_err());
    }
    Ok(())
}

async fn bad_instances_are_refused(ground: &Ground) -> Result<()> {
    let registry = ground.registry()?;
    let mut nowhere = ground.instance(1);
    nowhere.endpoints.clear();
    let mut heavy = ground.instance(1);
    heavy.weight = 10_001;
    let none = RegisterOptions {
        layouts: Vec::new(),
        ..RegisterOptions::default()
    };
    for (instance, options) in [
        (nowhere, RegisterOptions::default()),
        (heavy, RegisterOptions::default()),
        (ground.instance(1), none),
    ] {
        let refused = registry.register(instance, options).await;
        ensure!(refused.is_err_and(|error| error.reason() == "BAD_INSTANCE"));
    }
    ensure!(ground.get(&ground.native(1)).await?.is_none());
    Ok(())
}

async fn a_registry_of_a_bad_name_is_refused(ground: &Ground) -> Result<()> {
    let options = catena_registry::RegistryOptions {
        namespace: "a/b".to_owned(),
        ..ground.options()
    };
    let refused = catena_registry::Registry::new(ground.kv.clone(), options);
    ensure!(refused.is_err_and(|error| error.reason() == "BAD_NAME"));
    Ok(())
}

async fn a_hundred_of_one_process_stand(ground: &Ground) -> Result<()> {
    let registry = ground.registry()?;
    let mut watcher = ground.watch().await?;
    let register = async |number| {
        registry
            .register(
                instance(&ground.service, number),
                RegisterOptions::default(),
            )
            .await
    };
    let all = futures_util::future::join_all((0..100).map(register)).await;
    let all = all.into_iter().collect::<Result<Vec<_>, _>>()?;
    for registration in &all {
        standing(registration).await?;
    }
    crate::ground::until_change(&mut watcher, "all", |change| change.all.len() == 100).await?;
    registry.close().await;
    crate::ground::until_change(&mut watcher, "none", |change| change.all.is_empty()).await?;
    Ok(())
}

async fn readiness_and_metrics_tell(ground: &Ground) -> Result<()> {
    let registry = ground.registry()?;
    ensure!(registry.readiness().is_ready());
    let registration = registry
        .register(ground.instance(1), RegisterOptions::default())
        .await?;
    standing(&registration).await?;
    registry.instances(&ground.service).await?;
    ensure!(registry.readiness().is_ready() && registry.is_store_up());
    let mut metrics = String::new();
    registry.write_metrics(&mut metrics);
    let service = &ground.service;
    for line in [
        format!(
            "catena_registration_state{{service=\"{service}\",id=\"1\",state=\"registered\"}} 1"
        ),
        "catena_registration_losses_total 0".to_owned(),
        "catena_registry_store_up 1".to_owned(),
        format!("catena_discovery_instances{{service=\"{service}\"}} 1"),
        format!("catena_discovery_stale{{service=\"{service}\"}} 0"),
    ] {
        ensure!(
            metrics.lines().any(|had| had == line),
            "{line} in\n{metrics}"
        );
    }
    // Another process is refused the name and is not ready.
    let other = ground.registry()?;
    let waiting = other
        .register(ground.instance(1), RegisterOptions::default())
        .await?;
    let conflict = |state: &RegState| matches!(state, RegState::Conflict { .. });
    until(&waiting, "in conflict", conflict).await?;
    ensure!(!other.readiness().is_ready());
    Ok(())
}
