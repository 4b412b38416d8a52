//! Scenarios alone.

use anyhow::Result;
use clap::{Args, ValueEnum};
use tokio::runtime::Runtime;

use crate::{
    rounds::Contender,
    scenario::{Scenario, Scene},
    subject::Subject,
};

/// Scenarios of one store.
#[derive(Args, Debug)]
pub(crate) struct Scenarios {
    /// Which; all without it.
    scenarios: Vec<Scenario>,
    /// Whose servers.
    #[arg(long, default_value = "catena")]
    target: Subject,
}

impl Scenarios {
    /// Runs them, printing what they find.
    pub(crate) fn run(self) -> Result<()> {
        let runtime = Runtime::new()?;
        let contender = Contender::own(self.target)?;
        let chosen = match &self.scenarios[..] {
            [] => Scenario::value_variants(),
            some => some,
        };
        Scene::new(&runtime, contender).run(chosen)?;
        Ok(())
    }
}
