//! Rules that the sources must keep and that no lint knows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::root;

/// A source file without its tests and comments.
struct Source {
    /// From the root of the workspace.
    path: String,
    lines: Vec<(usize, String)>,
}

/// Every Rust file below `folder`, tests included.
pub(crate) fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The files whose whole content is a test, by the names that they have here.
fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_string_lossy();
    let in_tests = path.components().any(|part| part.as_os_str() == "tests");
    in_tests
        || name == "tests"
        || name == "suite"
        || name.ends_with("_test")
        || name.ends_with("_tests")
}

/// The production code below `folder`: a test module stands last in its file.
fn production(folder: &str) -> Vec<Source> {
    let root = root();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = code
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(number, line)| (number + 1, line.to_owned()));
        Source {
            path: path.strip_prefix(&root).unwrap().display().to_string(),
            lines: lines.collect(),
        }
    };
    let below = files(folder).into_iter();
    below
        .filter(|path| !is_test(path.strip_prefix(&root).unwrap()))
        .map(read)
        .collect()
}

/// Every place where one of `words` stands in production code below `folder`.
fn places(folder: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in production(folder) {
        for (number, line) in &source.lines {
            for word in words.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    found
}

/// What must go through `runtime`, so that a simulation can stand in its place.
const OUTSIDE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "fs::File::",
    "fs::read",
    "fs::write",
    "fs::remove",
    "fs::rename",
    "fs::create",
    "OpenOptions",
    "tokio::fs",
    "tokio::time",
    "tokio::spawn",
    "task::spawn",
    "thread::spawn",
    "thread::sleep",
    "rand::",
    "TcpStream",
    "TcpListener",
];

/// Files that may reach the outside, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    (
        "crates/store/src/backend/",
        "an engine opens its own files, where the disk is a real one",
    ),
    (
        "crates/raft/src/transport/",
        "sockets of the real network; a simulation brings its own Network",
    ),
];

#[test]
fn the_replicated_part_reaches_the_outside_only_through_runtime() {
    let mut found: Vec<String> = ["crates/wal/src", "crates/store/src", "crates/raft/src"]
        .iter()
        .flat_map(|folder| places(folder, OUTSIDE))
        .collect();
    found.retain(|place| !EXCEPTIONS.iter().any(|(path, _)| place.starts_with(path)));
    assert!(
        found.is_empty(),
        "go through runtime instead:\n{}",
        found.join("\n")
    );
}

#[test]
fn the_exceptions_are_still_needed() {
    for (path, reason) in EXCEPTIONS {
        let needed = !places(path.trim_end_matches('/'), OUTSIDE).is_empty();
        assert!(needed, "{path} needs no exception any more ({reason})");
    }
}

#[test]
fn one_module_names_bincode() {
    let mut found = places("crates", &["bincode::"]);
    found.retain(|place| !place.starts_with("crates/store/src/codec.rs:"));
    assert!(
        found.is_empty(),
        "go through store::codec instead:\n{}",
        found.join("\n")
    );
}

#[test]
fn one_crate_names_openraft() {
    let mut found = places("crates", &["openraft"]);
    found.retain(|place| !place.starts_with("crates/raft/"));
    assert!(
        found.is_empty(),
        "go through raft instead:\n{}",
        found.join("\n")
    );
}

/// The release profile unwinds, so that a request can be answered whose handler panics. All else must still end with the process.
#[test]
fn the_program_begins_with_the_hook_for_panics() {
    let library = fs::read_to_string(root().join("crates/catena/src/lib.rs")).unwrap();
    let (_, main) = library.split_once("pub fn main() -> ExitCode {").unwrap();
    let mut statements = main.lines().map(str::trim);
    let first = statements.find(|line| !line.is_empty() && !line.starts_with("//"));
    assert_eq!(first, Some("catena_telemetry::panic::install_hook();"));
}

#[test]
fn no_test_is_switched_off() {
    // In two parts, so that this file does not find itself.
    let mark = ["#[", "ignore"].concat();
    for path in ["crates", "tests", "benches"].into_iter().flat_map(files) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&mark), "{} ignores a test", path.display());
    }
}

/// A file longer than this is more than one idea.
const LINES_MAX: usize = 600;

#[test]
fn files_are_of_a_length_that_can_be_read() {
    for source in production("crates")
        .into_iter()
        .chain(production("benches"))
    {
        let length = source.lines.len();
        assert!(length <= LINES_MAX, "{} has {length} lines", source.path);
    }
}
