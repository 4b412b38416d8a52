//! Which runs there are: the fixed ones of CI, and those that are drawn by hand.

use framework::Target;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    arguments::Arguments,
    fault::{self, Fault},
    run::Plan,
};

/// The runs of CI: how many members, and which faults one after another. The long ones come first.
const CI: [(usize, &[&str]); 24] = [
    (3, &["replace", "add-and-remove"]),
    (3, &["away-until-snapshot"]),
    (3, &["rolling-restart", "move-leader", "lease-ends"]),
    (3, &["kill-leader", "pause-short"]),
    (3, &["pause-leader", "cpu-share"]),
    (3, &["powercut-one"]),
    (3, &["powercut-all"]),
    (3, &["powercut-slow-fsync"]),
    (3, &["partition-leader", "partition-bridge"]),
    (3, &["partition-oneway", "partition-follower"]),
    (3, &["packet-loss", "packet-twice"]),
    (3, &["slow-line", "link-down", "connections-refused"]),
    (3, &["fsync-fails", "disk-slow"]),
    (3, &["disk-full", "disk-stall"]),
    (3, &["rot-wal", "rot-engine", "rot-snapshot"]),
    (3, &["kill-all", "defragment", "compact-often"]),
    (3, &["clock-jump", "restart-loop"]),
    (3, &["lying-disk"]),
    (1, &["powercut-slow-fsync"]),
    (1, &["powercut-all", "disk-full"]),
    (1, &["lying-disk"]),
    (1, &["fsync-fails", "rot-engine"]),
    (1, &["rot-wal", "restart-loop", "clock-jump"]),
    (
        1,
        &["kill-all", "pause-leader", "defragment", "compact-often"],
    ),
];

/// Most faults of a run that is drawn.
const FAULTS_MAX: usize = 3;

/// The runs of CI.
pub(crate) fn ci() -> Vec<Plan> {
    let plan = |(number, (members, names)): (usize, &(usize, &[&str]))| Plan {
        target: Target::Catena,
        members: *members,
        faults: names
            .iter()
            .map(|name| fault::named(name).expect("the table names faults that exist"))
            .collect(),
        seed: number as u64 + 1,
    };
    CI.iter().enumerate().map(plan).collect()
}

/// The run of this number by hand.
pub(crate) fn by_hand(arguments: &Arguments, number: usize) -> anyhow::Result<Plan> {
    let seed = arguments.seed + number as u64;
    let mut random = StdRng::seed_from_u64(seed);
    let drawn = if random.random_range(0..3) == 0 { 1 } else { 3 };
    let ours = arguments.target.is_catena();
    let (members, faults) = match &arguments.fault {
        Some(name) => {
            let known = fault::all();
            let names: Vec<_> = known.iter().map(|fault| fault.name).collect();
            let fault = fault::named(name)
                .ok_or_else(|| anyhow::anyhow!("no such fault: {name}; there are {names:?}"))?;
            let members = arguments.members.unwrap_or(fault.members_min);
            anyhow::ensure!(
                [1, 3].contains(&members) && fault.fits(members, ours),
                "{name} is no fault of {members} members of {}",
                arguments.target
            );
            (members, vec![fault])
        }
        None => {
            let members = arguments.members.unwrap_or(drawn);
            (members, draw(&mut random, members, ours))
        }
    };
    Ok(Plan {
        target: arguments.target,
        members,
        faults,
        seed,
    })
}

/// Faults that can share a stand.
fn draw(random: &mut StdRng, members: usize, ours: bool) -> Vec<Fault> {
    let fitting: Vec<_> = fault::all()
        .into_iter()
        .filter(|fault| fault.fits(members, ours) && !fault.loses)
        .collect();
    let first = *fitting
        .choose(random)
        .expect("there are faults for one member");
    let mut faults = vec![first];
    let beside: Vec<_> = fitting
        .iter()
        .filter(|fault| fault.name != first.name && fault.goes_with(&first))
        .collect();
    for _ in 1..random.random_range(1..=FAULTS_MAX) {
        faults.extend(beside.choose(random).map(|fault| **fault));
    }
    faults
}
