//! What is in a snapshot file, in etcdutl's formats.

use std::path::Path;

use anyhow::Result;
use catena_store::bbolt::{Digest, Reader, Status};

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Simple,
    Json,
    Table,
    Fields,
}

impl Format {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "simple" => Self::Simple,
            "json" => Self::Json,
            "table" => Self::Table,
            "fields" => Self::Fields,
            _ => return None,
        })
    }
}

/// Checks the file and prints what it holds. As in etcdutl its SHA-256 is not looked at: a database file has none.
pub(super) fn print(path: &Path, format: Format) -> Result<()> {
    let reader = Reader::open(super::open(path)?, Digest::Skipped)?;
    crate::print(&text(&reader.status()?, format));
    Ok(())
}

fn text(status: &Status, format: Format) -> String {
    let version = status.version.clone();
    let (hash, revision) = (status.hash, status.revision);
    let (keys, bytes) = (status.total_keys, status.total_bytes);
    match format {
        Format::Simple => format!(
            "{hash:x}, {revision}, {keys}, {}, {version}",
            humanized(bytes)
        ),
        Format::Json => format!(
            "{{\"hash\":{hash},\"revision\":{revision},\"totalKey\":{keys},\"totalSize\":{bytes},\"version\":\"{version}\"}}"
        ),
        Format::Fields => format!(
            "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {keys}\n\"Size\" : {bytes}\n\"Version\" : {version}"
        ),
        Format::Table => table(&[
            ("HASH", format!("{hash:x}")),
            ("REVISION", revision.to_string()),
            ("TOTAL KEYS", keys.to_string()),
            ("TOTAL SIZE", humanized(bytes)),
            ("VERSION", version),
        ]),
    }
}

/// One row under its titles.
fn table(columns: &[(&str, String)]) -> String {
    let width = |(title, cell): &(&str, String)| title.len().max(cell.len());
    let line = |left: &str, middle: &str, right: &str| {
        let columns: Vec<String> = columns
            .iter()
            .map(|column| "─".repeat(width(column) + 2))
            .collect();
        format!("{left}{}{right}", columns.join(middle))
    };
    let titles: Vec<String> = columns
        .iter()
        .map(|column| format!(" {:^1$} ", column.0, width(column)))
        .collect();
    let cells: Vec<String> = columns
        .iter()
        .map(|column| format!(" {:>1$} ", column.1, width(column)))
        .collect();
    [
        line("┌", "┬", "┐"),
        format!("│{}│", titles.join("│")),
        line("├", "┼", "┤"),
        format!("│{}│", cells.join("│")),
        line("└", "┴", "┘"),
    ]
    .join("\n")
}

/// A size in steps of 1000, with one decimal below 10, as etcdutl prints it.
fn humanized(bytes: u64) -> String {
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        if size < 1000.0 {
            break;
        }
        size /= 1000.0;
        unit = larger;
    }
    let size = (size * 10.0 + 0.5).floor() / 10.0;
    match size < 10.0 {
        true => format!("{size:.1} {unit}"),
        false => format!("{size:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            hash: 970_243_760,
            revision: 6,
            total_keys: 3,
            total_bytes: 20_480,
            version: "3.7.0".to_owned(),
        }
    }

    /// What etcdutl 3.7.1 printed for such a file.
    #[test]
    fn every_format_is_etcdutls() {
        let printed = |format| text(&status(), format);
        assert_eq!(printed(Format::Simple), "39d4beb0, 6, 3, 20 kB, 3.7.0");
        assert_eq!(
            printed(Format::Json),
            r#"{"hash":970243760,"revision":6,"totalKey":3,"totalSize":20480,"version":"3.7.0"}"#
        );
        assert_eq!(
            printed(Format::Fields),
            "\"Hash\" : 970243760\n\"Revision\" : 6\n\"Keys\" : 3\n\"Size\" : 20480\n\"Version\" : 3.7.0"
        );
        assert_eq!(
            printed(Format::Table),
            "┌──────────┬──────────┬────────────┬────────────┬─────────┐\n\
             │   HASH   │ REVISION │ TOTAL KEYS │ TOTAL SIZE │ VERSION │\n\
             ├──────────┼──────────┼────────────┼────────────┼─────────┤\n\
             │ 39d4beb0 │        6 │          3 │      20 kB │   3.7.0 │\n\
             └──────────┴──────────┴────────────┴────────────┴─────────┘"
        );
    }

    #[test]
    fn sizes_are_rounded_as_in_etcdutl() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20_480, "20 kB"),
            (1_550_000, "1.6 MB"),
            (2_147_483_648, "2.1 GB"),
        ] {
            assert_eq!(humanized(bytes), text);
        }
    }
}
