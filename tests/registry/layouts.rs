//! Layouts, written and read in any mix.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use catena_registry::{Discovery, Layout, RegState, RegisterOptions, Registrar, Status};

use crate::{
    cases,
    ground::{Case, Ground, ids, next, standing, until, until_change, until_ids},
};

pub(crate) const CASES: &[Case] = cases![
    all_are_written_at_one_revision_on_one_lease,
    values_are_exact,
    each_alone_is_found,
    all_of_one_instance_are_one,
    a_mix_of_instances_is_whole,
    go_zero_moves_with_the_lease,
    draining_takes_the_keys_of_the_others,
    starting_has_no_key_of_the_others,
    kratos_by_hand_is_found,
    go_zero_by_hand_is_found,
    grpc_naming_by_hand_is_found,
    the_article_by_hand_is_found,
    native_by_hand_is_found,
    what_cannot_be_read_is_left_out_and_counted,
];

async fn all_are_written_at_one_revision_on_one_lease(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &Layout::ALL).await?;
    let (lease, revision) = standing(&registration).await?;
    for layout in Layout::ALL {
        let key = ground.key(layout, 1, lease);
        let kv = ground.get(&key).await?.with_context(|| key.clone())?;
        ensure!(
            (kv.lease, kv.mod_revision) == (lease, revision),
            "{key}: {kv:?}"
        );
    }
    Ok(())
}

async fn values_are_exact(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &Layout::ALL).await?;
    let (lease, _) = standing(&registration).await?;
    let name = &ground.service;
    let expected = [
        (
            format!("/microservices/{name}/1"),
            format!(
                r#"{{"id":"1","name":"{name}","version":"","metadata":null,"endpoints":["grpc://10.0.0.1:50051"]}}"#
            ),
        ),
        (
            format!("{name}/10.0.0.1:50051"),
            r#"{"Op":0,"Addr":"10.0.0.1:50051","Metadata":null}"#.to_owned(),
        ),
        (format!("{name}/{lease}"), "10.0.0.1:50051".to_owned()),
        (format!("/services/{name}/1"), "10.0.0.1:50051".to_owned()),
    ];
    for (key, value) in expected {
        ensure!(ground.text(&key).await? == value, "{key}");
    }
    Ok(())
}

async fn each_alone_is_found(ground: &Ground) -> Result<()> {
    let mut watcher = ground.watch().await?;
    for layout in Layout::ALL {
        let registration = ground.register(1, &[layout]).await?;
        let one = |change: &catena_registry::Change| change.all.len() == 1;
        let change = until_change(&mut watcher, layout.as_str(), one).await?;
        let endpoints = &change.all[0].endpoints;
        ensure!(
            endpoints
                .iter()
                .any(|endpoint| endpoint.to_string() == "grpc://10.0.0.1:50051")
        );
        registration.deregister().await?;
        until_ids(&mut watcher, &[]).await?;
    }
    Ok(())
}

async fn all_of_one_instance_are_one(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &Layout::ALL).await?;
    let snapshot = ground.registry()?.instances(&ground.service).await?;
    ensure!(snapshot.instances.len() == 1, "{snapshot:?}");
    ensure!(snapshot.instances[0].same_for_callers(&registration.instance()));
    Ok(())
}

async fn a_mix_of_instances_is_whole(ground: &Ground) -> Result<()> {
    let mut registrations = Vec::new();
    for (number, layout) in (1..).zip(Layout::ALL) {
        registrations.push(ground.register(number, &[layout]).await?);
    }
    registrations.push(
        ground
            .register(6, &[Layout::Article, Layout::GoZero])
            .await?,
    );
    let snapshot = ground.registry()?.instances(&ground.service).await?;
    let addresses: BTreeSet<_> = snapshot
        .instances
        .iter()
        .map(|instance| instance.endpoints[0].address())
        .collect();
    let expected: BTreeSet<_> = (1..=6)
        .map(|number| format!("10.0.0.{number}:50051"))
        .collect();
    ensure!(
        addresses == expected && snapshot.instances.len() == 6,
        "{snapshot:?}"
    );
    Ok(())
}

async fn go_zero_moves_with_the_lease(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &[Layout::GoZero]).await?;
    let (lease, _) = standing(&registration).await?;
    ground.kv.lease_revoke(lease).await?;
    let state = until(
        &registration,
        "on another lease",
        |state| matches!(state, RegState::Registered { lease: now, .. } if *now != lease),
    )
    .await?;
    let RegState::Registered { lease: now, .. } = state else {
        anyhow::bail!("{state:?}");
    };
    ensure!(
        ground
            .get(&ground.key(Layout::GoZero, 1, now))
            .await?
            .is_some()
    );
    ensure!(
        ground
            .get(&ground.key(Layout::GoZero, 1, lease))
            .await?
            .is_none()
    );
    Ok(())
}

async fn draining_takes_the_keys_of_the_others(ground: &Ground) -> Result<()> {
    let registration = ground.register(1, &Layout::ALL).await?;
    let (lease, _) = standing(&registration).await?;
    registration.drain(std::time::Duration::ZERO).await?;
    for layout in Layout::ALL {
        let stands = ground.get(&ground.key(layout, 1, lease)).await?.is_some();
        ensure!(stands == (layout == Layout::Native), "{layout:?}");
    }
    let snapshot = ground.registry()?.instances(&ground.service).await?;
    ensure!(snapshot.instances.len() == 1);
    ensure!(snapshot.instances[0].status == Status::Draining);
    Ok(())
}

async fn starting_has_no_key_of_the_others(ground: &Ground) -> Result<()> {
    let mut starting = ground.instance(1);
    starting.status = Status::Starting;
    let options = RegisterOptions {
        layouts: vec![Layout::Native, Layout::Kratos],
        ..RegisterOptions::default()
    };
    let registration = ground.registry()?.register(starting, options).await?;
    standing(&registration).await?;
    let kratos = ground.key(Layout::Kratos, 1, 0);
    ensure!(ground.get(&ground.native(1)).await?.is_some());
    ensure!(ground.get(&kratos).await?.is_none());
    registration
        .update(|instance| instance.status = Status::Up)
        .await?;
    ensure!(ground.get(&kratos).await?.is_some());
    Ok(())
}

async fn kratos_by_hand_is_found(ground: &Ground) -> Result<()> {
    let mut watcher = ground.watch().await?;
    let name = &ground.service;
    let value = format!(
        r#"{{"id":"Host-7","name":"{name}","version":"v2","metadata":{{"weight":"30","k":"\u003cv\u003e"}},"endpoints":["http://10.1.1.1:8000?isSecure=false","grpcs://10.1.1.1:9000"]}}"#
    );
    ground
        .put(&format!("/microservices/{name}/Host-7"), &value)
        .await?;
    let change = until_ids(&mut watcher, &["Host-7"]).await?;
    let instance = &change.all[0];
    ensure!((instance.weight, instance.version.as_str()) == (30, "v2"));
    ensure!(instance.metadata["k"] == "<v>" && instance.metadata.len() == 1);
    let endpoints: Vec<_> = instance.endpoints.iter().map(ToString::to_string).collect();
    ensure!(endpoints == ["http://10.1.1.1:8000", "grpcs://10.1.1.1:9000"]);
    Ok(())
}

async fn go_zero_by_hand_is_found(ground: &Ground) -> Result<()> {
    let mut watcher = ground.watch().await?;
    let key = format!("{}/7587862094724130561", ground.service);
    ground.put(&key, "10.1.1.1:8080").await?;
    let change = until_ids(&mut watcher, &["7587862094724130561"]).await?;
    ensure!(change.all[0].endpoints[0].to_string() == "grpc://10.1.1.1:8080");
    Ok(())
}

async fn grpc_naming_by_hand_is_found(ground: &Ground) -> Result<()> {
    let mut watcher = ground.watch().await?;
    let key = format!("{}/10.1.1.1:50051", ground.service);
    ground
        .put(
            &key,
            r#"{"Op":0,"Addr":"10.1.1.1:50051","Metadata":{"zone":"a"}}"#,
        )
        .await?;
    let change = until_ids(&mut watcher, &["10.1.1.1:50051"]).await?;
    ensure!(change.all[0].metadata["zone"] == "a");
    Ok(())
}

async fn the_article_by_hand_is_found(ground: &Ground) -> Result<()> {
    let mut watcher = ground.watch().await?;
    let key = format!("/services/{}/1", ground.service);
    ground.put(&key, "192.168.1.100:8080").await?;
    let change = until_ids(&mut watcher, &["1"]).await?;
    ensure!(change.all[0].endpoints[0].address() == "192.168.1.100:8080");
    Ok(())
}

async fn native_by_hand_is_found(ground: &Ground) -> Result<()> {
    let mut watcher = ground.watch().await?;
    let name = &ground.service;
    let value = format!(r#"{{"v":1,"id":"1","service":"{name}","endpoints":["http://h:1"]}}"#);
    ground.put(&ground.native(1), &value).await?;
    let change = until_ids(&mut watcher, &["1"]).await?;
    let instance = &change.all[0];
    ensure!(instance.is_callable() && instance.weight == 100 && instance.revision > 0);
    Ok(())
}

async fn what_cannot_be_read_is_left_out_and_counted(ground: &Ground) -> Result<()> {
    let name = &ground.service;
    for key in [
        ground.native(1),
        format!("/microservices/{name}/1"),
        format!("{name}/1"),
        format!("/services/{name}/1"),
    ] {
        ground.put(&key, "{nonsense").await?;
    }
    let _stands = ground.register(2, &[Layout::Native]).await?;
    let registry = ground.registry()?;
    let snapshot = registry.instances(name).await?;
    ensure!(
        snapshot.skipped == 4 && snapshot.instances.len() == 1,
        "{snapshot:?}"
    );
    let mut metrics = String::new();
    registry.write_metrics(&mut metrics);
    let line = format!("catena_discovery_skipped_values{{service=\"{name}\"}} 4");
    ensure!(metrics.contains(&line), "{metrics}");
    // It counts as soon as it can be read.
    let mut watcher = registry.watch(name).await?;
    next(&mut watcher).await?;
    ground
        .put(&format!("/services/{name}/1"), "10.0.0.9:80")
        .await?;
    let change = next(&mut watcher).await?;
    ensure!(ids(&change) == ["1", "2"], "{change:?}");
    Ok(())
}
