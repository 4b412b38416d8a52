//! RELIABILITY.md names the test that holds each promise: the names must be those of tests.

use std::fs;

use crate::{root, sources::files};

/// Where a name that is no function's may stand: a suite, or a script of the store.
const FOLDERS: [&str; 2] = ["tests", "crates/store/tests/scripts"];

/// The names of tests in the document: in backquotes, in the last cell of a row of a table.
fn names(document: &str) -> Vec<&str> {
    let rows = document.lines().filter_map(|line| line.strip_prefix('|'));
    let cells = rows.filter_map(|row| row.trim_end().trim_end_matches('|').rsplit('|').next());
    let quoted = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let is_name = |word: &&str| {
        word.chars()
            .all(|c| c.is_ascii_lowercase() || "_-".contains(c))
    };
    quoted.filter(is_name).collect()
}

/// Whether a test, a case or a fault has the name.
fn is_test(name: &str, sources: &str) -> bool {
    let forms = [
        format!("fn {name}("),
        format!("\"{name}\""),
        format!("!({name})"),
    ];
    let in_folder = |folder: &&str| root().join(folder).join(name).exists();
    forms.iter().any(|form| sources.contains(form)) || FOLDERS.iter().any(in_folder)
}

#[test]
fn every_promise_names_tests_that_exist() {
    let document = fs::read_to_string(root().join("RELIABILITY.md")).unwrap();
    let sources: String = ["crates", "tests"]
        .iter()
        .flat_map(|folder| files(folder))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let names = names(&document);
    assert!(names.len() > 50, "only {} names are read", names.len());
    let unknown: Vec<_> = names
        .iter()
        .filter(|name| !is_test(name, &sources))
        .collect();
    assert!(unknown.is_empty(), "no tests: {unknown:?}");
}
