//! openraft's own suite of what log and state machine must do, on our log and on each engine.

use std::{path::Path, sync::Arc, time::Duration};

use catena_runtime::{Runtime, Task};
use catena_store::{
    Store,
    backend::{self, Backend, Engine},
};
use catena_wal::Wal;
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
    type_config::TypeConfigExt,
};
use tokio::sync::mpsc;

use crate::{
    log::Log,
    machine::{LogBounds, LogMeter, Machine, Parts, StateMachine, Work},
    observer::Blind,
    pace::Pace,
    stop::StopCell,
    transport::AddressBook,
    types::Prod,
};

struct Builder {
    engine: Engine,
}

/// Dropped after each case.
struct Guard {
    _commit: Task,
    _dir: tempfile::TempDir,
}

impl StoreBuilder<Prod, Log, StateMachine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, Log, StateMachine), StorageError<Prod>> {
        let runtime = Runtime::system();
        let dir = tempfile::tempdir().unwrap();
        let made = make(&runtime, dir.path(), self.engine);
        let commit = made.machine.clone().commit_loop(made.work);
        let guard = Guard {
            _commit: runtime.tasks.spawn("commit", Box::pin(commit)),
            _dir: dir,
        };
        let pace = Pace::new(runtime.clock.clone(), 16 << 20, 256 << 20);
        let log = Log::new(
            runtime,
            made.wal,
            made.machine.sole.clone(),
            Arc::new(pace),
            Arc::new(Blind),
        );
        Ok((guard, log, StateMachine::new(made.machine)))
    }
}

/// What a member that stores is made of.
pub(crate) struct Made {
    pub(crate) wal: Wal,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) machine: Arc<Machine>,
    /// For the task that commits, which does not run yet.
    pub(crate) work: mpsc::Receiver<Work>,
}

/// Makes log and state machine in an empty directory.
pub(crate) fn make(runtime: &Runtime, dir: &Path, engine: Engine) -> Made {
    let options = catena_wal::Options {
        segment_bytes: 1 << 20,
        ..Default::default()
    };
    let (wal, _) = Wal::open(runtime, &dir.join("wal"), options).unwrap();
    let snap_dir = dir.join("snap");
    let backend = backend::open(engine, &runtime.disk, &snap_dir).unwrap();
    let bounds = LogBounds {
        proposals_max: u64::MAX,
        bytes_max: u64::MAX,
        proposals_keep: u64::MAX,
    };
    let (machine, work) = Machine::new(Parts {
        runtime: runtime.clone(),
        wal: wal.clone(),
        store: Store::open(backend.clone(), Default::default()).unwrap(),
        stop: StopCell::new(),
        member_id: 0,
        addresses: AddressBook::default(),
        meter: LogMeter::new(bounds, 0),
        engine,
        backend: backend.clone(),
        snap_dir,
        compaction_pause: Duration::ZERO,
        observer: Arc::new(Blind),
    })
    .unwrap();
    Made {
        wal,
        backend,
        machine,
        work,
    }
}

fn run(engine: Engine) {
    Prod::run(async move {
        Suite::<Prod, Log, StateMachine, Builder, Guard>::test_all(Builder { engine })
            .await
            .unwrap();
    });
}

#[test]
fn memory_passes() {
    run(Engine::Memory);
}

#[test]
fn redb_passes() {
    run(Engine::Redb);
}

#[test]
fn sled_passes() {
    run(Engine::Sled);
}
