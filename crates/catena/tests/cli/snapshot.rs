//! `etcdutl snapshot …` and `catena restore`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use catena_runtime::{Disk, SystemDisk};
use catena_store::{
    backend::{Bucket, Change, Engine, View},
    bbolt::Writer,
};

use crate::{Running, catena, free_port, output, stderr, stdout, under_name};

/// A snapshot file with the one key `a`, written at revision 2.
fn file(dir: &Path) -> PathBuf {
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let backend = catena_store::backend::open(Engine::Memory, &disk, dir).unwrap();
    let revision = [&2u64.to_be_bytes()[..], b"_", &0u64.to_be_bytes()].concat();
    // KeyValue { key: "a", create_revision: 2, mod_revision: 2, version: 1, value: "1" }
    let record: &[u8] = b"\x0a\x01a\x10\x02\x18\x02\x20\x01\x2a\x011";
    let put = Change::Put(Bucket::Key, revision.into(), record.to_vec().into());
    backend.write(&[put]).unwrap();
    let view: Arc<dyn View> = Arc::from(backend.view().unwrap());
    let path = dir.join("snapshot.db");
    let mut out = std::fs::File::create(&path).unwrap();
    Writer::plan(view).unwrap().write_to(&mut out).unwrap();
    path
}

/// The binary under the name `etcdutl`, with its first words.
fn etcdutl(dir: &Path, words: &[&str]) -> Command {
    let link = dir.join("etcdutl");
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_catena"), &link).unwrap();
    }
    let mut command = under_name(&link);
    command.args(words);
    command
}

#[test]
fn status_tells_what_is_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path());
    let shown = output(etcdutl(dir.path(), &["snapshot", "status", "-w", "json"]).arg(&file));
    let shown: serde_json::Value = serde_json::from_str(&stdout(&shown)).unwrap();
    assert_eq!(
        (&shown["revision"], &shown["totalKey"]),
        (&2.into(), &1.into())
    );
    let table =
        output(etcdutl(dir.path(), &["snapshot", "status", "--write-out=table"]).arg(&file));
    assert!(
        stdout(&table).contains("│ REVISION │"),
        "{}",
        stdout(&table)
    );
}

#[test]
fn what_etcdutl_refuses_is_refused_with_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path());
    let path = file.to_str().unwrap();
    for (words, code, told) in [
        (&["snapshot", "status"][..], 128, "<FILE>"),
        (&["snapshot", "status", "absent"], 1, "absent"),
        (
            &["snapshot", "status", path, "-w", "protobuf"],
            4,
            "not supported as output format",
        ),
        (
            &["snapshot", "restore", path, "--bump-revision=5"],
            128,
            "--mark-compacted required",
        ),
        (
            &["snapshot", "restore", path, "--name=b"],
            1,
            "couldn't find local name \"b\"",
        ),
        (&["snapshot", "restore", path, "--frob"], 1, "--frob"),
    ] {
        let refused = output(etcdutl(dir.path(), words).current_dir(dir.path()));
        assert_eq!(refused.status.code(), Some(code), "{words:?}");
        assert!(
            stderr(&refused).contains(told),
            "{words:?}: {}",
            stderr(&refused)
        );
    }
}

#[test]
fn a_damaged_file_is_refused_and_nothing_is_left_that_would_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let data = dir.path().join("data");
    let refused = output(
        catena()
            .arg("restore")
            .arg(&path)
            .arg("--data-dir")
            .arg(&data),
    );
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("expected sha256"),
        "{}",
        stderr(&refused)
    );
    assert!(!data.join("member").join("identity").exists());
}

#[test]
fn a_member_starts_from_what_was_restored() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path());
    let data = dir.path().join("data");
    let port = free_port();
    let (client, peer) = (
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{}", port + 1),
    );
    let restore = || {
        let mut command = etcdutl(dir.path(), &["snapshot", "restore", "--name=a"]);
        command
            .arg(&file)
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--initial-cluster=a={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"));
        output(&mut command)
    };
    let restored = restore();
    assert_eq!(restored.status.code(), Some(0), "{}", stderr(&restored));
    let again = restore();
    assert_eq!(again.status.code(), Some(1));
    let told = format!(
        "data-dir \"{}\" not empty or could not be read",
        data.display()
    );
    assert!(stderr(&again).contains(&told), "{}", stderr(&again));

    // What the cluster is stands in the directory: nothing of it needs to be said again.
    let mut command = catena();
    command
        .args([
            "server",
            "--name=a",
            "--heartbeat-interval=10",
            "--election-timeout=100",
        ])
        .arg(format!("--data-dir={}", data.display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"));
    let mut running = Running::start(&mut command);
    running.wait_for("server has already been initialized");
    running.wait_for("ready to serve client requests");
}
