//! Command lines, variables and files: what is printed and with which code the program ends.

use std::fs;

use crate::{catena, output, stderr, stdout, under_name};

#[test]
fn the_version_is_told_in_etcds_four_lines() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = dir.path().join("etcd");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_catena"), &etcd).unwrap();
    let as_etcd = stdout(&output(under_name(&etcd).arg("--version")));
    let lines: Vec<&str> = as_etcd.lines().collect();
    assert_eq!(lines.len(), 4, "{as_etcd}");
    assert_eq!(lines[0], "etcd Version: 3.7.1");
    assert!(
        lines[1].starts_with("Git SHA: ") && lines[1].contains("Catena "),
        "{as_etcd}"
    );
    assert!(lines[2].starts_with("Go Version: "), "{as_etcd}");
    assert!(lines[3].starts_with("Go OS/Arch: "), "{as_etcd}");
    assert_eq!(
        stdout(&output(catena().args(["server", "-version"]))),
        as_etcd
    );
    let own = stdout(&output(catena().arg("version")));
    assert!(
        own.starts_with("catena ") && own.contains("etcd 3.7.1"),
        "{own}"
    );
    assert_eq!(stdout(&output(catena().arg("--version"))), own);
}

#[test]
fn help_goes_to_stdout_and_ends_well() {
    for flag in ["-h", "--help"] {
        let shown = output(catena().args(["server", flag]));
        assert_eq!(shown.status.code(), Some(0));
        assert!(stdout(&shown).contains("--initial-cluster-token 'etcd-cluster'"));
    }
}

#[test]
fn an_unknown_flag_names_the_nearest_and_exits_with_2() {
    let refused = output(catena().args(["server", "--listen-client-url", "http://127.0.0.1:1"]));
    assert_eq!(refused.status.code(), Some(2));
    let expected =
        "flag provided but not defined: -listen-client-url (did you mean --listen-client-urls?)";
    assert!(
        stderr(&refused).starts_with(expected),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn wrong_values_exit_with_2_and_stray_arguments_with_1() {
    let wrong = output(catena().args(["server", "--election-timeout", "soon"]));
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        stderr(&wrong).contains("invalid value \"soon\" for flag -election-timeout: parse error")
    );
    let stray = output(catena().args(["server", "start"]));
    assert_eq!(stray.status.code(), Some(1));
    assert!(
        stderr(&stray).contains("\\\"start\\\" is not a valid flag"),
        "{}",
        stderr(&stray)
    );
}

#[test]
fn what_is_not_built_refuses_to_start_and_names_itself() {
    let dir = tempfile::tempdir().unwrap();
    for flag in [
        "--cert-file=a.pem",
        "--force-new-cluster",
        "--wal-dir=w",
        "--auth-token=jwt",
        "--discovery-srv=x",
    ] {
        let refused = output(catena().args(["server", flag]).current_dir(dir.path()));
        assert_eq!(refused.status.code(), Some(1), "{flag}");
        let name = flag.split('=').next().unwrap();
        let line = stderr(&refused).lines().last().unwrap().to_owned();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["level"], "error");
        assert_eq!(line["msg"], "failed to verify flags");
        let error = line["error"].as_str().unwrap();
        assert!(
            error.starts_with(&format!("{name} is refused: ")),
            "{error}"
        );
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_variable_beside_its_flag_is_fatal() {
    let refused = output(
        catena()
            .args(["server", "--name", "a"])
            .env("ETCD_NAME", "b"),
    );
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("conflicting environment variable is shadowed"));
}

#[test]
fn a_configuration_file_is_read_and_named_when_it_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catena.yml");
    fs::write(
        &path,
        "name: a\nelection-timeout: 100\nheartbeat-interval: 100\n",
    )
    .unwrap();
    // The flag and the variable are ignored beside a file.
    let refused = output(
        catena()
            .args(["server", "--heartbeat-interval=0", "--config-file"])
            .arg(&path)
            .env("ETCD_ELECTION_TIMEOUT", "0"),
    );
    assert_eq!(refused.status.code(), Some(1));
    let told =
        "--election-timeout[100ms] should be at least as 5 times as --heartbeat-interval[100ms]";
    assert!(stderr(&refused).contains(told), "{}", stderr(&refused));
    fs::write(&path, "heartbeat-interval: often\n").unwrap();
    let refused = output(catena().arg("server").env("ETCD_CONFIG_FILE", &path));
    assert_eq!(refused.status.code(), Some(1));
    let told = stderr(&refused);
    assert!(
        told.contains("catena.yml") && told.contains("heartbeat-interval"),
        "{told}"
    );
}

#[test]
fn a_new_member_that_its_cluster_does_not_list_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = "--initial-cluster=b=http://127.0.0.1:2380";
    let refused = output(
        catena()
            .args(["server", "--name=a", cluster])
            .current_dir(dir.path()),
    );
    assert_eq!(refused.status.code(), Some(1));
    let told = "couldn't find local name \\\"a\\\" in the initial cluster configuration";
    assert!(stderr(&refused).contains(told), "{}", stderr(&refused));
}
