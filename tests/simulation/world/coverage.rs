//! What happened to the members of all seeds together: a fault that never happens proves nothing, so it fails the run.

use std::{cell::RefCell, collections::BTreeMap, fmt};

/// Something whose happening is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    // Processes.
    Kill,
    PowerCut,
    ReorderedPowerCut,
    PowerCutOfAll,
    Pause,
    StoppedByDisk,
    // Disks.
    UnsyncedLost,
    TornWrite,
    SectorsReordered,
    NamesLost,
    SyncFailed,
    DiskFull,
    SlowSync,
    DiskStalled,
    Rot,
    EngineRot,
    // Links.
    MessageCut,
    OneWayCut,
    Partition,
    MessageLost,
    MessageResent,
    MessageDuplicated,
    MessageReordered,
    MessageHeld,
    StreamBroken,
    SnapshotDamaged,
    CallTimeout,
    CallUnreachable,
    // What members do about it.
    LeaderChange,
    SnapshotInstalled,
    LogPurged,
    LogRotated,
    MemberAdded,
    MemberPromoted,
    MemberRemoved,
    MemberReplaced,
    LeaderMoved,
    Defragmented,
    // What clients see.
    OutcomeUnknown,
    Refused,
    Compacted,
    LeaseExpired,
    WatchResumed,
    WatchCompacted,
    // The runs themselves.
    OneMember,
    ThreeMembers,
    FiveMembers,
}

/// Each of them: the table has a line for each, and the set of CI must have seen each.
const ALL: [Event; 47] = [
    Event::Kill,
    Event::PowerCut,
    Event::ReorderedPowerCut,
    Event::PowerCutOfAll,
    Event::Pause,
    Event::StoppedByDisk,
    Event::UnsyncedLost,
    Event::TornWrite,
    Event::SectorsReordered,
    Event::NamesLost,
    Event::SyncFailed,
    Event::DiskFull,
    Event::SlowSync,
    Event::DiskStalled,
    Event::Rot,
    Event::EngineRot,
    Event::MessageCut,
    Event::OneWayCut,
    Event::Partition,
    Event::MessageLost,
    Event::MessageResent,
    Event::MessageDuplicated,
    Event::MessageReordered,
    Event::MessageHeld,
    Event::StreamBroken,
    Event::SnapshotDamaged,
    Event::CallTimeout,
    Event::CallUnreachable,
    Event::LeaderChange,
    Event::SnapshotInstalled,
    Event::LogPurged,
    Event::LogRotated,
    Event::MemberAdded,
    Event::MemberPromoted,
    Event::MemberRemoved,
    Event::MemberReplaced,
    Event::LeaderMoved,
    Event::Defragmented,
    Event::OutcomeUnknown,
    Event::Refused,
    Event::Compacted,
    Event::LeaseExpired,
    Event::WatchResumed,
    Event::WatchCompacted,
    Event::OneMember,
    Event::ThreeMembers,
    Event::FiveMembers,
];

/// How often each event happened, and in how many runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage(BTreeMap<Event, Count>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    times: u64,
    runs: u64,
}

impl Coverage {
    /// Adds what another run has.
    pub(crate) fn add(&mut self, other: &Self) {
        for (event, count) in &other.0 {
            let sum = self.0.entry(*event).or_default();
            sum.times += count.times;
            sum.runs += count.runs;
        }
    }

    /// What never happened.
    pub(crate) fn missing(&self) -> Vec<Event> {
        let missing = |event: &Event| !self.0.contains_key(event);
        ALL.into_iter().filter(missing).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {:<18} | {:>9} | {:>5} |", "event", "times", "runs")?;
        writeln!(f, "|{:-<20}|{:-<10}:|{:-<6}:|", "", "", "")?;
        for event in ALL {
            let Count { times, runs } = self.0.get(&event).copied().unwrap_or_default();
            let event = format!("{event:?}");
            writeln!(f, "| {event:<18} | {times:>9} | {runs:>5} |")?;
        }
        Ok(())
    }
}

thread_local! {
    static CURRENT: RefCell<Coverage> = RefCell::default();
}

/// Counts something that happened in this run.
pub(crate) fn covered(event: Event) {
    CURRENT.with_borrow_mut(|coverage| {
        let count = coverage.0.entry(event).or_default();
        count.times += 1;
        count.runs = 1;
    });
}

/// What happened in this thread since the last call.
pub(super) fn take() -> Coverage {
    CURRENT.take()
}
