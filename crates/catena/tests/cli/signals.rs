//! A member's start and end, as a shell, a service manager and its supervisor see them.

use std::{
    os::unix::{net::UnixDatagram, process::ExitStatusExt},
    path::Path,
    process::{Command, Stdio},
};

use crate::{PATIENCE, Running, catena, free_port};

fn member(data_dir: &Path) -> Command {
    let port = free_port();
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{}", port + 1);
    let mut command = catena();
    command
        .args([
            "server",
            "--name=a",
            "--heartbeat-interval=10",
            "--election-timeout=100",
        ])
        .arg(format!("--data-dir={}", data_dir.display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=a={peer}"));
    command
}

#[test]
fn a_member_ends_by_the_signal_that_stopped_it() {
    for (name, number, word) in [("TERM", 15, "terminated"), ("INT", 2, "interrupt")] {
        let dir = tempfile::tempdir().unwrap();
        let mut running = Running::start(&mut member(&dir.path().join("data")));
        running.wait_for("ready to serve client requests");
        running.signal(name);
        let line = running.wait_for("received signal; shutting down");
        assert!(line.contains(&format!("\"signal\":\"{word}\"")), "{line}");
        assert_eq!(running.wait().signal(), Some(number));
        let errors: Vec<_> = running
            .seen
            .iter()
            .filter(|line| line.contains("\"level\":\"error\""))
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
}

#[test]
fn the_service_manager_is_told_when_the_member_serves_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let running = Running::start(member(&dir.path().join("data")).env("NOTIFY_SOCKET", &path));
    assert_eq!(told(), "READY=1");
    running.signal("TERM");
    assert_eq!(told(), "STOPPING=1");
}

#[test]
fn a_supervised_member_stops_when_its_pipe_closes() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = member(&dir.path().join("data"));
    command.env("CATENA_SUPERVISED", "1").stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(child.stdin.take());
    crate::wait_until("the member ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = member(&dir.path().join("first"));
    let mut running = Running::start(&mut first);
    running.wait_for("ready to serve client requests");
    let mut second = catena();
    second.args(first.get_args()).arg(format!(
        "--data-dir={}",
        dir.path().join("second").display()
    ));
    let refused = crate::output(&mut second);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        crate::stderr(&refused).contains("http://127.0.0.1:"),
        "{}",
        crate::stderr(&refused)
    );
}
