//! What differs from seed to seed: sizes so small that rare things are common, and the rare things themselves.

use std::time::Duration;

use catena_server::ServerConfig;
use framework::mix;

use crate::world::Chance;

/// How the members of one run are configured, and what clients ask of them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Members at the start.
    pub(crate) members: usize,
    pub(crate) heartbeat: Duration,
    pub(crate) election: Duration,
    pub(crate) pre_vote: bool,
    /// Proposals after which the log is cut, and how many stay behind the cut.
    pub(crate) log_proposals: (u64, u64),
    pub(crate) segment_bytes: u64,
    pub(crate) cache_bytes: usize,
    pub(crate) store: catena_store::Options,
    pub(crate) watch_progress_interval: Duration,
    pub(crate) clients: usize,
    /// How long a client waits before it calls the outcome unknown.
    pub(crate) patience: Duration,
    /// Longest pause of a client between two operations.
    pub(crate) think: Duration,
    pub(crate) mix: mix::Settings,
}

impl Settings {
    /// Draws all of them.
    pub(crate) fn draw(chance: &Chance) -> Self {
        let members = *chance.pick(&[1, 3, 3, 3, 3, 5]);
        Self::of(members, chance)
    }

    /// Draws all but the number of members.
    pub(crate) fn of(members: usize, chance: &Chance) -> Self {
        let proposals = *chance.pick(&[5, 20, 100, 1000]);
        let keep = *chance.pick(&[1, proposals / 4, proposals / 2]);
        let millis = |of: &[u64]| Duration::from_millis(*chance.pick(of));
        Self {
            members,
            heartbeat: millis(&[50, 100, 150]),
            election: millis(&[500, 1000, 1500]),
            pre_vote: !chance.once_in(5),
            log_proposals: (proposals, keep.max(1)),
            segment_bytes: *chance.pick(&[2 << 10, 8 << 10, 32 << 10, 1 << 20]),
            cache_bytes: *chance.pick(&[0, 2 << 10, 64 << 10]),
            store: catena_store::Options {
                compaction_batch_limit: *chance.pick(&[1, 5, 1000]),
                history_bytes: *chance.pick(&[0, 1 << 10, 1 << 20]),
                inbox_bytes: *chance.pick(&[256, 4 << 10, 1 << 20]),
                ..catena_store::Options::default()
            },
            watch_progress_interval: millis(&[100, 500, 5000]),
            clients: 3 + chance.below(4) as usize,
            patience: millis(&[1000, 3000, 8000]),
            think: millis(&[40, 100, 200]),
            mix: mix(chance),
        }
    }

    /// What the serving part of a member is told.
    pub(crate) fn server(&self, name: &str) -> ServerConfig {
        let mut config = ServerConfig::new(name, "/data");
        config.advertise_client = vec![format!("http://{name}:2379")];
        config.heartbeat = self.heartbeat;
        config.election = self.election;
        config.watch_progress_interval = self.watch_progress_interval;
        config
    }
}

fn mix(chance: &Chance) -> mix::Settings {
    mix::Settings {
        keys: *chance.pick(&[2, 8, 24]),
        compact: *chance.pick(&[1, 10, 60]),
        compact_behind: *chance.pick(&[0, 3, 50]),
        grant: *chance.pick(&[8, 20]),
        keepalive: *chance.pick(&[10, 60]),
        long_value_bytes: *chance.pick(&[0, 600, 3000]),
        ttl_max: *chance.pick(&[3, 6, 10]),
        ..mix::Settings::default()
    }
}
