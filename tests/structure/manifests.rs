//! Rules that the manifests must keep.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::root;

/// Which of our crates a crate may depend on. The binary, the tests and the benchmark may depend on all.
const EDGES: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("runtime", &[]),
    ("wal", &["runtime"]),
    ("telemetry", &[]),
    ("store", &["api", "runtime"]),
    ("client", &["api"]),
    ("registry", &["client"]),
    ("middleware", &["telemetry"]),
    ("raft", &["wal", "store", "api", "runtime"]),
    (
        "server",
        &["raft", "client", "store", "api", "telemetry", "runtime"],
    ),
    (
        "services",
        &["registry", "middleware", "mq", "api", "telemetry"],
    ),
    ("gateway", &["registry", "middleware", "api", "telemetry"]),
];

/// Crates that may depend on any other.
const TOPS: [&str; 3] = ["catena", "tests", "benches"];

/// Libraries that only these crates may name.
const ONLY: &[(&str, &[&str])] = &[
    ("openraft", &["raft", "tests"]),
    ("openraft-rt", &["raft", "tests"]),
    ("openraft-rt-tokio", &["raft"]),
    ("openraft-rt-sim", &["raft", "tests"]),
    ("redb", &["store"]),
    ("sled", &["store"]),
    ("sqlx", &["services", "tests", "benches"]),
    ("anyhow", &["catena", "tests", "benches"]),
    ("clap", &["catena", "benches"]),
];

/// One dependency line of a manifest.
struct Dependency {
    section: String,
    name: String,
    /// What stands behind the name.
    rest: String,
}

/// The dependency lines of a manifest. Ours are written one a line, which is a rule too.
fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if section.ends_with("dependencies") && !line.is_empty() && !line.starts_with('#') {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            found.push(Dependency {
                section: section.clone(),
                name: line[..end].to_owned(),
                rest: line[end..].to_owned(),
            });
        }
    }
    found
}

/// Manifests by folder name.
fn manifests() -> BTreeMap<String, String> {
    let mut folders: Vec<_> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.extend(["tests", "benches"].map(|folder| root().join(folder)));
    let read = |folder: &Path| {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(folder.join("Cargo.toml")).unwrap())
    };
    folders.iter().map(|folder| read(folder)).collect()
}

#[test]
fn crates_depend_only_downwards() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> = EDGES
        .iter()
        .map(|(name, to)| (*name, to.iter().copied().collect()))
        .collect();
    for (name, manifest) in manifests() {
        if TOPS.contains(&name.as_str()) {
            continue;
        }
        let Some(allowed) = allowed.get(name.as_str()) else {
            panic!(
                "crates/{name} is not in the table of edges: add it there and to ARCHITECTURE.md"
            );
        };
        for dependency in dependencies(&manifest) {
            if let Some(to) = dependency.name.strip_prefix("catena-") {
                assert!(allowed.contains(to), "{name} may not depend on {to}");
            }
        }
    }
}

#[test]
fn a_folder_is_a_crate_of_that_name() {
    for (name, manifest) in manifests() {
        let package = match name.as_str() {
            "catena" => "catena".to_owned(),
            name => format!("catena-{name}"),
        };
        assert!(
            manifest.contains(&format!("name = \"{package}\"\n")),
            "the package in {name} is not named {package}"
        );
    }
}

/// A feature that one crate enables makes the build of another one differ from what the tests ran.
#[test]
fn versions_and_features_stand_in_the_workspace_manifest_alone() {
    for (name, manifest) in manifests() {
        for dependency in dependencies(&manifest) {
            assert_eq!(
                dependency.rest, ".workspace = true",
                "{name}, [{}]: {} must be taken over from the workspace as it is",
                dependency.section, dependency.name
            );
        }
        assert!(!manifest.contains("[features]"), "{name} declares features");
    }
}

#[test]
fn every_crate_takes_over_the_workspace_s_lints() {
    for (name, manifest) in manifests() {
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name}");
    }
}

#[test]
fn libraries_stay_behind_their_crate() {
    for (name, manifest) in manifests() {
        for dependency in dependencies(&manifest) {
            if let Some((library, may)) =
                ONLY.iter().find(|(library, _)| *library == dependency.name)
            {
                assert!(
                    may.contains(&name.as_str()),
                    "{name} may not depend on {library}"
                );
            }
        }
    }
}

/// Libraries whose next release is another library, or none.
#[test]
fn pinned_libraries_are_pinned() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for dependency in dependencies(&manifest) {
        let pinned = dependency.name.starts_with("openraft") || dependency.name == "bincode";
        assert!(
            !pinned || dependency.rest.contains("\"="),
            "{} is not pinned",
            dependency.name
        );
    }
}

#[test]
fn the_lock_file_is_there() {
    assert!(root().join("Cargo.lock").is_file());
}

#[test]
fn dependency_lines_are_read() {
    let read: Vec<(String, String)> =
        dependencies("[package]\nname = \"x\"\n[dependencies]\na.workspace = true\n# no\nb = \"1\"\n\n[lints]\nworkspace = true\n")
            .into_iter()
            .map(|dependency| (dependency.name, dependency.rest))
            .collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        read,
        [pair("a", ".workspace = true"), pair("b", " = \"1\"")]
    );
}
