//! Following a service.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Result, ensure};
use catena_client::{
    pb::TxnRequest,
    request::{self, Operation},
};
use catena_registry::{Discovery, Layout, Registry, RegistryOptions, ServiceName};
use futures_util::StreamExt;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::{
    cases,
    ground::{Case, Ground, PATIENCE, ensure_ids, instance, next, until_change, until_ids},
};

pub(crate) const CASES: &[Case] = cases![
    first_change_answers_at_once_even_if_empty,
    first_change_has_all_that_is,
    changes_say_what_came_changed_and_went,
    the_last_one_s_delete_is_obeyed,
    an_unchanged_instance_stays_the_same,
    a_value_written_again_says_nothing,
    one_transaction_is_one_change,
    a_prefix_is_exact,
    namespaces_are_apart,
    two_followers_share_what_is_known,
    a_slow_follower_sees_what_is,
    a_stream_of_changes_ends_with_the_registry,
    compaction_under_a_follower_loses_nothing,
    a_snapshot_after_compaction_is_whole,
    snapshots_answer_from_what_is_followed,
    a_random_walk_ends_where_the_store_is,
    a_thousand_instances_are_followed,
];

/// A key of the article's layout, which is quickly written by hand.
fn key(ground: &Ground, id: &str) -> String {
    format!("/services/{}/{id}", ground.service)
}

async fn first_change_answers_at_once_even_if_empty(ground: &Ground) -> Result<()> {
    let mut watcher = ground.watch().await?;
    let change = next(&mut watcher).await?;
    ensure!(change.all.is_empty() && change.synced && !change.stale && change.revision > 0);
    Ok(())
}

async fn first_change_has_all_that_is(ground: &Ground) -> Result<()> {
    for number in 1..=3 {
        ground
            .put(&key(ground, &number.to_string()), &format!("h:{number}"))
            .await?;
    }
    let mut watcher = ground.watch().await?;
    let change = next(&mut watcher).await?;
    ensure_ids(&change, &["1", "2", "3"])?;
    ensure!(change.added.len() == 3 && change.updated.is_empty() && change.removed.is_empty());
    Ok(())
}

async fn changes_say_what_came_changed_and_went(ground: &Ground) -> Result<()> {
    let mut watcher = ground.watch().await?;
    next(&mut watcher).await?;
    let revision = ground.put(&key(ground, "1"), "h:1").await?;
    let change = next(&mut watcher).await?;
    ensure!(
        change.added.len() == 1 && change.all.len() == 1,
        "{change:?}"
    );
    ensure!(change.revision >= revision && change.added[0].revision == revision);
    ground.put(&key(ground, "1"), "h:2").await?;
    let change = next(&mut watcher).await?;
    let (old, new) = &change.updated[0];
    let addresses = [old, new].map(|instance| instance.endpoints[0].address());
    ensure!(addresses == ["h:1", "h:2"] && change.added.is_empty());
    ground.delete(&key(ground, "1")).await?;
    let change = next(&mut watcher).await?;
    ensure!(change.removed.len() == 1 && change.all.is_empty() && !change.stale);
    Ok(())
}

async fn the_last_one_s_delete_is_obeyed(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &[Layout::Native]).await?;
    let mut watcher = ground.watch().await?;
    until_ids(&mut watcher, &["1"]).await?;
    registration.deregister().await?;
    let change = until_ids(&mut watcher, &[]).await?;
    ensure!(change.synced && !change.stale);
    Ok(())
}

async fn an_unchanged_instance_stays_the_same(ground: &Ground) -> Result<()> {
    ground.put(&key(ground, "1"), "h:1").await?;
    let mut watcher = ground.watch().await?;
    let before = next(&mut watcher).await?;
    ground.put(&key(ground, "2"), "h:2").await?;
    let after = next(&mut watcher).await?;
    ensure_ids(&after, &["1", "2"])?;
    ensure!(Arc::ptr_eq(&before.all[0], &after.all[0]));
    Ok(())
}

async fn a_value_written_again_says_nothing(ground: &Ground) -> Result<()> {
    ground.put(&key(ground, "1"), "h:1").await?;
    let mut watcher = ground.watch().await?;
    next(&mut watcher).await?;
    ground.put(&key(ground, "1"), "h:1").await?;
    ground.put(&key(ground, "2"), "h:2").await?;
    let change = next(&mut watcher).await?;
    ensure!(
        change.added.len() == 1 && change.updated.is_empty(),
        "{change:?}"
    );
    Ok(())
}

async fn one_transaction_is_one_change(ground: &Ground) -> Result<()> {
    let mut watcher = ground.watch().await?;
    next(&mut watcher).await?;
    let put =
        |number: u16| request::put(key(ground, &number.to_string()), format!("h:{number}")).op();
    ground
        .kv
        .txn(TxnRequest {
            success: (1..=50).map(put).collect(),
            ..TxnRequest::default()
        })
        .await?;
    let change = next(&mut watcher).await?;
    ensure!(change.added.len() == 50, "{}", change.added.len());
    Ok(())
}

async fn a_prefix_is_exact(ground: &Ground) -> Result<()> {
    let longer = ServiceName::new(&format!("{}-admin", ground.service))?;
    for layout in Layout::ALL {
        let other = instance(&longer, 1);
        let key = layout.key(ground.namespace(), &other, 7);
        ground.put(&key, &layout.value(&other)).await?;
    }
    let registry = ground.registry()?;
    ensure!(
        registry
            .instances(&ground.service)
            .await?
            .instances
            .is_empty()
    );
    ensure!(registry.instances(&longer).await?.instances.len() == 1);
    Ok(())
}

async fn namespaces_are_apart(ground: &Ground) -> Result<()> {
    let _here = ground.register(1, &[Layout::Native]).await?;
    let options = RegistryOptions {
        namespace: format!("{}-other", ground.namespace()),
        ..ground.options()
    };
    let other = Registry::new(ground.kv.clone(), options)?;
    ensure!(other.instances(&ground.service).await?.instances.is_empty());
    Ok(())
}

async fn two_followers_share_what_is_known(ground: &Ground) -> Result<()> {
    let registry = ground.registry()?;
    ground.put(&key(ground, "1"), "h:1").await?;
    let mut one = registry.watch(&ground.service).await?;
    let mut two = registry.watch(&ground.service).await?;
    let (first, second) = (next(&mut one).await?, next(&mut two).await?);
    ensure!(Arc::ptr_eq(&first.all, &second.all));
    ground.put(&key(ground, "2"), "h:2").await?;
    until_ids(&mut one, &["1", "2"]).await?;
    until_ids(&mut two, &["1", "2"]).await?;
    Ok(())
}

async fn a_slow_follower_sees_what_is(ground: &Ground) -> Result<()> {
    let registry = ground.registry()?;
    let mut slow = registry.watch(&ground.service).await?;
    let mut fast = registry.watch(&ground.service).await?;
    next(&mut slow).await?;
    for number in 1..=5 {
        ground
            .put(&key(ground, "1"), &format!("h:{number}"))
            .await?;
        until_change(&mut fast, "an address", |change| {
            change
                .all
                .first()
                .is_some_and(|one| one.endpoints[0].port == number)
        })
        .await?;
    }
    let change = next(&mut slow).await?;
    ensure!(change.added.len() == 1 && change.updated.is_empty());
    ensure!(change.all[0].endpoints[0].port == 5);
    Ok(())
}

async fn a_stream_of_changes_ends_with_the_registry(ground: &Ground) -> Result<()> {
    let registry = ground.registry()?;
    let changes = registry.watch(&ground.service).await?.into_stream();
    let mut changes = std::pin::pin!(changes);
    let first = changes.next().await;
    ensure!(first.is_some_and(|change| change.synced));
    registry.close().await;
    ensure!(changes.next().await.is_none());
    Ok(())
}

async fn compaction_under_a_follower_loses_nothing(ground: &Ground) -> Result<()> {
    let mut watcher = ground.watch().await?;
    next(&mut watcher).await?;
    for number in 1..=5 {
        ground
            .put(&key(ground, &number.to_string()), &format!("h:{number}"))
            .await?;
        ground.compact().await?;
    }
    until_ids(&mut watcher, &["1", "2", "3", "4", "5"]).await?;
    Ok(())
}

async fn a_snapshot_after_compaction_is_whole(ground: &Ground) -> Result<()> {
    ground.put(&key(ground, "1"), "h:1").await?;
    ground.put(&key(ground, "2"), "h:2").await?;
    ground.delete(&key(ground, "1")).await?;
    ground.compact().await?;
    let mut watcher = ground.watch().await?;
    ensure_ids(&next(&mut watcher).await?, &["2"])
}

async fn snapshots_answer_from_what_is_followed(ground: &Ground) -> Result<()> {
    let registry = ground.registry()?;
    let mut watcher = registry.watch(&ground.service).await?;
    ground.put(&key(ground, "1"), "h:1").await?;
    let change = until_ids(&mut watcher, &["1"]).await?;
    let snapshot = registry.instances(&ground.service).await?;
    ensure!(Arc::ptr_eq(&snapshot.instances, &change.all));
    Ok(())
}

/// What a follower holds at rest is what stands in the store.
async fn a_random_walk_ends_where_the_store_is(ground: &Ground) -> Result<()> {
    const STEPS: u32 = 150;
    let seed = rand::random();
    println!("{}: seed {seed}", ground.service);
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut watcher = ground.watch().await?;
    let mut expected = BTreeMap::new();
    for step in 0..STEPS {
        let id = rng.random_range(0..10).to_string();
        match rng.random_range(0..10) {
            0..6 => {
                let address = format!("h:{}", 1000 + step);
                ground.put(&key(ground, &id), &address).await?;
                expected.insert(id, address);
            }
            6..9 => {
                ground.delete(&key(ground, &id)).await?;
                expected.remove(&id);
            }
            _ => {
                ground.compact().await?;
            }
        }
    }
    // One more, so that there is something to wait for.
    ground.put(&key(ground, "end"), "h:1").await?;
    expected.insert("end".to_owned(), "h:1".to_owned());
    until_change(&mut watcher, "what stands", |change| {
        let known = change.all.iter();
        let known = known.map(|one| (one.id.clone(), one.endpoints[0].address()));
        known.collect::<BTreeMap<_, _>>() == expected
    })
    .await?;
    Ok(())
}

async fn a_thousand_instances_are_followed(ground: &Ground) -> Result<()> {
    const INSTANCES: u16 = 1000;
    // etcd takes 128 operations in a transaction.
    const AT_ONCE: usize = 100;
    let mut watcher = ground.watch().await?;
    let numbers: Vec<u16> = (0..INSTANCES).collect();
    for numbers in numbers.chunks(AT_ONCE) {
        let put = |number: &u16| {
            let instance = ground.instance(*number);
            request::put(ground.native(*number), Layout::Native.value(&instance)).op()
        };
        let success = numbers.iter().map(put).collect();
        ground
            .kv
            .txn(TxnRequest {
                success,
                ..TxnRequest::default()
            })
            .await?;
    }
    let all = |change: &catena_registry::Change| change.all.len() == usize::from(INSTANCES);
    until_change(&mut watcher, "all", all).await?;
    let began = tokio::time::Instant::now();
    ground.delete(&ground.native(7)).await?;
    let change = next(&mut watcher).await?;
    println!(
        "a change of a thousand instances was seen after {:?}",
        began.elapsed()
    );
    ensure!(change.removed.len() == 1 && began.elapsed() < PATIENCE);
    Ok(())
}
