//! What a suite does when something that it needs is not on the machine.

use std::{collections::BTreeSet, env, sync::Mutex};

use anyhow::{Result, bail};

use crate::peers::Missing;

/// Whether a test that lacks a peer may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The test is left out; the reason was printed.
    Out,
}

/// Says once, in one line, that tests are left out and why. Fails instead if the environment has `CI=true`: there nothing may be
/// left out.
pub fn leave_out(tests: &str, missing: &Missing) -> Result<Left> {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let line = format!("left out: {tests}: {missing}");
    if env::var("CI").is_ok_and(|value| value == "true") {
        bail!("{line}");
    }
    if SAID.lock().is_ok_and(|mut said| said.insert(line.clone())) {
        eprintln!("{line}");
    }
    Ok(Left::Out)
}
