//! Compiles `proto/` with protox: no protoc on the machine is needed.

use std::{env, fs, io, path::Path};

const FILES: [&str; 8] = [
    "etcd/auth.proto",
    "etcd/election.proto",
    "etcd/health.proto",
    "etcd/kv.proto",
    "etcd/lease.proto",
    "etcd/lock.proto",
    "etcd/rpc.proto",
    "raft/peer.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(FILES, [&root])?;
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".mvccpb.KeyValue", "crate::KeyValue")
        .extern_path(".mvccpb.Event", "crate::Event")
        .compile_fds(descriptors)?;
    rename_urls(Path::new(&env::var("OUT_DIR")?))?;
    Ok(())
}

/// prost turns the field `peerURLs` into `peer_ur_ls`; the field keeps its name on the wire and gets a readable one here.
fn rename_urls(out: &Path) -> io::Result<()> {
    let file = out.join("etcdserverpb.rs");
    fs::write(&file, fs::read_to_string(&file)?.replace("_ur_ls", "_urls"))
}
