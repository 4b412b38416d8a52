use super::*;
use crate::run::flags::Given;

fn options(what: &[&str], own: &[(&'static str, &str)]) -> Options {
    let own = own
        .iter()
        .map(|(name, text)| (keys::find(name).unwrap(), (*text).to_owned()));
    Options {
        what: what.iter().map(|what| (*what).to_owned()).collect(),
        given: Given {
            own: own.collect(),
            member: Vec::new(),
        },
    }
}

fn gather(options: &Options, variables: &[(&str, &str)]) -> Result<Values> {
    let pair = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    Values::gather(options, variables.iter().map(pair))
}

fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catena.toml");
    fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (dir, path)
}

fn row(values: &Values, name: &str) -> (String, String) {
    let rows = values.explain();
    let row = rows.into_iter().find(|row| row[0] == name);
    let [_, text, origin] = row.unwrap_or_else(|| panic!("{name} is explained"));
    (text, origin)
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let (_dir, path) = file(
        "services = ['user', 'gateway']\nnamespace = 'file'\n[user]\nlisten = '127.0.0.1:1'\nage-min = 18\n[gateway]\nlisten = '127.0.0.1:2'\n",
    );
    let options = options(&[&path], &[(keys::NAMESPACE, "flag")]);
    let variables = [
        ("CATENA_NAMESPACE", "variable"),
        ("CATENA_USER_LISTEN", "127.0.0.1:3"),
    ];
    let values = gather(&options, &variables).unwrap();
    let settings = values.settings().unwrap();
    assert_eq!(settings.services, [Service::User, Service::Gateway]);
    assert_eq!(settings.namespace, "flag");
    assert_eq!(settings.user.listen, "127.0.0.1:3");
    assert_eq!(settings.user.age_min, 18);
    assert_eq!(settings.gateway_listen, "127.0.0.1:2");
    assert_eq!(settings.user.database, "sqlite:users.db");
    let from = |name| row(&values, name).1;
    assert_eq!(from(keys::NAMESPACE), "--namespace");
    assert_eq!(from(keys::USER_LISTEN), "CATENA_USER_LISTEN");
    assert_eq!(from(keys::USER_AGE_MIN), format!("{path}: user.age-min"));
    assert_eq!(from(keys::USER_DATABASE), "default");
}

#[test]
fn an_embedded_store_is_told_as_a_server_is() {
    let (_dir, path) = file(
        "registry = 'embedded'\n[member]\nname = 'a'\ndata-dir = 'file.etcd'\nelection-timeout = 500\n",
    );
    let mut options = options(&["user", &path], &[]);
    let flag = config::flags::find("heartbeat-interval").unwrap();
    options.given.member = vec![(flag, "20".to_owned())];
    let values = gather(&options, &[("ETCD_DATA_DIR", "variable.etcd")]).unwrap();
    let StoreSettings::Embedded(settings) = values.settings().unwrap().store else {
        panic!("it is embedded");
    };
    assert_eq!(settings.server.name, "a");
    assert_eq!(
        settings.server.data_dir,
        std::path::Path::new("variable.etcd")
    );
    assert_eq!(settings.server.heartbeat, Duration::from_millis(20));
    assert_eq!(
        row(&values, "member.data-dir"),
        ("variable.etcd".to_owned(), "ETCD_DATA_DIR".to_owned())
    );
}

#[test]
fn what_cannot_be_followed_says_what_to_do() {
    let member = |what: &[&str], name: &str| {
        let mut options = options(what, &[]);
        let flag = config::flags::find(name).unwrap();
        options.given.member = vec![(flag, "x".to_owned())];
        options
    };
    for (options, words) in [
        (options(&[], &[]), "nothing to run: say `catena run user`"),
        (
            options(&["order"], &[]),
            "there is no service \"order\": say user, gateway",
        ),
        (member(&["user"], "data-dir"), "--data-dir is for a member"),
        (
            options(
                &["user"],
                &[
                    (keys::REGISTRY, "embedded"),
                    (keys::ENDPOINTS, "http://a:1"),
                ],
            ),
            "--endpoints says where another store is",
        ),
        (
            options(&["user"], &[(keys::ENDPOINTS, "a")]),
            "invalid value \"a\" of --endpoints",
        ),
        (
            options(&["user"], &[(keys::USER_AGE_MIN, "300")]),
            "user.age-min",
        ),
        (options(&["nowhere.toml"], &[]), "cannot read nowhere.toml"),
    ] {
        let error = gather(&options, &[])
            .and_then(|values| values.settings())
            .unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_wrong_line_of_a_file_is_named() {
    for (text, words) in [
        (
            "[user]\nlisen = 'a'\n",
            "there is no setting \"user.lisen\"; did you mean user.listen?",
        ),
        (
            "[member]\nnme = 'a'\n",
            "\"nme\" in [member] is no flag of `catena server`",
        ),
        ("namespace = 1.5\n", "the value of \"namespace\""),
        ("registry = 'zookeeper'\n", "invalid value \"zookeeper\""),
        ("registry\n", "is no TOML"),
    ] {
        let (_dir, path) = file(text);
        let error = gather(&options(&[&path], &[]), &[]).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains(words) && error.contains("catena.toml"),
            "{error}"
        );
    }
}
