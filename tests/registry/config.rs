//! The configuration centre and those that it configures.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use catena_client::{Kv, request};
use catena_registry::config::{
    AppName, Applied, Change, Config, ConfigCenter, ConfigOptions, DocumentName, Error, Expect,
    Format, GrayMatch, GrayRule, StoreOptions, StoreState, Watched, center::PUBLISHED_BYTES_MAX,
};
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    cases,
    ground::{Case, Ground, PATIENCE},
    switch::Switch,
};

pub(crate) const CASES: &[Case] = cases![
    of_publishers_who_know_the_same_version_one_wins,
    publishers_who_expect_nothing_all_get_their_turn,
    a_publication_reaches_who_watches,
    invalid_is_never_applied_and_reported,
    layers_of_the_store_merge_in_order,
    a_rollback_is_a_new_version,
    history_is_bounded,
    a_gray_document_is_promoted_to_all,
    a_gray_document_is_taken_back,
    a_schema_is_kept_by_publishers,
    what_was_compacted_meanwhile_is_read_anew,
    a_start_without_the_store_has_what_held_last,
    a_first_start_without_the_store_says_so,
    a_start_can_do_without_the_store,
    what_is_written_by_hand_is_followed,
    a_deletion_is_followed,
    the_largest_document_is_published_and_a_larger_one_is_not,
];

/// What processes watch here.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Limits {
    pub(crate) rate: u64,
}

/// A configured process.
pub(crate) fn options(kv: Arc<dyn Kv>, ground: &Ground, instance: &str) -> StoreOptions {
    StoreOptions::new(kv, ground.namespace(), "user", instance)
}

pub(crate) async fn open(store: StoreOptions) -> Result<Config> {
    let options = ConfigOptions {
        store: Some(store),
        ..ConfigOptions::default()
    };
    Ok(Config::open(options).await?)
}

pub(crate) fn main(ground: &Ground) -> Result<DocumentName> {
    Ok(DocumentName::new(ground.namespace(), "user", "main.toml")?)
}

pub(crate) fn rate(rate: u64) -> Change {
    change(&format!("[limits]\nrate = {rate}\n"))
}

fn change(text: &str) -> Change {
    Change {
        content: text.to_owned().into(),
        ..Change::default()
    }
}

/// Waits until a watched value is as wanted.
pub(crate) async fn until_rate(watched: &Watched<Limits>, wanted: u64) -> Result<()> {
    let mut watched = watched.clone();
    let found = async {
        while watched.load().rate != wanted {
            watched.changed().await?;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, found)
        .await
        .with_context(|| format!("rate {wanted} is applied, {} is", watched.load().rate))?
}

/// Waits until the status is as wanted.
async fn until_status(
    config: &Config,
    wanted: impl Fn(&catena_registry::config::Status) -> bool,
) -> Result<()> {
    let mut status = config.status();
    let found = status.wait_for(wanted);
    timeout(PATIENCE, found).await.context("the status")??;
    Ok(())
}

async fn of_publishers_who_know_the_same_version_one_wins(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    ensure!(
        center
            .publish(&name, rate(0), Expect::Absent)
            .await?
            .version
            == 1
    );
    let again = center.publish(&name, rate(0), Expect::Absent).await;
    ensure!(
        matches!(again, Err(Error::Conflict { current: 1, .. })),
        "{again:?}"
    );
    for version in 1..6 {
        let publish = (0..4).map(|n| center.publish(&name, rate(n), Expect::Version(version)));
        let published = join_all(publish).await;
        let won: Vec<_> = published.iter().flatten().collect();
        ensure!(
            won.len() == 1 && won[0].version == version + 1,
            "{published:?}"
        );
        for lost in published
            .iter()
            .filter_map(|published| published.as_ref().err())
        {
            ensure!(matches!(lost, Error::Conflict { .. }), "{lost}");
        }
        let current = center.get(&name).await?.revision;
        ensure!(current.meta == *won[0]);
    }
    Ok(())
}

async fn publishers_who_expect_nothing_all_get_their_turn(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    let publish = (0..8).map(|n| center.publish(&name, rate(n), Expect::Any));
    let mut versions = Vec::new();
    for published in join_all(publish).await {
        versions.push(published?.version);
    }
    versions.sort_unstable();
    ensure!(versions == (1..=8).collect::<Vec<_>>(), "{versions:?}");
    Ok(())
}

async fn a_publication_reaches_who_watches(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    center.publish(&name, rate(1), Expect::Any).await?;
    let config = open(options(ground.kv.clone(), ground, "u-1")).await?;
    let watched = config.watch::<Limits>("limits")?;
    ensure!(watched.load().rate == 1);
    center.publish(&name, rate(2), Expect::Version(1)).await?;
    until_rate(&watched, 2).await?;
    ensure!(config.get::<u64>("limits.rate")? == 2);
    let said = config.explain("limits.rate");
    ensure!(said.len() == 1 && said[0].version == 2 && said[0].document == "user/main.toml");
    until_listener(&center, ground, "u-1", "main.toml", 2, Applied::Applied).await?;
    config.close().await?;
    let app = AppName::new(ground.namespace(), "user")?;
    ensure!(
        center.listeners(&app).await?.is_empty(),
        "it said that it leaves"
    );
    Ok(())
}

pub(crate) async fn until_listener(
    center: &ConfigCenter,
    ground: &Ground,
    instance: &str,
    doc: &str,
    version: u64,
    state: Applied,
) -> Result<()> {
    let app = AppName::new(ground.namespace(), "user")?;
    framework::wait_until("the listener's record", PATIENCE, async || {
        let listeners = center.listeners(&app).await.ok()?;
        let said = listeners.get(instance)?.get(doc)?;
        (said.version == version && said.state == state).then_some(())
    })
    .await
}

async fn invalid_is_never_applied_and_reported(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    let unreadable = center.publish(&name, change("rate = ?"), Expect::Any).await;
    ensure!(
        matches!(unreadable, Err(Error::Unreadable { line: 1, .. })),
        "{unreadable:?}"
    );
    center.publish(&name, rate(1), Expect::Absent).await?;
    let config = open(options(ground.kv.clone(), ground, "u-1")).await?;
    let watched = config.watch::<Limits>("limits")?;
    let bad = change("[limits]\nrate = 'hunter2'\n");
    center.publish(&name, bad, Expect::Version(1)).await?;
    until_listener(&center, ground, "u-1", "main.toml", 2, Applied::Rejected).await?;
    let app = AppName::new(ground.namespace(), "user")?;
    let said = format!("{:?}", center.listeners(&app).await?);
    ensure!(
        said.contains("limits.rate") && !said.contains("hunter2"),
        "{said}"
    );
    ensure!(watched.load().rate == 1);
    ensure!(config.get::<u64>("limits.rate")? == 1);
    // A process that starts now and has nothing from before cannot take it either.
    let fresh = open(options(ground.kv.clone(), ground, "u-2")).await?;
    ensure!(fresh.watch::<Limits>("limits").is_err());
    center.publish(&name, rate(3), Expect::Version(2)).await?;
    until_rate(&watched, 3).await?;
    until_listener(&center, ground, "u-1", "main.toml", 3, Applied::Applied).await
}

async fn layers_of_the_store_merge_in_order(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let put = async |app: &str, text: &str| {
        let name = DocumentName::new(ground.namespace(), app, "main.yaml")?;
        center.publish(&name, change(text), Expect::Any).await?;
        anyhow::Ok(())
    };
    put("user@eu", "c: profile\n").await?;
    put("user", "b: app\nc: app\n").await?;
    put("_shared", "a: shared\nb: shared\nc: shared\n").await?;
    put("user-admin", "a: another's\n").await?;
    let config = Config::open(ConfigOptions {
        defaults: serde_json::json!({"a": "default", "d": "${a}-${b}-${c}"}),
        flags: vec![("e".to_owned(), "${d}!".to_owned())],
        store: Some(StoreOptions {
            profile: Some("eu".to_owned()),
            ..options(ground.kv.clone(), ground, "u-1")
        }),
        ..ConfigOptions::default()
    })
    .await?;
    let e = config.watch::<String>("e")?;
    ensure!(*e.load() == "shared-app-profile!", "{}", e.load());
    // What is weak and comes late does not win.
    put("_shared", "a: late\nb: late\nc: late\n").await?;
    let mut changes = e.clone();
    timeout(PATIENCE, changes.changed()).await??;
    ensure!(*e.load() == "late-app-profile!", "{}", e.load());
    Ok(())
}

async fn a_rollback_is_a_new_version(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    for n in 1..=3 {
        center.publish(&name, rate(n), Expect::Any).await?;
    }
    let config = open(options(ground.kv.clone(), ground, "u-1")).await?;
    let watched = config.watch::<Limits>("limits")?;
    let newest = center.get(&name).await?.revision.meta.version;
    let difference = center.diff(&name, 1, newest).await?;
    ensure!(
        difference.len() == 1 && difference[0].path == "limits.rate",
        "{difference:?}"
    );
    let stale = center.rollback(&name, 1, "ops", Expect::Version(1)).await;
    ensure!(matches!(stale, Err(Error::Conflict { .. })), "{stale:?}");
    let meta = center
        .rollback(&name, 1, "ops", Expect::Version(newest))
        .await?;
    ensure!(meta.version == newest + 1 && meta.comment == "rollback to 1");
    until_rate(&watched, 1).await?;
    ensure!(center.diff(&name, 1, newest + 1).await?.is_empty());
    let missing = center.rollback(&name, 99, "ops", Expect::Any).await;
    ensure!(matches!(missing, Err(Error::Absent { .. })), "{missing:?}");
    Ok(())
}

async fn history_is_bounded(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    for n in 0..110 {
        center.publish(&name, rate(n), Expect::Any).await?;
    }
    let versions: Vec<_> = center
        .history(&name)
        .await?
        .iter()
        .map(|meta| meta.version)
        .collect();
    ensure!(
        versions == (11..=110).rev().collect::<Vec<_>>(),
        "{versions:?}"
    );
    // Compaction takes nothing away from it.
    ground.compact().await?;
    let old = center.version(&name, 11).await?;
    ensure!(old.content == rate(10).content && old.meta.format == Format::Toml);
    Ok(())
}

fn gray(ids: &[&str], content: &Change) -> GrayRule {
    GrayRule {
        priority: 0,
        matches: GrayMatch {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            ..GrayMatch::default()
        },
        format: None,
        content: String::from_utf8_lossy(&content.content).into_owned(),
    }
}

async fn a_gray_document_is_promoted_to_all(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    center.publish(&name, rate(1), Expect::Absent).await?;
    let mut watched = Vec::new();
    let mut configs = Vec::new();
    for instance in ["u-1", "u-2"] {
        let config = open(options(ground.kv.clone(), ground, instance)).await?;
        watched.push(config.watch::<Limits>("limits")?);
        configs.push(config);
    }
    center
        .gray(&name, "first", &gray(&["u-1"], &rate(2)))
        .await?;
    until_rate(&watched[0], 2).await?;
    ensure!(watched[1].load().rate == 1);
    let refused = center
        .gray(&name, "bad", &gray(&["u-1"], &change("?")))
        .await;
    ensure!(
        matches!(refused, Err(Error::Unreadable { .. })),
        "{refused:?}"
    );
    let meta = center
        .promote(&name, "first", "ops", Expect::Version(1))
        .await?;
    ensure!(meta.version == 2);
    until_rate(&watched[1], 2).await?;
    ensure!(watched[0].load().rate == 2);
    ensure!(center.rules(&name).await?.is_empty());
    let again = center.promote(&name, "first", "ops", Expect::Any).await;
    ensure!(matches!(again, Err(Error::Absent { .. })), "{again:?}");
    Ok(())
}

async fn a_gray_document_is_taken_back(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    center.publish(&name, rate(1), Expect::Absent).await?;
    let config = open(options(ground.kv.clone(), ground, "u-1")).await?;
    let watched = config.watch::<Limits>("limits")?;
    center.gray(&name, "all", &gray(&["u-1"], &rate(2))).await?;
    until_rate(&watched, 2).await?;
    center.abort(&name, "all").await?;
    until_rate(&watched, 1).await
}

async fn a_schema_is_kept_by_publishers(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    let schema =
        br#"{"properties":{"limits":{"properties":{"rate":{"type":"integer","minimum":1}}}}}"#;
    center.set_schema(&name, Some(schema)).await?;
    let refused = center.publish(&name, rate(0), Expect::Absent).await;
    let Err(Error::Refused(violations)) = refused else {
        anyhow::bail!("{refused:?}");
    };
    ensure!(violations[0].path == "limits.rate" && violations[0].rule == "minimum");
    ensure!(center.publish(&name, rate(1), Expect::Absent).await?.schema);
    let stricter = br#"{"required":["server"]}"#;
    ensure!(
        center.set_schema(&name, Some(stricter)).await.is_err(),
        "what stands there breaks it"
    );
    center.set_schema(&name, None).await?;
    center.publish(&name, rate(0), Expect::Version(1)).await?;
    Ok(())
}

async fn what_was_compacted_meanwhile_is_read_anew(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    center.publish(&name, rate(0), Expect::Any).await?;
    let switch = Switch::new(ground.kv.clone());
    let config = open(options(switch.clone(), ground, "u-1")).await?;
    let watched = config.watch::<Limits>("limits")?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let all = seen.clone();
    let _subscription =
        watched.on_change(move |limits: &Arc<Limits>| all.lock().push(limits.rate))?;
    switch.cut();
    until_status(&config, |status| {
        matches!(status.store, StoreState::Stale(_))
    })
    .await?;
    ensure!(watched.load().rate == 0, "what was known holds");
    for n in 1..=20 {
        center.publish(&name, rate(n), Expect::Any).await?;
    }
    ground.compact().await?;
    switch.join(ground.kv.clone());
    until_rate(&watched, 20).await?;
    until_status(&config, |status| status.store == StoreState::Followed).await?;
    let seen = seen.lock().clone();
    ensure!(seen.is_sorted(), "{seen:?}");
    Ok(())
}

async fn a_start_without_the_store_has_what_held_last(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    center.publish(&name, rate(1), Expect::Any).await?;
    let dir = tempfile::tempdir()?;
    let switch = Switch::new(ground.kv.clone());
    let store = || StoreOptions {
        last_good: Some(dir.path().join("last-good.json")),
        patience: Duration::from_millis(100),
        ..options(switch.clone(), ground, "u-1")
    };
    let config = open(store()).await?;
    let watched = config.watch::<Limits>("limits")?;
    config.confirm();
    center.publish(&name, rate(2), Expect::Any).await?;
    until_rate(&watched, 2).await?;
    config.close().await?;
    // What came afterwards and is no good does not become the last good.
    center
        .publish(&name, change("[limits]\nrate = 'no'\n"), Expect::Any)
        .await?;
    let config = open(store()).await?;
    ensure!(
        config.watch::<Limits>("limits")?.load().rate == 2,
        "the last good takes its place"
    );
    config.close().await?;
    switch.cut();
    let config = open(store()).await?;
    let watched = config.watch::<Limits>("limits")?;
    ensure!(watched.load().rate == 2);
    ensure!(matches!(
        config.status().borrow().store,
        StoreState::Stale(_)
    ));
    center.publish(&name, rate(4), Expect::Any).await?;
    switch.join(ground.kv.clone());
    until_rate(&watched, 4).await
}

async fn a_first_start_without_the_store_says_so(ground: &Ground) -> Result<()> {
    let switch = Switch::new(ground.kv.clone());
    switch.cut();
    let store = StoreOptions {
        cold_patience: Duration::from_millis(200),
        ..options(switch.clone(), ground, "u-1")
    };
    let error = open(store)
        .await
        .err()
        .context("there is nothing to begin with")?;
    ensure!(error.to_string().contains("cut"), "it says why: {error}");
    Ok(())
}

async fn a_start_can_do_without_the_store(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    let switch = Switch::new(ground.kv.clone());
    switch.cut();
    let own = || ConfigOptions {
        defaults: serde_json::json!({"limits": {"rate": 1}}),
        store: Some(StoreOptions {
            cold_patience: Duration::from_millis(200),
            begins_without: true,
            ..options(switch.clone(), ground, "u-1")
        }),
        ..ConfigOptions::default()
    };
    let config = Config::open(own()).await?;
    let watched = config.watch::<Limits>("limits")?;
    ensure!(watched.load().rate == 1);
    ensure!(matches!(
        config.status().borrow().store,
        StoreState::Stale(_)
    ));
    config.confirm();
    center.publish(&name, rate(2), Expect::Any).await?;
    switch.join(ground.kv.clone());
    until_rate(&watched, 2).await?;
    config.close().await?;

    // Nor does it need a document that it can take; the one that it cannot is reported.
    let bad = change("[limits]\nrate = 'no'\n");
    center.publish(&name, bad, Expect::Any).await?;
    let config = Config::open(own()).await?;
    let watched = config.watch::<Limits>("limits")?;
    config.confirm();
    ensure!(watched.load().rate == 1);
    until_listener(&center, ground, "u-1", "main.toml", 2, Applied::Rejected).await?;
    center.publish(&name, rate(3), Expect::Any).await?;
    until_rate(&watched, 3).await
}

async fn what_is_written_by_hand_is_followed(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    center.publish(&name, rate(1), Expect::Absent).await?;
    let config = open(options(ground.kv.clone(), ground, "u-1")).await?;
    let watched = config.watch::<Limits>("limits")?;
    let key = format!("/config/v1/{}/user/main.toml", ground.namespace());
    ground
        .kv
        .put(request::put(key, "[limits]\nrate = 9\n"))
        .await?;
    until_rate(&watched, 9).await?;
    ensure!(center.get(&name).await?.revision.meta.version == 0);
    let conflict = center.publish(&name, rate(2), Expect::Version(1)).await;
    ensure!(
        matches!(conflict, Err(Error::Conflict { current: 0, .. })),
        "{conflict:?}"
    );
    // No version is given twice.
    ensure!(
        center
            .publish(&name, rate(2), Expect::Version(0))
            .await?
            .version
            == 2
    );
    until_rate(&watched, 2).await
}

async fn a_deletion_is_followed(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    center.publish(&name, rate(1), Expect::Absent).await?;
    let config = open(options(ground.kv.clone(), ground, "u-1")).await?;
    let watched = config.watch::<Option<u64>>("limits.rate")?;
    ensure!(*watched.load() == Some(1));
    let key = format!("/config/v1/{}/user/main.toml", ground.namespace());
    ground.kv.delete_range(request::delete(key)).await?;
    let mut changes = watched.clone();
    timeout(PATIENCE, changes.changed()).await??;
    ensure!(watched.load().is_none());
    Ok(())
}

async fn the_largest_document_is_published_and_a_larger_one_is_not(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    let long = |bytes: usize| Change {
        author: "\u{1}".repeat(4096),
        comment: "\u{1}".repeat(4096),
        ..change(&format!("a = '{}'", "x".repeat(bytes - 6)))
    };
    let larger = long(PUBLISHED_BYTES_MAX + 1);
    let larger = center.publish(&name, larger, Expect::Absent).await;
    ensure!(matches!(larger, Err(Error::TooMuch { .. })), "{larger:?}");
    center
        .publish(&name, long(PUBLISHED_BYTES_MAX), Expect::Absent)
        .await?;
    let config = open(options(ground.kv.clone(), ground, "u-1")).await?;
    ensure!(config.get::<String>("a")?.len() == PUBLISHED_BYTES_MAX - 6);
    Ok(())
}
