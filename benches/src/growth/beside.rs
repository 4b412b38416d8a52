//! Puts without and with something beside them, in turn.

use anyhow::Result;

use super::{
    Goal, Stage,
    cost::{self, Cost},
};

/// What idles must not cost those who do not.
const GOAL: Goal = Goal::AtMost(1.05);

/// Whether the thing is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum With {
    Nothing,
    It,
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
