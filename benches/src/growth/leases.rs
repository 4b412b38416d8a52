//! Many leases.

use anyhow::Result;

use super::{
    Stage,
    beside::{Putting, With, beside},
    cost::{self, Cost},
    grouped,
};
use crate::load::{Load, Stop, grants, renewals};

/// Clients that grant and renew.
const CLIENTS: usize = 64;

/// Two members: one has the leases all the time.
pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let count = stage.sizes.leases;
    let length = stage.sizes.length();
    let mut members = [Putting::start(stage)?, Putting::start(stage)?];
    let title = format!("{} leases", grouped(count));
    stage.progress(&title);
    let Putting {
        addresses, servers, ..
    } = &members[With::It as usize];
    let before = servers.rss_bytes()?;
    let (mut granting, ids) = grants(count)?;
    let load = Load::closed(CLIENTS, Stop::Answers(count as u64));
    let granted = cost::good(load.run(&mut granting, addresses, servers)?)?;
    cost::found(stage, "grant", &[Cost::of(&granted)]);
    servers.settle()?;
    let memory = servers.rss_bytes()?.saturating_sub(before) as f64 / count as f64;
    stage.found("RSS per lease", "bytes", memory);

    // As many leases as clients on the member that has no others, against all of them on the one that has.
    let Putting {
        addresses: few_addresses,
        servers: few_servers,
        ..
    } = &members[With::Nothing as usize];
    let (mut granting, few_ids) = grants(CLIENTS)?;
    let load = Load::closed(CLIENTS, Stop::Answers(CLIENTS as u64));
    cost::good(load.run(&mut granting, few_addresses, few_servers)?)?;
    let mut few = renewals(few_ids, CLIENTS);
    let mut all = renewals(ids, CLIENTS);
    let (mut of_few, mut of_all) = (Vec::new(), Vec::new());
    for _ in 0..stage.sizes.rounds {
        of_few.push(Cost::measure(length, &mut few, few_addresses, few_servers)?);
        of_all.push(Cost::measure(length, &mut all, addresses, servers)?);
    }
    cost::found(stage, &format!("keepalive of {title}"), &of_all);
    let what = format!("keepalive of {title}, to one of {CLIENTS}");
    cost::ratios(stage, &what, &of_all, &of_few, None);

    beside(stage, &title, |_, state| members[state as usize].cost())?;
    stage.remark("leases without keys, of ten hours; puts with them go to one member, puts without to another of the same kind, which stands beside it");
    Ok(())
}
