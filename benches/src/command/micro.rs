//! Micro-benchmarks.

use std::{fs, path::PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use tokio::runtime::Runtime;

use crate::{
    machine::Machine,
    micro::{Piece, instructions, wal},
    report::Spread,
};

/// What each request pays, piece by piece.
#[derive(Args, Debug)]
pub(crate) struct Micro {
    /// Only this piece, once; prints how often it was done. Callgrind is given this.
    #[arg(long, requires = "times", hide = true)]
    only: Option<Piece>,
    /// How often.
    #[arg(long, hide = true)]
    times: Option<u64>,
    /// Where the table goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    output: PathBuf,
}

/// Rounds of each piece.
const ROUNDS: usize = 5;
/// How often a piece is done in a round.
const TIMES: u64 = 200_000;

impl Micro {
    /// Measures all pieces and the log, prints a table of each and writes them to `micro.md`.
    pub(crate) fn run(self) -> Result<()> {
        if let (Some(piece), Some(times)) = (self.only, self.times) {
            println!("{}", piece.run(times)?.0);
            return Ok(());
        }
        let machine = Machine::look()?;
        let mut out = format!(
            "# Micro-benchmarks\n\nCommit {}, {}.\n",
            machine.commit, machine.cpu
        );
        out += &pieces()?;
        out += &Runtime::new()?.block_on(log())?;
        fs::create_dir_all(&self.output)?;
        fs::write(self.output.join("micro.md"), &out)?;
        println!("\n{out}");
        Ok(())
    }
}

/// Time and instructions of each piece.
fn pieces() -> Result<String> {
    let mut out = "\n| piece | ns: middle (lowest–highest) | instructions |\n| --- | --: | --: |\n"
        .to_owned();
    for piece in Piece::value_variants().iter().copied() {
        let mut nanos = Vec::new();
        for _ in 0..ROUNDS {
            let (times, taken) = piece.run(TIMES)?;
            nanos.push(taken.as_secs_f64() * 1e9 / times as f64);
        }
        let counted = instructions(piece)?;
        let counted =
            counted.map_or_else(|| "no valgrind".to_owned(), |count| format!("{count:.0}"));
        let nanos = Spread::of(nanos).map_or_else(String::new, |spread| {
            format!(
                "{:.0} ({:.0}–{:.0})",
                spread.median, spread.low, spread.high
            )
        });
        eprintln!("{}: {nanos} ns, {counted} instructions", piece.title());
        out += &format!("| {} | {nanos} | {counted} |\n", piece.title());
    }
    Ok(out)
}

/// The log beside the bare loop.
async fn log() -> Result<String> {
    let mut out = "\n| batch | log, batches/s | bare append + fdatasync | ratio: middle (lowest–highest) |\n| --- | --: | --: | --: |\n".to_owned();
    for bytes in wal::ENTRIES_BYTES {
        for entries in wal::BATCHES {
            let (mut logs, mut bares, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..wal::ROUNDS {
                let rates = wal::round(entries, bytes).await?;
                logs.push(rates.log);
                bares.push(rates.bare);
                ratios.push(rates.log / rates.bare);
            }
            let middle = |values| Spread::of(values).map_or(0.0, |spread| spread.median);
            let ratio = Spread::of(ratios).map_or_else(String::new, |spread| {
                format!(
                    "{:.2} ({:.2}–{:.2})",
                    spread.median, spread.low, spread.high
                )
            });
            let line = format!(
                "| {entries} × {bytes} B | {:.0} | {:.0} | {ratio} |\n",
                middle(logs),
                middle(bares)
            );
            eprint!("{line}");
            out += &line;
        }
    }
    let reopened = wal::reopen().await?;
    Ok(out
        + &format!(
            "\nA log of 1 GiB is open again after {:.2} s.\n",
            reopened.as_secs_f64()
        ))
}
