//! Compiles `proto/` with protox: no protoc on the machine is needed.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use prost::Message;
use prost_types::FileDescriptorSet;

const FILES: [&str; 10] = [
    "catena/user.proto",
    "etcd/auth.proto",
    "etcd/election.proto",
    "etcd/health.proto",
    "etcd/kv.proto",
    "etcd/lease.proto",
    "etcd/lock.proto",
    "etcd/rpc.proto",
    "example/user.proto",
    "raft/peer.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(FILES, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("services.bin"), described(&descriptors))?;
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".mvccpb.KeyValue", "crate::KeyValue")
        .extern_path(".mvccpb.Event", "crate::Event")
        .compile_fds(descriptors)?;
    rename_urls(&out)?;
    Ok(())
}

/// What reflection tells of the services: their files, which import nothing.
fn described(all: &FileDescriptorSet) -> Vec<u8> {
    let of_services = |package: &str| package == "example" || package.starts_with("catena.user.");
    let files = all.file.iter();
    let file = files
        .filter(|file| of_services(file.package()))
        .cloned()
        .collect();
    FileDescriptorSet { file }.encode_to_vec()
}

/// prost turns the field `peerURLs` into `peer_ur_ls`; the field keeps its name on the wire and gets a readable one here.
fn rename_urls(out: &Path) -> io::Result<()> {
    let file = out.join("etcdserverpb.rs");
    fs::write(&file, fs::read_to_string(&file)?.replace("_ur_ls", "_urls"))
}
