//! A process that cannot reach the store, while the store lives on.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use catena_registry::{
    Discovery, Layout, RegState, RegisterOptions, Registrar, Registration, Registry,
    RegistryOptions,
};
use framework::wait_until;

use crate::{
    cases,
    ground::{
        Case, Ground, PATIENCE, SHORT_TTL, ensure_ids, ids, next, standing, until, until_change,
        until_ids,
    },
    switch::Switch,
};

pub(crate) const CASES: &[Case] = cases![
    a_short_cut_costs_nothing,
    a_cut_longer_than_the_ttl_is_healed,
    readiness_turns_red_and_green_again,
    an_update_while_cut_is_written_afterwards,
    deregistering_while_cut_says_so,
    what_was_known_is_kept_and_marked,
    what_was_deleted_meanwhile_is_gone_afterwards,
    what_was_compacted_meanwhile_is_read_anew_in_one_change,
    a_start_without_the_store_goes_on_by_itself,
    a_start_without_the_store_recalls_the_file,
    the_file_counts_only_without_the_store,
];

/// A process behind a switch.
struct Process {
    switch: Arc<Switch>,
    registry: Registry,
}

impl Process {
    fn new(ground: &Ground, options: RegistryOptions) -> Result<Self> {
        let switch = Switch::new(ground.kv.clone());
        let registry = Registry::new(switch.clone(), options)?;
        Ok(Self { switch, registry })
    }

    async fn register(&self, ground: &Ground) -> Result<Registration> {
        let options = RegisterOptions {
            ttl: SHORT_TTL,
            ..RegisterOptions::default()
        };
        Ok(self.registry.register(ground.instance(1), options).await?)
    }
}

fn is_lost(state: &RegState) -> bool {
    matches!(state, RegState::Lost { .. })
}

async fn a_short_cut_costs_nothing(ground: &Ground) -> Result<()> {
    let process = Process::new(ground, ground.options())?;
    let registration = process
        .registry
        .register(ground.instance(1), RegisterOptions::default())
        .await?;
    let (lease, _) = standing(&registration).await?;
    let mut watcher = process.registry.watch(&ground.service).await?;
    until_ids(&mut watcher, &["1"]).await?;
    process.switch.cut();
    process.switch.join(ground.kv.clone());
    ground
        .put(&format!("/services/{}/2", ground.service), "h:2")
        .await?;
    until_ids(&mut watcher, &["1", "2"]).await?;
    ensure!(standing(&registration).await?.0 == lease);
    Ok(())
}

async fn a_cut_longer_than_the_ttl_is_healed(ground: &Ground) -> Result<()> {
    let process = Process::new(ground, ground.options())?;
    let registration = process.register(ground).await?;
    let (lease, _) = standing(&registration).await?;
    process.switch.cut();
    until(&registration, "lost", is_lost).await?;
    ground.until_key(&ground.native(1), false).await?;
    process.switch.join(ground.kv.clone());
    let (now, _) = standing(&registration).await?;
    let kv = ground.get(&ground.native(1)).await?.expect("it stands");
    ensure!(now != lease && kv.lease == now);
    Ok(())
}

async fn readiness_turns_red_and_green_again(ground: &Ground) -> Result<()> {
    let process = Process::new(ground, ground.options())?;
    let registration = process.register(ground).await?;
    standing(&registration).await?;
    process.switch.cut();
    let readiness = || process.registry.readiness();
    wait_until("it is not ready", PATIENCE, async || {
        (!readiness().is_ready()).then_some(())
    })
    .await?;
    ensure!(readiness().reasons[0].contains(ground.service.as_str()));
    wait_until("the store is down", PATIENCE, async || {
        (!process.registry.is_store_up()).then_some(())
    })
    .await?;
    let mut metrics = String::new();
    process.registry.write_metrics(&mut metrics);
    ensure!(
        metrics.contains("catena_registration_losses_total 1"),
        "{metrics}"
    );
    ensure!(metrics.contains("catena_registry_store_up 0"), "{metrics}");
    process.switch.join(ground.kv.clone());
    wait_until("it is ready", PATIENCE, async || {
        (readiness().is_ready() && process.registry.is_store_up()).then_some(())
    })
    .await
}

async fn an_update_while_cut_is_written_afterwards(ground: &Ground) -> Result<()> {
    let process = Process::new(ground, ground.options())?;
    let registration = process.register(ground).await?;
    standing(&registration).await?;
    process.switch.cut();
    until(&registration, "lost", is_lost).await?;
    registration.update(|instance| instance.weight = 5).await?;
    process.switch.join(ground.kv.clone());
    standing(&registration).await?;
    ensure!(
        ground
            .text(&ground.native(1))
            .await?
            .contains("\"weight\":5")
    );
    Ok(())
}

async fn deregistering_while_cut_says_so(ground: &Ground) -> Result<()> {
    let process = Process::new(ground, ground.options())?;
    let registration = process.register(ground).await?;
    standing(&registration).await?;
    process.switch.cut();
    let refused = registration.deregister().await;
    ensure!(refused.is_err_and(|error| error.reason() == "STORE_UNAVAILABLE"));
    // The lease runs out.
    ground.until_key(&ground.native(1), false).await
}

async fn what_was_known_is_kept_and_marked(ground: &Ground) -> Result<()> {
    let _stands = ground.register(1, &[Layout::Native]).await?;
    let process = Process::new(ground, ground.options())?;
    let mut watcher = process.registry.watch(&ground.service).await?;
    let before = next(&mut watcher).await?;
    process.switch.cut();
    let stale = next(&mut watcher).await?;
    ensure!(
        stale.stale && stale.synced && Arc::ptr_eq(&stale.all, &before.all),
        "{stale:?}"
    );
    let snapshot = process.registry.instances(&ground.service).await?;
    ensure!(snapshot.stale && snapshot.instances.len() == 1);
    process.switch.join(ground.kv.clone());
    let fresh = next(&mut watcher).await?;
    ensure!(
        !fresh.stale && Arc::ptr_eq(&fresh.all, &before.all),
        "{fresh:?}"
    );
    Ok(())
}

async fn what_was_deleted_meanwhile_is_gone_afterwards(ground: &Ground) -> Result<()> {
    let key = |id: &str| format!("/services/{}/{id}", ground.service);
    ground.put(&key("1"), "h:1").await?;
    ground.put(&key("2"), "h:2").await?;
    let process = Process::new(ground, ground.options())?;
    let mut watcher = process.registry.watch(&ground.service).await?;
    ensure_ids(&next(&mut watcher).await?, &["1", "2"])?;
    process.switch.cut();
    ground.delete(&key("1")).await?;
    process.switch.join(ground.kv.clone());
    let change = until_ids(&mut watcher, &["2"]).await?;
    ensure!(!change.stale && change.removed.len() == 1);
    Ok(())
}

async fn what_was_compacted_meanwhile_is_read_anew_in_one_change(ground: &Ground) -> Result<()> {
    let key = |id: &str| format!("/services/{}/{id}", ground.service);
    ground.put(&key("1"), "h:1").await?;
    ground.put(&key("2"), "h:2").await?;
    let process = Process::new(ground, ground.options())?;
    let mut watcher = process.registry.watch(&ground.service).await?;
    ensure_ids(&next(&mut watcher).await?, &["1", "2"])?;
    process.switch.cut();
    ground.delete(&key("1")).await?;
    ground.delete(&key("2")).await?;
    ground.put(&key("3"), "h:3").await?;
    ground.compact().await?;
    process.switch.join(ground.kv.clone());
    let change = until_change(&mut watcher, "something else", |change| {
        ids(change) != ["1", "2"]
    })
    .await?;
    ensure_ids(&change, &["3"])?;
    ensure!((change.added.len(), change.removed.len()) == (1, 2));
    Ok(())
}

async fn a_start_without_the_store_goes_on_by_itself(ground: &Ground) -> Result<()> {
    let options = RegistryOptions {
        start_wait: Duration::from_millis(200),
        ..ground.options()
    };
    let process = Process::new(ground, options)?;
    process.switch.cut();
    let registration = process.register(ground).await?;
    let waits = matches!(
        &*registration.state().borrow(),
        RegState::Registering {
            last_error: Some(_),
            ..
        }
    );
    ensure!(waits);
    let mut watcher = process.registry.watch(&ground.service).await?;
    let unknown = next(&mut watcher).await?;
    ensure!(!unknown.synced && unknown.stale && unknown.all.is_empty());
    ensure!(!process.registry.instances(&ground.service).await?.synced);
    process.switch.join(ground.kv.clone());
    standing(&registration).await?;
    let change = until_ids(&mut watcher, &["1"]).await?;
    ensure!(change.synced && !change.stale);
    Ok(())
}

async fn a_start_without_the_store_recalls_the_file(ground: &Ground) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = RegistryOptions {
        cold_file: Some(dir.path().join("known.json")),
        ..ground.options()
    };
    let stands = ground.register(1, &[Layout::Native]).await?;
    let former = Process::new(ground, options.clone())?;
    ensure!(
        former
            .registry
            .instances(&ground.service)
            .await?
            .instances
            .len()
            == 1
    );
    former.registry.close().await;
    drop(former);
    let process = Process::new(ground, options)?;
    process.switch.cut();
    let mut watcher = process.registry.watch(&ground.service).await?;
    let recalled = next(&mut watcher).await?;
    ensure!(
        !recalled.synced && recalled.stale && recalled.all.len() == 1,
        "{recalled:?}"
    );
    ensure!(recalled.all[0].epoch == stands.instance().epoch);
    let snapshot = process.registry.instances(&ground.service).await?;
    ensure!(!snapshot.synced && snapshot.instances.len() == 1);
    process.switch.join(ground.kv.clone());
    until_change(&mut watcher, "what the store knows", |change| {
        change.synced && change.all.len() == 1
    })
    .await?;
    Ok(())
}

async fn the_file_counts_only_without_the_store(ground: &Ground) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = RegistryOptions {
        cold_file: Some(dir.path().join("known.json")),
        ..ground.options()
    };
    let key = format!("/services/{}/1", ground.service);
    ground.put(&key, "h:1").await?;
    let former = Process::new(ground, options.clone())?;
    ensure!(
        former
            .registry
            .instances(&ground.service)
            .await?
            .instances
            .len()
            == 1
    );
    former.registry.close().await;
    drop(former);
    ground.delete(&key).await?;
    let process = Process::new(ground, options)?;
    let mut watcher = process.registry.watch(&ground.service).await?;
    let change = next(&mut watcher).await?;
    ensure!(change.synced && change.all.is_empty(), "{change:?}");
    Ok(())
}
