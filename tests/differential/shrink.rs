//! Fewer steps that still differ.

use std::time::{Duration, Instant};

use anyhow::Result;
use framework::Target;

use crate::{
    operation::Operation,
    run::{Difference, run},
};

/// Shrinking ends then, with the best that it has: a developer waits for it.
const SHRINK_WITHIN: Duration = Duration::from_secs(180);

/// Leaves out steps while the sides still differ; gives the numbers of those that remain, with their difference.
pub(crate) async fn shrink(
    reference: Target,
    subject: Target,
    operations: &[Operation],
    mut kept: Vec<usize>,
    mut difference: Difference,
) -> Result<(Vec<usize>, Difference)> {
    let end = Instant::now() + SHRINK_WITHIN;
    kept.truncate(difference.place + 1);
    let mut chunk = kept.len() / 2;
    while chunk > 0 && Instant::now() < end {
        let mut start = 0;
        while start < kept.len() && Instant::now() < end {
            let mut fewer = kept.clone();
            fewer.drain(start..(start + chunk).min(kept.len()));
            let steps: Vec<_> = fewer
                .iter()
                .map(|place| operations[*place].clone())
                .collect();
            match run(reference, subject, &steps).await? {
                Some(found) => {
                    fewer.truncate(found.place + 1);
                    (kept, difference) = (fewer, found);
                }
                None => start += chunk,
            }
        }
        chunk /= 2;
    }
    Ok((kept, difference))
}
