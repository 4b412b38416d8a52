//! Which mutants are tried with all the other tests: others with every commit, so that each has its turn, of those that a crate's own
//! tests convict. Suites and whole clusters take minutes to build and run; what they convict is tried by hand.

use std::{path::Path, process::Command};

use anyhow::Result;
use sha2::{Digest, Sha256};

use crate::{mutant::Mutant, tree};

/// Mutants that are tried.
const PICKED: usize = 4;

/// Those that the commit's id picks; outside a checkout, those that the sources pick.
pub(crate) fn some<'a>(root: &Path, mutants: &'a [Mutant]) -> Result<Vec<&'a Mutant>> {
    let seed = match commit(root) {
        Some(id) => id,
        None => sources(root)?,
    };
    let lot = |mutant: &&Mutant| Sha256::digest([&seed, mutant.number.as_bytes()].concat());
    let mut drawn: Vec<&Mutant> = mutants.iter().collect();
    drawn.sort_by_key(lot);
    drawn.retain(|mutant| mutant.command.is_quick());
    drawn.truncate(PICKED);
    Ok(drawn)
}

fn commit(root: &Path) -> Option<Vec<u8>> {
    let mut git = Command::new("git");
    git.args(["rev-parse", "HEAD"]).current_dir(root);
    let output = git.output().ok()?;
    output.status.success().then_some(output.stdout)
}

fn sources(root: &Path) -> Result<Vec<u8>> {
    let mut hash = Sha256::new();
    for file in tree::files(root)? {
        hash.update(file.to_string_lossy().as_bytes());
        hash.update(std::fs::read(root.join(&file))?);
    }
    Ok(hash.finalize().to_vec())
}
