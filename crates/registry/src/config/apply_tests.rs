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
    let restart = vec!["server.port".to_owned()];
    Applier::start(documents, Vec::new(), restart, Opener::default()).unwrap()
}

fn start_or(documents: Vec<Document>, fallbacks: Vec<Vec<Document>>) -> Result<Applier> {
    let fallbacks = fallbacks.into_iter();
    let fallbacks = fallbacks.map(|stored| stored.into_iter().map(Arc::new).collect());
    let restart = vec!["limits.rate".to_owned()];
    Applier::start(documents, fallbacks.collect(), restart, Opener::default())
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
        let mut applier = start_or(vec![app(2, bad)], vec![vec![good.clone()]]).unwrap();
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
    let mut applier = start_or(vec![good.clone()], vec![vec![good]]).unwrap();
    assert!(applier.apply(Source::Store, vec![app(2, "[limits]\nrate = 0")]));
    assert_eq!(limits(&mut applier).unwrap().load().rate, 5);
    assert!(start_or(vec![app(2, "not toml")], Vec::new()).is_err());
    let mut applier = start(vec![app(2, "[limits]\nrate = 0")]);
    assert!(limits(&mut applier).is_err());
}

#[test]
fn without_anything_from_before_a_start_can_do_without_the_store() {
    let own = || document(Layer::Defaults, "defaults", 0, "[limits]\nrate = 4");
    for bad in ["not toml", "[limits]\nrate = 0"] {
        // A last good configuration that is refused too is passed over.
        for fallbacks in [
            vec![vec![]],
            vec![vec![app(1, "[limits]\nrate = 0")], vec![]],
        ] {
            let mut applier = start_or(vec![own(), app(2, bad)], fallbacks).unwrap();
            assert_eq!(limits(&mut applier).unwrap().load().rate, 4);
            applier.confirm();
            let Outcome::Rejected(_) = outcome(&applier, "user/main") else {
                panic!("{bad} is not rejected");
            };
            // The same again is still refused.
            assert!(!applier.apply(Source::Store, vec![app(2, bad)]));
            assert!(matches!(
                outcome(&applier, "user/main"),
                Outcome::Rejected(_)
            ));
            // What was read at the start is what held then, not what was refused.
            assert!(applier.apply(Source::Store, vec![app(3, "[limits]\nrate = 7")]));
            assert_eq!(outcome(&applier, "user/main"), Outcome::RestartRequired);
            assert!(applier.apply(Source::Store, vec![app(4, "[limits]\nrate = 4")]));
            assert_eq!(outcome(&applier, "user/main"), Outcome::Applied);
        }
    }
}

#[test]
fn what_is_sealed_is_opened_where_it_holds_and_masked_where_it_is_shown() {
    use crate::config::{DocumentName, Keyring};

    let keys = Keyring::parse(&Keyring::draw()).unwrap();
    let name = DocumentName::new("prod", "user", "main").unwrap();
    let seal = |path: &str, secret: &str| keys.seal(&name, path, secret).unwrap();
    let text = |rate: &str| {
        let (password, rate) = (seal("password", "a${b}"), seal("limits.rate", rate));
        format!(
            "url = 'db://u:${{password}}@h'\npassword = '{password}'\n[limits]\nrate = '{rate}'"
        )
    };
    let opener = Opener {
        keys: keys.clone(),
        ns: "prod".to_owned(),
    };
    let mut applier =
        Applier::start(vec![app(1, &text("5"))], Vec::new(), Vec::new(), opener).unwrap();
    let watched = limits(&mut applier).unwrap();
    assert_eq!(watched.load().rate, 5);
    let at =
        |applier: &Applier, path: &str| tree::lookup(&applier.current.load().tree, path).cloned();
    assert_eq!(at(&applier, "url"), Some(json!("db://u:a${b}@h")));
    let shown = applier.current.load().documents.explain("");
    assert!(
        shown[0].value["password"]
            .as_str()
            .unwrap()
            .ends_with(":***")
    );
    // Sealed again, it is the same value, which nobody has to hear of.
    assert!(applier.apply(Source::Store, vec![app(2, &text("5"))]));
    assert_eq!(tell(&mut applier), 0);
    assert!(applier.apply(Source::Store, vec![app(3, &text("6"))]));
    assert_eq!((watched.load().rate, tell(&mut applier)), (6, 1));
    // What does not open, or opens to something that is refused, changes nothing; the error quotes neither.
    let moved = seal("elsewhere", "7");
    for (bad, reason) in [
        (format!("[limits]\nrate = '{moved}'"), "CONFIG_SEALED"),
        (
            "[limits]\nrate = 'enc:v1:x:AA=='".to_owned(),
            "CONFIG_SEALED",
        ),
        (text("hunter2"), "CONFIG_INVALID"),
    ] {
        assert!(!applier.apply(Source::Store, vec![app(4, &bad)]), "{bad}");
        let Outcome::Rejected(error) = outcome(&applier, "user/main") else {
            panic!("{bad} is not rejected");
        };
        assert_eq!(error.reason(), reason, "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(watched.load().rate, 6);
    }
    // The last good configuration is the document, so it stays sealed on disk.
    let kept = applier.proved().unwrap();
    assert!(!String::from_utf8_lossy(&kept[0].bytes).contains("a${b}"));
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
