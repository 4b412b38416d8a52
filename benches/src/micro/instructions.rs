//! Instructions, counted by callgrind.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::Piece;

/// Enough that what happens once in a while has its share, few enough for an emulator.
const TIMES: u64 = 4096;
/// The function in which instructions are counted, however its name is mangled.
const COUNTED: &str = "--toggle-collect=*micro*measured*";
/// What stands before the count.
const MARK: &str = "Collected :";

/// Instructions for one time of a piece; `None` if there is no valgrind here.
pub(crate) fn instructions(piece: Piece) -> Result<Option<f64>> {
    let name = piece.to_possible_value().context("it has a name")?;
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            COUNTED,
        ])
        .arg(std::env::current_exe()?)
        .args(["micro", "--only", name.get_name()])
        .args(["--times", &TIMES.to_string()])
        .stdin(Stdio::null());
    let output = match valgrind.output() {
        Ok(output) => output,
        Err(_) => return Ok(None),
    };
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed:\n{told}");
    let times: u64 = String::from_utf8(output.stdout)?.trim().parse()?;
    let counted = counted(&told).context("valgrind tells no count")?;
    Ok(Some(counted as f64 / times as f64))
}

/// The count among what callgrind says.
fn counted(told: &str) -> Option<u64> {
    let line = told.lines().find_map(|line| line.split_once(MARK))?.1;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found() {
        let told = "==7== Events    : Ir\n==7== Collected : 123456\n==7==\n";
        assert_eq!(counted(told), Some(123_456));
        assert_eq!(counted("nothing"), None);
    }
}
