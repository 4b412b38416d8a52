use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::config::watched::{self, Invalid, Watched};

fn document(layer: Layer, name: &str, version: u64, text: &str) -> Document {
    Document {
        place: Place {
            layer,
            name: name.into(),
        },
        format: crate::config::Format::Toml,
        bytes: text.to_owned().into(),
        version,
        at_ms: version,
    }
}

fn app(version: u64, text: &str) -> Document {
    document(Layer::App, "user/main", version, text)
}

fn start(documents: Vec<Document>) -> Applier {
    Applier::start(documents, Vec::new(), vec!["server.port".to_owned()]).unwrap()
}

#[derive(Debug, PartialEq, Deserialize)]
struct Limits {
    rate: u32,
}

fn limits(applier: &mut Applier) -> Result<Watched<Limits>> {
    applier.watch(|tree| {
        let check = |limits: &Limits| match limits.rate {
            0 => Err(Invalid {
                path: "rate",
                message: "must not be 0",
            }),
            _ => Ok(()),
        };
        watched::open("limits", tree, Box::new(check))
    })
}

fn tell(applier: &mut Applier) -> usize {
    let untold = applier.take_untold();
    let count = untold.len();
    untold.into_iter().for_each(|tell| tell());
    count
}

fn outcome(applier: &Applier, name: &str) -> Outcome {
    let report = applier.report();
    let state = report.iter().find(|((_, of), _)| &**of == name);
    state.unwrap().1.outcome.clone()
}

#[test]
fn a_change_reaches_who_watches_what_it_changes() {
    let mut applier = start(vec![app(1, "x = 1\n[limits]\nrate = 5")]);
    let watched = limits(&mut applier).unwrap();
    assert!(!applier.apply(Source::Store, vec![app(1, "x = 1\n[limits]\nrate = 5")]));
    assert!(applier.apply(Source::Store, vec![app(2, "x = 2\n[limits]\nrate = 5")]));
    assert_eq!(tell(&mut applier), 0);
    assert!(applier.apply(Source::Store, vec![app(3, "x = 2\n[limits]\nrate = 6")]));
    assert_eq!(watched.load().rate, 6);
    assert_eq!(tell(&mut applier), 1);
}

#[test]
fn whatever_fails_leaves_everything_as_it_was() {
    let mut applier = start(vec![app(1, "x = 1\n[limits]\nrate = 5")]);
    let watched = limits(&mut applier).unwrap();
    let bad = [
        ("not toml", "CONFIG_UNREADABLE"),
        ("x = '${nothing}'\n[limits]\nrate = 7", "CONFIG_UNRESOLVED"),
        ("x = 2\n[limits]\nrate = 'fast'", "CONFIG_INVALID"),
        ("x = 2\n[limits]\nrate = 0", "CONFIG_INVALID"),
        ("x = 2", "CONFIG_MISSING"),
    ];
    for (n, (text, reason)) in bad.iter().enumerate() {
        let version = n as u64 + 2;
        assert!(
            !applier.apply(Source::Store, vec![app(version, text)]),
            "{text}"
        );
        let Outcome::Rejected(error) = outcome(&applier, "user/main") else {
            panic!("{text} is not rejected");
        };
        assert_eq!(error.reason(), *reason, "{text}");
        assert_eq!(
            tree::lookup(&applier.current.load().tree, "x"),
            Some(&json!(1))
        );
        assert_eq!(watched.load().rate, 5);
        assert_eq!(tell(&mut applier), 0);
    }
    assert!(
        !applier.apply(Source::Store, Vec::new()),
        "a deletion can be refused too"
    );
    assert!(applier.apply(Source::Store, vec![app(9, "x = 3\n[limits]\nrate = 9")]));
    assert_eq!(outcome(&applier, "user/main"), Outcome::Applied);
    assert_eq!(watched.load().rate, 9);
}

#[test]
fn a_rejected_document_does_not_hold_up_the_others() {
    let shared = |version, text: &str| document(Layer::Shared, "_shared/base", version, text);
    let mut applier = start(vec![shared(1, "y = 1"), app(1, "[limits]\nrate = 5")]);
    let watched = limits(&mut applier).unwrap();
    assert!(!applier.apply(
        Source::Store,
        vec![shared(1, "y = 1"), app(2, "[limits]\nrate = '${r}'")]
    ));
    assert!(applier.apply(
        Source::Store,
        vec![shared(2, "y = 2"), app(2, "[limits]\nrate = '${r}'")]
    ));
    assert_eq!(outcome(&applier, "_shared/base"), Outcome::Applied);
    assert!(matches!(
        outcome(&applier, "user/main"),
        Outcome::Rejected(_)
    ));
    assert_eq!(watched.load().rate, 5);
    // What the rejected document waited for comes.
    assert!(applier.apply(
        Source::Store,
        vec![shared(3, "r = 8"), app(2, "[limits]\nrate = '${r}'")]
    ));
    assert_eq!(outcome(&applier, "user/main"), Outcome::Applied);
    assert_eq!(watched.load().rate, 8);
}

#[test]
fn a_weak_layer_s_later_edit_does_not_win_and_a_deleted_key_goes() {
    let file = |text: &str| document(Layer::File(0), "app.toml", 0, text);
    let mut applier = start(vec![file("a = 1\nb = 1"), app(1, "a = 2\nc = 2")]);
    let at =
        |applier: &Applier, path: &str| tree::lookup(&applier.current.load().tree, path).cloned();
    assert!(applier.apply(Source::Layer(Layer::File(0)), vec![file("a = 9")]));
    assert_eq!(
        (at(&applier, "a"), at(&applier, "b")),
        (Some(json!(2)), None)
    );
    assert!(applier.apply(Source::Store, Vec::new()));
    assert_eq!(
        (at(&applier, "a"), at(&applier, "c")),
        (Some(json!(9)), None)
    );
}

#[test]
fn the_last_good_configuration_takes_the_place_of_a_bad_one_at_the_start() {
    let good = app(1, "[limits]\nrate = 5");
    // One that cannot be read, and one that only its owner refuses.
    for bad in ["not toml", "[limits]\nrate = 0"] {
        let mut applier =
            Applier::start(vec![app(2, bad)], vec![good.clone()], Vec::new()).unwrap();
        let watched = limits(&mut applier).unwrap();
        assert_eq!(watched.load().rate, 5);
        assert!(matches!(
            outcome(&applier, "user/main"),
            Outcome::Rejected(_)
        ));
        assert_eq!(applier.proved(), None, "not yet proved");
        assert!(applier.apply(Source::Store, vec![app(3, "[limits]\nrate = 6")]));
        assert_eq!(applier.proved().unwrap()[0].version, 3);
    }
    // One that comes before anybody watches does not take the last good one's place.
    let mut applier = Applier::start(vec![good.clone()], vec![good], Vec::new()).unwrap();
    assert!(applier.apply(Source::Store, vec![app(2, "[limits]\nrate = 0")]));
    assert_eq!(limits(&mut applier).unwrap().load().rate, 5);
    assert!(Applier::start(vec![app(2, "not toml")], Vec::new(), Vec::new()).is_err());
    let mut applier = start(vec![app(2, "[limits]\nrate = 0")]);
    assert!(limits(&mut applier).is_err());
}

#[test]
fn what_is_read_at_the_start_only_is_reported() {
    let mut applier = start(vec![app(1, "[server]\nport = 1")]);
    assert!(applier.apply(Source::Store, vec![app(2, "[server]\nport = 2")]));
    assert_eq!(outcome(&applier, "user/main"), Outcome::RestartRequired);
    assert!(applier.apply(Source::Store, vec![app(3, "[server]\nport = 1")]));
    assert_eq!(outcome(&applier, "user/main"), Outcome::Applied);
}

#[test]
fn observers_are_told_in_order_and_may_panic_and_leave() {
    let mut applier = start(vec![app(1, "[limits]\nrate = 1")]);
    let watched = limits(&mut applier).unwrap();
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let all = seen.clone();
    let keep = watched
        .on_change(move |limits: &Arc<Limits>| all.lock().push(limits.rate))
        .unwrap();
    let _panics = watched
        .on_change(|_| panic!("not for others to feel"))
        .unwrap();
    for rate in 2..5 {
        applier.apply(
            Source::Store,
            vec![app(rate, &format!("[limits]\nrate = {rate}"))],
        );
        tell(&mut applier);
    }
    drop(keep);
    applier.apply(Source::Store, vec![app(5, "[limits]\nrate = 5")]);
    tell(&mut applier);
    assert_eq!(*seen.lock(), [2, 3, 4]);
}

#[test]
fn an_observer_is_told_though_nobody_else_watches() {
    let mut applier = start(vec![app(1, "[limits]\nrate = 1")]);
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let all = seen.clone();
    let note = move |limits: &Arc<Limits>| all.lock().push(limits.rate);
    let subscription = limits(&mut applier).unwrap().on_change(note).unwrap();
    applier.apply(Source::Store, vec![app(2, "[limits]\nrate = 2")]);
    tell(&mut applier);
    drop(subscription);
    applier.apply(Source::Store, vec![app(3, "[limits]\nrate = 3")]);
    tell(&mut applier);
    assert_eq!(*seen.lock(), [2]);
}

#[tokio::test]
async fn changed_waits_and_ends() {
    let mut applier = start(vec![app(1, "[limits]\nrate = 1")]);
    let mut watched = limits(&mut applier).unwrap();
    applier.apply(Source::Store, vec![app(2, "[limits]\nrate = 2")]);
    tell(&mut applier);
    assert_eq!(watched.changed().await.unwrap().rate, 2);
    applier.apply(Source::Store, vec![app(3, "[limits]\nrate = 3")]);
    tell(&mut applier);
    applier.close();
    // What came before the end is still seen.
    assert_eq!(watched.changed().await.unwrap().rate, 3);
    assert_eq!(watched.changed().await, Err(Error::Closed));
}
