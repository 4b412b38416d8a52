//! Sealed values of documents: who has the key gets what is in them, and nobody else sees it anywhere.

use std::fs;

use anyhow::{Context, Result, ensure};
use catena_registry::config::{
    Applied, Change, Config, ConfigCenter, ConfigOptions, Error, Expect, GrayMatch, GrayRule,
    Keyring, SealFault, StoreOptions, Watched,
};
use serde_json::json;

use crate::{
    cases,
    config::{Limits, main, options, until_listener, until_rate},
    ground::{Case, Ground},
};

pub(crate) const CASES: &[Case] = cases![
    what_is_sealed_opens_for_who_has_the_key,
    what_does_not_open_is_rejected_and_named,
    what_is_no_whole_envelope_is_not_published,
];

/// A rate that nothing else here is.
const SECRET: u64 = 48_151_623;

fn keys() -> Result<Keyring> {
    Ok(Keyring::parse(&Keyring::draw())?)
}

fn sealed(keys: &Keyring, ground: &Ground, rate: u64) -> Result<Change> {
    let envelope = keys.seal(&main(ground)?, "limits.rate", &rate.to_string())?;
    Ok(document(&envelope))
}

fn document(rate: &str) -> Change {
    Change {
        content: format!("[limits]\nrate = '{rate}'\n").into(),
        ..Change::default()
    }
}

async fn open(store: StoreOptions, keys: &Keyring) -> Result<(Config, Watched<Limits>)> {
    let config = Config::open(ConfigOptions {
        store: Some(store),
        keys: keys.clone(),
        ..ConfigOptions::default()
    });
    let config = config.await?;
    let watched = config.watch("limits")?;
    config.confirm();
    Ok((config, watched))
}

async fn what_is_sealed_opens_for_who_has_the_key(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    let keys = keys()?;
    // Publishers need no key, and schemas say nothing of what they cannot see.
    let schema =
        br#"{"properties":{"limits":{"properties":{"rate":{"type":"integer","maximum":9}}}}}"#;
    center.set_schema(&name, Some(schema)).await?;
    center
        .publish(&name, sealed(&keys, ground, SECRET)?, Expect::Absent)
        .await?;
    let dir = tempfile::tempdir()?;
    let last_good = dir.path().join("last-good.json");
    let store = StoreOptions {
        last_good: Some(last_good.clone()),
        ..options(ground.kv.clone(), ground, "u-1")
    };
    let (config, watched) = open(store.clone(), &keys).await?;
    ensure!(watched.load().rate == SECRET);
    ensure!(config.get::<u64>("limits.rate")? == SECRET);

    // The same document for some, for all, and as it was.
    let gray = GrayRule {
        priority: 0,
        matches: GrayMatch {
            ids: vec!["u-1".to_owned()],
            ..GrayMatch::default()
        },
        format: None,
        content: String::from_utf8(sealed(&keys, ground, SECRET + 1)?.content.to_vec())?,
    };
    center.gray(&name, "first", &gray).await?;
    until_rate(&watched, SECRET + 1).await?;
    center.promote(&name, "first", "ops", Expect::Any).await?;
    until_listener(&center, ground, "u-1", "main.toml", 2, Applied::Applied).await?;
    ensure!(watched.load().rate == SECRET + 1);
    center.rollback(&name, 1, "ops", Expect::Any).await?;
    until_rate(&watched, SECRET).await?;

    let difference = center.diff(&name, 1, 2).await?;
    let mask = json!(format!(
        "enc:v1:{}:***",
        keys.ids().next().context("an id")?
    ));
    ensure!(
        difference.len() == 1 && difference[0].after.as_ref() == Some(&mask),
        "{difference:?}"
    );
    let explained = config.explain("limits.rate");
    ensure!(explained.len() == 1 && explained[0].value == mask);
    let stored = format!("{:?}", center.get(&name).await?.revision.content);
    config.close().await?;
    let kept = fs::read_to_string(&last_good)?;
    let listeners = format!("{:?}", center.listeners(name.app()).await?);
    for (place, text) in [("store", stored), ("disk", kept), ("listeners", listeners)] {
        ensure!(!text.contains(&SECRET.to_string()), "{place}: {text}");
    }
    // What was kept opens again.
    let (_config, watched) = open(store, &keys).await?;
    ensure!(watched.load().rate == SECRET);
    Ok(())
}

async fn what_does_not_open_is_rejected_and_named(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    let (ours, theirs) = (keys()?, keys()?);
    center.publish(&name, document("5"), Expect::Absent).await?;
    let store = options(ground.kv.clone(), ground, "u-1");
    let (config, watched) = open(store, &ours).await?;
    let ids: Vec<String> = [&ours, &theirs]
        .iter()
        .flat_map(|keys| keys.ids().map(str::to_owned))
        .collect();
    let [own, other] = &ids[..] else {
        anyhow::bail!("{ids:?}");
    };
    let moved = ours.seal(&main(ground)?, "limits.other", "7")?;
    let wrong = [
        (
            sealed(&theirs, ground, SECRET)?,
            format!("the key \"{other}\", which this process does not have: it has {own}"),
        ),
        (
            document(&moved),
            format!("limits.rate does not open with the key \"{own}\""),
        ),
    ];
    for (n, (change, why)) in wrong.into_iter().enumerate() {
        let version = n as u64 + 2;
        center.publish(&name, change, Expect::Any).await?;
        until_listener(
            &center,
            ground,
            "u-1",
            "main.toml",
            version,
            Applied::Rejected,
        )
        .await?;
        let listeners = center.listeners(name.app()).await?;
        let said = &listeners["u-1"]["main.toml"].error;
        ensure!(said.contains(&why), "{said}");
        ensure!(watched.load().rate == 5);
    }
    center
        .publish(&name, sealed(&ours, ground, 6)?, Expect::Any)
        .await?;
    until_rate(&watched, 6).await?;
    // Somebody without the key who starts now does not begin with something else.
    let store = options(ground.kv.clone(), ground, "u-2");
    let error = open(store, &Keyring::default()).await.err();
    let error = error.context("it has no key")?;
    ensure!(format!("{error:#}").contains("it has none"), "{error:#}");
    config.close().await?;
    Ok(())
}

async fn what_is_no_whole_envelope_is_not_published(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = main(ground)?;
    let envelope = keys()?.seal(&name, "limits.rate", "5")?;
    for (text, expected) in [
        (&envelope[..envelope.len() - 5], SealFault::Damaged),
        ("enc:v1:", SealFault::Damaged),
        ("enc:v2:a:AAAA", SealFault::OtherForm),
    ] {
        let refused = center.publish(&name, document(text), Expect::Any).await;
        let Err(Error::Sealed { path, fault }) = refused else {
            anyhow::bail!("{text}: {refused:?}");
        };
        ensure!(path == "limits.rate" && fault == expected, "{fault:?}");
    }
    ensure!(matches!(center.get(&name).await, Err(Error::Absent { .. })));
    Ok(())
}
