//! `catena up` and `catena dev`.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::Command,
};

use crate::{Running, catena, free_port, free_row, output, runs, signal, stderr, wait_until};

fn up(data_dir: &Path, port: u16) -> Command {
    let [http, grpc] = [(); 2].map(|()| free_row().to_string());
    let mut command = catena();
    command
        .args(["up", "--first-port", &port.to_string()])
        .args(["--http-port", &http, "--grpc-port", &grpc, "--data-dir"])
        .arg(data_dir);
    command
}

/// The process id in `infra1 is ready (pid 1234, after 0.1 s)`.
fn pid_in(line: &str) -> u32 {
    let (_, rest) = line.split_once("(pid ").unwrap();
    rest.split(',').next().unwrap().parse().unwrap()
}

/// Waits until all three members are ready; their process ids.
fn all_ready(running: &mut Running) -> Vec<u32> {
    running.wait_for("All members are ready");
    let ready = running
        .seen
        .iter()
        .filter(|line| line.contains("is ready (pid"));
    ready.map(|line| pid_in(line)).collect()
}

#[test]
fn a_cluster_survives_the_death_of_a_member_and_continues_with_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let port = free_port();
    let mut running = Running::start(&mut up(&data, port));
    let pids = all_ready(&mut running);
    assert_eq!(pids.len(), 3);
    running.wait_for(&format!("etcdctl --endpoints=127.0.0.1:{port},"));

    signal(pids[1], "KILL");
    let line = running.wait_for("died (signal: 9");
    let name = line.split(' ').next().unwrap().to_owned();
    let again = pid_in(&running.wait_for(&format!("{name} is ready (pid")));
    assert_ne!(again, pids[1]);

    running.signal("INT");
    running.wait_for("the cluster is stopped");
    assert_eq!(running.wait().code(), Some(0));
    assert!(![again, pids[0], pids[2]].into_iter().any(runs));

    let mut running = Running::start(&mut up(&data, port));
    running.wait_for("continuing 3 members");
    all_ready(&mut running);
    running.signal("TERM");
    assert_eq!(running.wait().code(), Some(0));
    for name in ["infra1", "infra2", "infra3"] {
        assert!(data.join(format!("{name}.etcd")).is_dir());
        assert!(data.join(format!("{name}.log")).is_file());
    }
}

#[test]
fn a_member_that_cannot_start_says_why_on_the_console() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let port = free_port();
    let mut running = Running::start(up(&data, port).args(["--members", "1"]));
    running.wait_for("All members are ready");
    running.signal("INT");
    assert_eq!(running.wait().code(), Some(0));

    fs::write(data.join("infra1.etcd/member/identity"), "damaged").unwrap();
    let mut running = Running::start(&mut up(&data, port));
    running.wait_for("infra1 died (exit status: 1)");
    let line = running.wait_for("its last error: ");
    assert!(line.contains("failed to start: "), "{line}");
}

#[test]
fn no_member_outlives_a_killed_supervisor() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Running::start(&mut up(&dir.path().join("data"), free_port()));
    let pids = all_ready(&mut running);
    running.signal("KILL");
    running.wait();
    wait_until("the members end", || !pids.iter().any(|pid| runs(*pid)));
}

#[test]
fn ports_in_use_are_named_and_nothing_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let port = free_port();
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port + 20_000)).unwrap();
    let refused = output(&mut up(&data, port));
    assert_eq!(refused.status.code(), Some(1));
    let told = stderr(&refused);
    assert!(
        told.contains(&format!(
            "port {} (infra2, clients) is in use",
            port + 20_000
        )),
        "{told}"
    );
    assert!(told.contains("nothing was started"), "{told}");
    assert!(!data.exists());
}

#[test]
fn wrong_numbers_of_members_are_refused() {
    for number in ["0", "8", "three"] {
        let refused = output(catena().args(["up", "--members", number]));
        assert_eq!(refused.status.code(), Some(2), "{number}");
    }
}

#[test]
fn variables_of_the_user_do_not_reach_the_members() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = up(&dir.path().join("data"), free_port());
    let mut running = Running::start(command.args(["--members", "1"]).env("ETCD_NAME", "other"));
    running.wait_for("All members are ready");
}

#[test]
fn a_dev_member_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let (client, peer) = (port.to_string(), (port + 1).to_string());
    let [http, grpc] = [(); 2].map(|()| free_row().to_string());
    let mut command = catena();
    command
        .args(["dev", "--client-port", &client, "--peer-port", &peer])
        .args(["--http-port", &http, "--grpc-port", &grpc])
        .env("TMPDIR", dir.path());
    let mut running = Running::start(&mut command);
    running.wait_for("dev is ready on http://127.0.0.1:");
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    running.signal("TERM");
    assert_eq!(running.wait().code(), Some(0));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
