//! Two who want one name.

use anyhow::{Context, Result, ensure};
use catena_client::{pb::PutRequest, request};
use catena_registry::{
    Error, Layout, OnConflict, RegState, RegisterOptions, Registrar, Registration, Status,
};

use crate::{
    cases,
    ground::{Case, Ground, PATIENCE, standing, until},
};

pub(crate) const CASES: &[Case] = cases![
    second_waits_until_the_first_leaves,
    second_fails_if_it_is_to,
    second_takes_over_if_it_is_to,
    the_one_taken_over_waits_and_comes_back,
    two_that_take_over_come_to_rest,
    own_epoch_is_no_conflict,
    a_restart_waits_for_the_lease_of_its_former_run,
    a_foreign_key_of_another_layout_is_a_conflict,
    an_equal_value_of_another_layout_is_adopted,
    one_who_waits_can_leave,
    one_who_waits_writes_what_it_became,
    a_name_that_nobody_reads_is_a_conflict,
];

fn with(on_conflict: OnConflict) -> RegisterOptions {
    RegisterOptions {
        on_conflict,
        ..RegisterOptions::default()
    }
}

fn is_conflict(state: &RegState) -> bool {
    matches!(state, RegState::Conflict { .. })
}

async fn second(ground: &Ground, on_conflict: OnConflict) -> Result<Registration> {
    let registry = ground.registry()?;
    Ok(registry
        .register(ground.instance(1), with(on_conflict))
        .await?)
}

/// The epoch of whoever stands under the native key.
async fn epoch(ground: &Ground) -> Result<String> {
    let value: serde_json::Value = serde_json::from_str(&ground.text(&ground.native(1)).await?)?;
    Ok(value["epoch"].as_str().context("an epoch")?.to_owned())
}

async fn second_waits_until_the_first_leaves(ground: &Ground) -> Result<()> {
    let first = ground.register(1, &[Layout::Native]).await?;
    let second = second(ground, OnConflict::Wait).await?;
    let state = until(&second, "in conflict", is_conflict).await?;
    let RegState::Conflict {
        key, holder_epoch, ..
    } = state
    else {
        anyhow::bail!("{state:?}");
    };
    ensure!(holder_epoch == Some(first.instance().epoch) && key == ground.native(1));
    ensure!(epoch(ground).await? == first.instance().epoch.to_string());
    first.deregister().await?;
    standing(&second).await?;
    ensure!(epoch(ground).await? == second.instance().epoch.to_string());
    Ok(())
}

async fn second_fails_if_it_is_to(ground: &Ground) -> Result<()> {
    let first = ground.register(1, &[Layout::Native]).await?;
    let error = second(ground, OnConflict::Fail)
        .await
        .err()
        .context("an error")?;
    let error: Error = error.downcast()?;
    let holder = Some(first.instance().epoch);
    ensure!(
        matches!(&error, Error::Conflict { holder_epoch, .. } if *holder_epoch == holder),
        "{error}"
    );
    ensure!(error.reason() == "REGISTRATION_CONFLICT");
    // What it was granted on the way is not left behind.
    let (lease, _) = standing(&first).await?;
    let kv = ground.get(&ground.native(1)).await?.context("it stands")?;
    ensure!(kv.lease == lease);
    Ok(())
}

async fn second_takes_over_if_it_is_to(ground: &Ground) -> Result<()> {
    let _first = ground.register(1, &[Layout::Native]).await?;
    let second = second(ground, OnConflict::Takeover).await?;
    standing(&second).await?;
    ensure!(epoch(ground).await? == second.instance().epoch.to_string());
    Ok(())
}

async fn the_one_taken_over_waits_and_comes_back(ground: &Ground) -> Result<()> {
    let first = ground.register(1, &[Layout::Native]).await?;
    let second = second(ground, OnConflict::Takeover).await?;
    until(&first, "in conflict", is_conflict).await?;
    standing(&second).await?;
    second.deregister().await?;
    standing(&first).await?;
    ensure!(epoch(ground).await? == first.instance().epoch.to_string());
    Ok(())
}

async fn two_that_take_over_come_to_rest(ground: &Ground) -> Result<()> {
    let first = second(ground, OnConflict::Takeover).await?;
    standing(&first).await?;
    let second = second(ground, OnConflict::Takeover).await?;
    until(&first, "in conflict", is_conflict).await?;
    let before = standing(&second).await?;
    // Twice the time after which the first looks again.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    ensure!(standing(&second).await? == before);
    ensure!(is_conflict(&first.state().borrow()));
    Ok(())
}

async fn own_epoch_is_no_conflict(ground: &Ground) -> Result<()> {
    // The answer to an earlier attempt was lost: its key stands, on a lease that nobody remembers.
    let first = ground.register(1, &[Layout::Native]).await?;
    let (lease, _) = standing(&first).await?;
    let again = ground
        .registry()?
        .register(first.instance(), with(OnConflict::Fail))
        .await?;
    let (now, _) = standing(&again).await?;
    let kv = ground.get(&ground.native(1)).await?.context("it stands")?;
    ensure!(kv.value == Layout::Native.value(&first.instance()));
    ensure!(now != lease);
    Ok(())
}

async fn a_restart_waits_for_the_lease_of_its_former_run(ground: &Ground) -> Result<()> {
    // What a process that was killed leaves: a key of another epoch, on a lease that nobody renews.
    let granted = ground.kv.lease_grant(request::grant(2)).await?;
    let mut former = ground.instance(1);
    former.epoch = catena_registry::Ulid::generate();
    let put = request::put(ground.native(1), Layout::Native.value(&former));
    let put = PutRequest {
        lease: granted.id,
        ..put
    };
    ground.kv.put(put).await?;
    let now = second(ground, OnConflict::Wait).await?;
    until(&now, "in conflict", is_conflict).await?;
    standing(&now).await?;
    ensure!(epoch(ground).await? == now.instance().epoch.to_string());
    Ok(())
}

async fn a_foreign_key_of_another_layout_is_a_conflict(ground: &Ground) -> Result<()> {
    let mut other = ground.instance(2);
    other.id = "1".to_owned();
    let key = ground.key(Layout::Kratos, 1, 0);
    ground.put(&key, &Layout::Kratos.value(&other)).await?;
    let options = RegisterOptions {
        layouts: vec![Layout::Native, Layout::Kratos],
        ..RegisterOptions::default()
    };
    let waiting = ground
        .registry()?
        .register(ground.instance(1), options)
        .await?;
    let state = until(&waiting, "in conflict", is_conflict).await?;
    ensure!(
        matches!(state, RegState::Conflict { key: held, holder_epoch: None, .. } if held == key)
    );
    ensure!(ground.get(&ground.native(1)).await?.is_none());
    ground.delete(&key).await?;
    standing(&waiting).await?;
    Ok(())
}

async fn an_equal_value_of_another_layout_is_adopted(ground: &Ground) -> Result<()> {
    // It names our own address, so it is what an earlier run left.
    let key = ground.key(Layout::Article, 1, 0);
    ground
        .put(&key, &Layout::Article.value(&ground.instance(1)))
        .await?;
    let registration = ground.register(1, &[Layout::Article]).await?;
    let (lease, _) = standing(&registration).await?;
    ensure!(ground.get(&key).await?.context("it stands")?.lease == lease);
    Ok(())
}

async fn one_who_waits_can_leave(ground: &Ground) -> Result<()> {
    let first = ground.register(1, &[Layout::Native]).await?;
    let second = second(ground, OnConflict::Wait).await?;
    until(&second, "in conflict", is_conflict).await?;
    second.deregister().await?;
    ensure!(epoch(ground).await? == first.instance().epoch.to_string());
    Ok(())
}

async fn one_who_waits_writes_what_it_became(ground: &Ground) -> Result<()> {
    let first = ground.register(1, &[Layout::Native]).await?;
    let second = second(ground, OnConflict::Wait).await?;
    until(&second, "in conflict", is_conflict).await?;
    second
        .update(|instance| instance.status = Status::Starting)
        .await?;
    first.deregister().await?;
    standing(&second).await?;
    ensure!(
        ground
            .text(&ground.native(1))
            .await?
            .contains("\"status\":\"starting\"")
    );
    Ok(())
}

async fn a_name_that_nobody_reads_is_a_conflict(ground: &Ground) -> Result<()> {
    ground.put(&ground.native(1), "nonsense").await?;
    let waiting = second(ground, OnConflict::Wait).await?;
    until(&waiting, "in conflict", is_conflict).await?;
    ensure!(ground.text(&ground.native(1)).await? == "nonsense");
    ground.delete(&ground.native(1)).await?;
    framework::wait_until("it stands", PATIENCE, async || {
        matches!(*waiting.state().borrow(), RegState::Registered { .. }).then_some(())
    })
    .await
}
