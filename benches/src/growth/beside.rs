//! Puts without and with something beside them, in turn.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use framework::Cluster;

use super::{
    Goal, Stage,
    cost::{self, Cost},
    place::ends,
};
use crate::{
    load::{Op, Workload},
    process::Servers,
    rounds::DATASET,
};

/// What idles must not cost those who do not.
const GOAL: Goal = Goal::AtMost(1.05);

/// Whether the thing is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum With {
    Nothing,
    It,
}

/// A member with the data set, and puts to it.
pub(super) struct Putting {
    _cluster: Cluster,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) servers: Servers,
    puts: Box<dyn Workload>,
    length: Duration,
}

impl Putting {
    /// Starts the member. The first puts take memory of their own, so they are over when this returns.
    pub(super) fn start(stage: &Stage<'_>) -> Result<Self> {
        let cluster = stage.start(1, &[])?;
        let (addresses, servers) = ends(&cluster.members[0])?;
        DATASET.lay(&addresses, &servers)?;
        let mut putting = Self {
            puts: Op::Put.workload(&DATASET, 1, &addresses, &servers)?,
            _cluster: cluster,
            addresses,
            servers,
            length: stage.sizes.length(),
        };
        putting.cost()?;
        putting.servers.settle()?;
        Ok(putting)
    }

    /// What a put costs now.
    pub(super) fn cost(&mut self) -> Result<Cost> {
        let (addresses, servers) = (&self.addresses, &self.servers);
        Cost::measure(self.length, &mut *self.puts, addresses, servers)
    }
}

/// Measures puts in both states, the one that is first in a round being the other in the next; notes what they cost without, and the
/// ratios with it.
pub(super) fn beside(
    stage: &mut Stage<'_>,
    what: &str,
    mut measure: impl FnMut(&mut Stage<'_>, With) -> Result<Cost>,
) -> Result<()> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..stage.sizes.rounds {
        stage.progress(&format!("round {} of {}", round + 1, stage.sizes.rounds));
        let mut order = [With::Nothing, With::It];
        order.rotate_left(round % 2);
        for state in order {
            let cost = measure(stage, state)?;
            match state {
                With::Nothing => without.push(cost),
                With::It => with.push(cost),
            }
        }
    }
    cost::found(stage, "put", &without);
    let what = format!("put with {what}, to one without");
    cost::ratios(stage, &what, &with, &without, Some(GOAL));
    Ok(())
}
