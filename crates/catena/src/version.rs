//! What the binary calls itself.

use std::sync::LazyLock;

use catena_server::ETCD_VERSION;

/// The four lines that etcd prints for `--version`; scripts read the version from the first.
pub(crate) fn as_etcd() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: none (Catena {own})\nGo Version: none (Rust)\nGo OS/Arch: {os}/{arch}",
        own = env!("CARGO_PKG_VERSION"),
        os = go_os(),
        arch = go_arch(),
    )
}

/// The lines that etcdutl prints for `version`.
pub(crate) fn as_etcdutl() -> String {
    let mut parts = ETCD_VERSION.rsplitn(2, '.');
    let minor = parts.nth(1).unwrap_or(ETCD_VERSION);
    format!("etcdutl version: {ETCD_VERSION}\nAPI version: {minor}")
}

/// Catena's own version, and etcd's that it stands for.
pub(crate) fn own() -> &'static str {
    static OWN: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{} (compatible with etcd {ETCD_VERSION})",
            env!("CARGO_PKG_VERSION")
        )
    });
    &OWN
}

/// Go's name of the operating system.
fn go_os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    }
}

/// Go's name of the processor.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        arch => arch,
    }
}
